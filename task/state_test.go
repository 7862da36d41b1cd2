package task

import "testing"

// TestEveryChangeFromEveryState is the whole table, written a second time: a letter
// for the state that a change leads to, a point where it cannot be made.
func TestEveryChangeFromEveryState(t *testing.T) {
	t.Parallel()
	letters := map[State]byte{Scheduled: 's', Queued: 'q', Running: 'r', Done: 'd', Failed: 'f', Cancelled: 'c'}
	want := map[Change]string{ // from: sqrdfc
		Promote:  "q.....",
		Claim:    ".q....",
		Enter:    ".r....",
		Succeed:  "..d...",
		Fail:     "..f...",
		Again:    "..s...",
		Release:  ".qq...",
		Postpone: ".ss...",
		Reap:     ".qq...",
		Crash:    "..f...",
		Cancel:   "ccc...",
		Expire:   "ff....",
		Retry:    "q..qqq",
	}
	if len(Changes()) != len(want) {
		t.Fatalf("there are %d changes, and this test knows %d", len(Changes()), len(want))
	}
	for _, change := range Changes() {
		for i, from := range States() {
			got := byte('.')
			if to, ok := change.Apply(from); ok {
				got = letters[to]
			}
			if got != want[change][i] {
				t.Errorf("%s of a %s task leads to %c, want %c", change, from, got, want[change][i])
			}
		}
	}
}

func TestOnlyARetryLeavesAFinalState(t *testing.T) {
	t.Parallel()
	for _, change := range Changes() {
		for _, from := range States() {
			if _, ok := change.Apply(from); ok && from.Final() && change != Retry {
				t.Errorf("%s can be made in state %s", change, from)
			}
		}
	}
}
