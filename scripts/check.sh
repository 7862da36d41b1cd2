#!/usr/bin/env bash
# The checks that CI runs and that a change must pass. Each part prints how long it took. The
# last part is go test, whose result ends the output.
set -euo pipefail
cd "$(dirname "$0")/.."

go=${GO:-go}
inputs=5000x  # for each fuzz target
timeout=1200s # for the tests of each package; some start real servers
packages=2    # packages whose tests run at a time: many of them mostly wait for servers

part() {
  local name=$1 start=$SECONDS
  shift
  echo "== $name"
  "$@"
  echo "-- $name: $((SECONDS - start)) s"
}

formatted() {
  local files
  files=$(git ls-files -co --exclude-standard '*.go' | xargs gofmt -l)
  if [ -n "$files" ]; then
    echo "not formatted, run make fmt:"
    echo "$files"
    return 1
  fi
}

modules() {
  "$go" mod verify
  "$go" mod tidy -diff
  (cd lab && "$go" mod tidy -diff)
}

lint() {
  make --no-print-directory lint
}

# failpoints checks the only package whose files depend on the tag.
failpoints() {
  "$go" vet -tags chaos ./internal/fail
  "$go" test -tags chaos ./internal/fail
}

part 'required programs' scripts/setup.sh
part 'the S3 server of the tests' make --no-print-directory build/versitygw
part 'the TypeScript compiler of the tests' make --no-print-directory build/tsc
part 'format' formatted
part 'go.mod' modules
part 'build' "$go" build ./...
part 'failpoints' failpoints
part 'lint, which vets as well' lint
part 'files of deploy, and the program of the image' "$go" test -C tools/deploycheck -timeout 1200s ./...
part 'alerting rules, in the evaluator of Prometheus' "$go" test -C tools/alertcheck ./...
part "fuzz, $inputs inputs a target" scripts/fuzz.sh "$inputs"

# beside runs what mostly waits: the lab, which starts whole systems, and the test of a node's
# memory, which needs a build without the race detector.
beside() {
  local failed=0
  POSTA_CHECK=1 "$go" test ./node -run TestAllClientsShareOneMemoryBudget || failed=1
  POSTA_CHECK=1 "$go" test -C lab -p 1 -timeout "$timeout" ./... || failed=1
  return "$failed"
}

mkdir -p build
set -m # a process group of its own, which ends with this script
beside >build/beside.log 2>&1 &
group=$!
set +m
trap 'kill -- "-$group" 2>/dev/null || true' EXIT

echo "== tests with the race detector and real servers ($SECONDS s so far)"
failed=0
POSTA_CHECK=1 "$go" test -race -p "$packages" -timeout "$timeout" ./... || failed=1

echo "== beside them, the lab: grid, chaos, mutants, benchmarks ($SECONDS s so far)"
wait "$group" || failed=1
cat build/beside.log
exit "$failed"
