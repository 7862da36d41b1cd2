package chaos

import (
	"path/filepath"
	"testing"

	"github.com/posta-tasks/posta/lab/chaos/history"
)

func TestANodeIsBusyWhileTheJournalHasNoEndOfWhatItRuns(t *testing.T) {
	t.Parallel()
	b := &system{journal: filepath.Join(t.TempDir(), history.JournalFile)}
	if b.isBusy(1) {
		t.Error("busy before anything has run")
	}
	log, err := history.Append(b.journal)
	if err != nil {
		t.Fatal(err)
	}
	note := func(pid, attempt int, how string) {
		log.Add(history.Execution{PID: pid, Task: "t", Attempt: attempt, How: how})
	}
	want := func(one, two bool) {
		t.Helper()
		if got1, got2 := b.isBusy(1), b.isBusy(2); got1 != one || got2 != two {
			t.Errorf("1 is busy: %v, 2 is busy: %v; want %v and %v", got1, got2, one, two)
		}
	}
	note(1, 1, history.Start)
	want(true, false)
	note(2, 2, history.Start)
	want(true, true)
	note(1, 1, history.Failed)
	want(false, true)
	for range 2 * recent / 50 {
		note(1, 3, history.Start)
		note(1, 3, history.Done)
	}
	note(2, 3, history.Start)
	want(false, true)
	if err := log.Close(); err != nil {
		t.Error(err)
	}
}
