#!/usr/bin/env bash
# Installs what `go run -C lab ./bench durable` and `cluster` compare Posta with and this machine
# lacks: beanstalkd, Redis and Celery from Debian's packages (PostgreSQL and RabbitMQ come
# with scripts/setup.sh), and the clients of Asynq, River and RabbitMQ, Go modules of
# lab/bench/peers. No part of `make check`; what is not there is left out of the tables. No
# server that it installs is left running.
set -euo pipefail
cd "$(dirname "$0")/.."

root=()
if [ "$(id -u)" -ne 0 ]; then
  root=(sudo -n)
fi

# Debian starts a server as soon as it is installed, unless this file says no.
policy=/usr/sbin/policy-rc.d

install() {
  echo "setup-bench: installing $*"
  if [ ! -e "$policy" ]; then
    trap '"${root[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
    "${root[@]}" chmod 755 "$policy"
  fi
  "${root[@]}" apt-get update -qq </dev/null &&
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install -y -qq --no-install-recommends "$@" </dev/null >/dev/null
}

servers=()
command -v beanstalkd >/dev/null || servers+=(beanstalkd)
command -v redis-server >/dev/null || servers+=(redis-server)
if [ ${#servers[@]} -gt 0 ]; then
  install "${servers[@]}"
  # Nor shall they start at the next boot: the harness starts its own.
  if [ -d /run/systemd/system ]; then
    "${root[@]}" systemctl disable --quiet "${servers[@]}"
  fi
fi

# Celery, for the Python of the distribution, whatever other one is on the PATH. A
# comparison without it is one all the same.
celery() { /usr/bin/python3 -c 'import celery, psycopg2, sqlalchemy' 2>/dev/null; }
if ! celery; then
  install python3-celery python3-sqlalchemy python3-psycopg2 || true
  celery || echo 'setup-bench: Celery cannot be installed here; it is left out of the tables'
fi

echo 'setup-bench: building the clients of the peers'
"${GO:-go}" build -C lab/bench/peers -o /dev/null .
