# A worker on a pipe: posta up --worker 'python3 worker.py'
import json
import sys


def say(line):
    print(json.dumps(line), flush=True)


say({"id": "w", "op": "work", "actions": ["greet"]})
for line in sys.stdin:
    push = json.loads(line)
    if push.get("status") != "running":
        continue
    try:
        say({"op": "done", "lease": push["lease"], "data": "hello " + push["payload"]["name"]})
    except (KeyError, TypeError):
        say({"op": "fail", "lease": push["lease"], "error": "there is no name", "retry": False})
