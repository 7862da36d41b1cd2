#!/usr/bin/env bash
# Runs every fuzz target of the repository, one after the other, for the time
# given (default 30s). Targets are found by name, so a new one needs no entry here.
set -euo pipefail
cd "$(dirname "$0")/.."

go=${GO:-go}
time=${1:-30s}
count=0

while IFS=: read -r file target; do
  echo "fuzz: $target in ./$(dirname "$file") for $time"
  "$go" test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "./$(dirname "$file")" </dev/null
  count=$((count + 1))
done < <(git ls-files -co --exclude-standard '*_test.go' |
  xargs grep -oE '^func Fuzz[A-Za-z0-9_]*' | sed 's/func //' | sort)

if [ "$count" -eq 0 ]; then
  echo "fuzz: found no target, which cannot be right" >&2
  exit 1
fi
