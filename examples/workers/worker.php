<?php
// A worker on a pipe: posta up --worker 'php worker.php'
function say(array $line): void
{
    fwrite(STDOUT, json_encode($line) . "\n");
}

say(['id' => 'w', 'op' => 'work', 'actions' => ['greet']]);
while (($line = fgets(STDIN)) !== false) {
    $push = json_decode($line, true);
    if ($push['status'] !== 'running') {
        continue;
    }
    $payload = $push['payload'] ?? null;
    if (is_array($payload) && is_string($payload['name'] ?? null)) {
        say(['op' => 'done', 'lease' => $push['lease'], 'data' => 'hello ' . $payload['name']]);
    } else {
        say(['op' => 'fail', 'lease' => $push['lease'], 'error' => 'there is no name', 'retry' => false]);
    }
}
