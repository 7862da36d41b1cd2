#!/usr/bin/env bash
# Installs the systems that `go run -C lab ./bench durable` and `cluster` compare with Posta, if
# they are missing: beanstalkd, Redis and Celery from Debian's packages (scripts/setup.sh installs
# PostgreSQL and RabbitMQ), and the Go clients of Asynq, River and RabbitMQ in lab/bench/peers.
# `make check` does not need it; the tables omit a system that is missing. The script leaves no
# server running.
set -euo pipefail
cd "$(dirname "$0")/.."

root=()
if [ "$(id -u)" -ne 0 ]; then
  root=(sudo -n)
fi

# Debian starts a server when it is installed, unless this file forbids it.
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
  # Do not start them at the next boot either: the benchmark starts its own.
  if [ -d /run/systemd/system ]; then
    "${root[@]}" systemctl disable --quiet "${servers[@]}"
  fi
fi

# Celery for the Python of the distribution, even if the PATH has another one. The comparison
# also works without Celery.
celery() { /usr/bin/python3 -c 'import celery, psycopg2, sqlalchemy' 2>/dev/null; }
if ! celery; then
  install python3-celery python3-sqlalchemy python3-psycopg2 || true
  celery || echo 'setup-bench: Celery cannot be installed here; it is left out of the tables'
fi

echo 'setup-bench: building the clients of the peers'
"${GO:-go}" build -C lab/bench/peers -o /dev/null .
