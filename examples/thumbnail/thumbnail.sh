#!/bin/sh
# Makes a thumbnail of a picture with the worker beside this file.
#
#     POSTA_TO=127.0.0.1:9000 sh examples/thumbnail/thumbnail.sh PICTURE WIDTH >small.jpg
set -eu

api="http://${POSTA_TO:-127.0.0.1:9000}/v1"
post() {
  curl -sS --fail-with-body --max-time 60 -H 'Content-Type: application/json' "$@"
}

# 1. Upload the payload, which is too large for a line: JSON with the picture in base64.
blob=$(base64 -w 0 "$1" | jq -R --argjson width "$2" '{image: ., width: $width}' | post -T - "$api/blobs" | jq -c .blob)

# 2. Enqueue a task with it. From here on, the task survives every crash.
task=$(jq -nc --argjson blob "$blob" '{action: "thumbnail", payload_blob: $blob}' | post --data-binary @- "$api/tasks" | jq -r .task)

# 3. Wait for its end, and fetch the result.
status=$(post "$api/tasks/$task?wait=30" | jq -r .status)
if [ "$status" != done ]; then
  echo "task $task is $status" >&2
  exit 1
fi
post "$api/tasks/$task/result" | jq -r .data.image | base64 -d
