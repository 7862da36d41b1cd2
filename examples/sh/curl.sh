#!/bin/sh
# Tasks from a shell over HTTP, with nothing but curl.
#
#     POSTA_TO=127.0.0.1:9000 sh examples/sh/curl.sh
#
# Over HTTP a request carries one task and waits for it.
set -eu

run() {
  curl -sS --max-time 10 "http://${POSTA_TO:-127.0.0.1:9000}/v1/run" \
    -H 'Content-Type: application/json' --data-binary "$1"
}

run '{"id":"slow","action":"sleep","payload":0.3}'
run '{"id":"fast","action":"upper","payload":"hola"}'
