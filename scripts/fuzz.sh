#!/usr/bin/env bash
# Runs every fuzz target of the repository, one after another, for a time (default 30s) or a
# number of executions (20000x). The script finds the targets by name.
#
# CI uses a number: when a time runs out, go test may report the interrupted execution as
# failed ("context deadline exceeded") although the target is correct. With a time, this
# failure, and no other one, is tried again.
set -euo pipefail
cd "$(dirname "$0")/.."

go=${GO:-go}
time=${1:-30s}
workers=$(getconf _NPROCESSORS_ONLN) # some packages ask for more, to wait at the same time
count=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

fuzz() {
  "$go" test -run '^$' -fuzz "^$2\$" -fuzztime "$time" -parallel "$workers" "./$1" </dev/null 2>&1 | tee "$log"
}

# interrupted reports whether the deadline was the only failure: a real finding writes a file or
# names the line of a test.
interrupted() {
  grep -q 'context deadline exceeded' "$log" && ! grep -qE 'Failing input written|panic:|_test\.go:' "$log"
}

while IFS=: read -r file target; do
  dir=$(dirname "$file")
  echo "fuzz: $target in ./$dir for $time"
  fuzz "$dir" "$target" || { interrupted && fuzz "$dir" "$target"; }
  count=$((count + 1))
done < <(git ls-files -co --exclude-standard '*_test.go' |
  xargs grep -oE '^func Fuzz[A-Za-z0-9_]*' | sed 's/func //' | sort)

if [ "$count" -eq 0 ]; then
  echo "fuzz: found no target, although there must be some" >&2
  exit 1
fi
