#!/usr/bin/env bash
# Installs what `make check` needs and this machine lacks: make, a C compiler for
# the race detector, the clients of examples/, and the balancers that the tests
# start. Works on Debian and its relatives, as root or with a sudo that asks
# nothing; anywhere else it only says what is missing, and the tests that need it
# will say so again. No server that it installs is left running.
set -euo pipefail

# One line a need: the package, then a command that succeeds when it is there.
needs() {
  cat <<'END'
make                command -v make
gcc                 command -v gcc
libc6-dev           test -e /usr/include/stdio.h
python3             command -v python3
nodejs              command -v node
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
END
}

missing() {
  while read -r package probe; do
    bash -c "$probe" >/dev/null 2>&1 </dev/null || echo "$package"
  done < <(needs)
}

# Debian starts a server as soon as it is installed, unless this file says no.
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
  echo "setup: missing here: ${packages[*]}" >&2
  echo "setup: install them by hand; tests that need them fail under make check and are skipped by go test" >&2
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

# Nor shall they start at the next boot: the tests start their own.
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
