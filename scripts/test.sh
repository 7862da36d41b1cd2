#!/usr/bin/env bash
# Runs go test ./... and lists the skipped tests, which go test itself does not report.
set -uo pipefail
cd "$(dirname "$0")/.."

mkdir -p build
log=build/test.log
"${GO:-go}" test -v -timeout 120s ./... >"$log" 2>&1
status=$?

if [ "$status" -ne 0 ]; then
  grep -vE '^ *(=== (RUN|PAUSE|CONT)|--- (PASS|SKIP))' "$log"
  exit "$status"
fi
skipped=$(grep -cE '^ *--- SKIP' "$log")
if [ "$skipped" -gt 0 ]; then
  echo "$skipped tests were skipped; make check runs them all:"
  sed -nE 's/^ *--- SKIP: ([^ ]+).*/  \1/p' "$log" | sort
  echo "because:"
  sed -nE 's/^ +[a-z_]+\.go:[0-9]+: (needs .*)/  \1/p' "$log" | sort -u
fi
grep -E '^(ok|FAIL)' "$log"
