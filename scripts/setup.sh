#!/usr/bin/env bash
# Installs the programs that `make check` needs and that are missing: make, a C compiler for the
# race detector, the programs of examples/, and the servers and balancers that the tests start.
# It works on Debian and its derivatives, as root or with a sudo that asks for no password.
# Elsewhere it only lists what is missing. The script leaves no server running.
set -euo pipefail

# Each line has a package and a command that succeeds if the package is installed.
needs() {
  cat <<'END'
make                command -v make
gcc                 command -v gcc
libc6-dev           test -e /usr/include/stdio.h
python3             command -v python3
mypy                command -v mypy
nodejs              command -v node
npm                 command -v npm
jq                  command -v jq
ruby                command -v ruby
php-cli             command -v php
perl                perl -MJSON::PP -e 1
lua5.4              command -v lua5.4
lua-cjson           lua5.4 -e 'require("cjson")'
tcl                 command -v tclsh
tcllib              echo 'package require json::write' | tclsh
libjansson-dev      test -e /usr/include/jansson.h
netcat-openbsd      nc -h 2>&1 | grep -q OpenBSD
curl                command -v curl
ca-certificates     test -e /etc/ssl/certs/ca-certificates.crt
nginx-light         PATH=$PATH:/usr/sbin command -v nginx
libnginx-mod-stream ls /usr/lib/nginx/modules/ngx_stream_module.so
rabbitmq-server     test -e /usr/lib/rabbitmq/bin/rabbitmq-server -o -e /usr/lib/rabbitmq/lib
postgresql          ls /usr/lib/postgresql/*/bin/initdb
haproxy             PATH=$PATH:/usr/sbin command -v haproxy
pgbouncer           PATH=$PATH:/usr/sbin command -v pgbouncer
systemd             command -v systemd-analyze
chromium            command -v chromium
fonts-inter         ls /usr/share/fonts/*/inter
fonts-jetbrains-mono ls /usr/share/fonts/truetype/jetbrains-mono
END
}

missing() {
  while read -r package probe; do
    bash -c "$probe" >/dev/null 2>&1 </dev/null || echo "$package"
  done < <(needs)
}

# Debian starts a server when it is installed, unless this file forbids it.
policy=/usr/sbin/policy-rc.d

mapfile -t packages < <(missing)
if [ ${#packages[@]} -eq 0 ]; then
  echo "setup: nothing is missing"
  exit 0
fi

root=()
if [ "$(id -u)" -ne 0 ]; then
  root=(sudo -n)
fi
if ! command -v apt-get >/dev/null || ! "${root[@]}" true 2>/dev/null; then
  echo "setup: missing: ${packages[*]}" >&2
  echo "setup: install them yourself; without them, make check fails and go test skips the tests that need them" >&2
  exit 0
fi

echo "setup: installing ${packages[*]}"
if [ ! -e "$policy" ]; then
  trap '"${root[@]}" rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
  "${root[@]}" chmod 755 "$policy"
fi
"${root[@]}" apt-get update -qq </dev/null
"${root[@]}" env DEBIAN_FRONTEND=noninteractive \
  apt-get install -y -qq --no-install-recommends "${packages[@]}" </dev/null >/dev/null

# Do not start them at the next boot either: the tests start their own.
if [ -d /run/systemd/system ]; then
  for package in "${packages[@]}"; do
    case $package in
      nginx-light) "${root[@]}" systemctl disable --quiet nginx ;;
      postgresql) "${root[@]}" systemctl disable --quiet postgresql ;;
      haproxy) "${root[@]}" systemctl disable --quiet haproxy ;;
      pgbouncer) "${root[@]}" systemctl disable --quiet pgbouncer ;;
      rabbitmq-server) "${root[@]}" systemctl disable --quiet rabbitmq-server ;;
    esac
  done
fi

mapfile -t packages < <(missing)
if [ ${#packages[@]} -gt 0 ]; then
  echo "setup: still missing after the installation: ${packages[*]}" >&2
  exit 1
fi
