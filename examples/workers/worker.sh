#!/bin/sh
# A worker on a pipe: posta up --worker 'sh worker.sh'
# It needs jq, which answers each line that has a task.
echo '{"id":"w","op":"work","actions":["greet"]}'
exec jq --unbuffered -c 'select(.status == "running") |
  if (.payload | type == "object") and (.payload.name | type == "string")
  then {op: "done", lease, data: ("hello " + .payload.name)}
  else {op: "fail", lease, error: "there is no name", retry: false} end'
