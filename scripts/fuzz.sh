#!/usr/bin/env bash
# Runs every fuzz target of the repository, one after the other, for the time
# given (default 30s) or for a number of executions (20000x). Targets are found by
# name, so a new one needs no entry here.
#
# A number is what CI gives: when a time runs out, go test may report the
# execution that it interrupts as failed ("context deadline exceeded"), though
# nothing is wrong with the target. With a time, that
# verdict, and no other one, is tried again.
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

# interrupted tells whether the clock was all that failed: a finding has a file of
# its own, or says where it failed.
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
  echo "fuzz: found no target, which cannot be right" >&2
  exit 1
fi
