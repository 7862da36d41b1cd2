#!/bin/sh
# Tasks from a shell, with nothing but nc (OpenBSD's).
#
#     POSTA_TO=127.0.0.1:9000 sh examples/sh/nc.sh
#
# -N shuts the sending side down after the last task; the replies still come, and
# nc ends when the last one has.
set -eu

to=${POSTA_TO:-127.0.0.1:9000}

nc -N "${to%:*}" "${to##*:}" <<'TASKS'
{"id":"slow","action":"sleep","payload":0.3}
{"id":"fast","action":"upper","payload":"hola"}
TASKS
