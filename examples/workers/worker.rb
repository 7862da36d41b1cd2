# A worker on a pipe: posta up --worker 'ruby worker.rb'
require "json"

$stdout.sync = true

def say(line) = puts(JSON.generate(line))

say(id: "w", op: "work", actions: ["greet"])
$stdin.each_line do |line|
  push = JSON.parse(line, symbolize_names: true)
  next unless push[:status] == "running"

  case push[:payload]
  in { name: String => name }
    say(op: "done", lease: push[:lease], data: "hello #{name}")
  else
    say(op: "fail", lease: push[:lease], error: "there is no name", retry: false)
  end
end
