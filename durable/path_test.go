package durable_test

import (
	"testing"
)

func TestAnAcceptedTaskRunsAndItsResultIsRecorded(t *testing.T) {
	inBubble(t, func(w *world) {
		n := w.node("a")
		id := w.accept(n, "ok").ID
		done := w.finished(n, id)
		w.wantState(done, "done", 1)
		if got := string(done.Result.Inline); got != `{"ok":true,"data":"fine"}` {
			t.Errorf("the result is %s", got)
		}
		if got := states(w.get(id)); got != "queued running done" {
			t.Errorf("its history is %s", got)
		}
	})
}
