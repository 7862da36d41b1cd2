#!/usr/bin/env bash
# Installs what `go run ./bench durable` compares Posta with and this machine lacks:
# beanstalkd and Redis from Debian's packages, and the clients of Asynq and River, Go
# modules of bench/peers. No part of `make check`; what is not there is left out of the
# tables. No server that it installs is left running.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=()
command -v beanstalkd >/dev/null || packages+=(beanstalkd)
command -v redis-server >/dev/null || packages+=(redis-server)

if [ ${#packages[@]} -gt 0 ]; then
  root=()
  if [ "$(id -u)" -ne 0 ]; then
    root=(sudo -n)
  fi
  echo "setup-bench: installing ${packages[*]}"
  # Debian starts a server as soon as it is installed, unless this file says no.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    trap '"${root[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
    "${root[@]}" chmod 755 "$policy"
  fi
  "${root[@]}" apt-get update -qq </dev/null
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${packages[@]}" </dev/null >/dev/null
  # Nor shall they start at the next boot: the harness starts its own.
  if [ -d /run/systemd/system ]; then
    "${root[@]}" systemctl disable --quiet "${packages[@]}"
  fi
fi

echo 'setup-bench: building the clients of the peers'
"${GO:-go}" build -C bench/peers -o /dev/null .
