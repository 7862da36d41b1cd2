package durable_test

import (
	"testing"
	"time"

	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/worker"
)

// TestTheOutcomeOfAnActionMayComeFromElsewhere: an action that waits ends as soon as its outcome is sent under its lease.
func TestTheOutcomeOfAnActionMayComeFromElsewhere(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("n1")
		send := func(lease string, ending worker.Ending) (state task.State, code task.Code) {
			answered := make(chan struct{})
			ending.Reply = func(s task.State, _ *task.Task, refusal *task.Error) {
				if state = s; refusal != nil {
					code = refusal.Code
				}
				close(answered)
			}
			n.FinishLease(t.Context(), lease, durable.Holder{May: func(*task.Task) bool { return true }}, ending)
			<-answered
			return state, code
		}
		options := task.Options{Timeout: 2 * time.Hour, MaxAttempts: 1}
		done, failed := w.accept(n, "hour", options).ID, w.accept(n, "hour", options).ID
		w.after(time.Second)
		if state, code := send(done+".2", worker.Ending{Kind: worker.Done}); code != task.Stale {
			t.Errorf("an outcome of another claim is answered %s %s", state, code)
		}
		if state, code := send(done+".1", worker.Ending{Kind: worker.Done, Data: []byte("7")}); state != task.Done {
			t.Errorf("an outcome is answered %s %s", state, code)
		}
		if state, code := send(done+".1", worker.Ending{Kind: worker.Failed, Error: "late"}); code != task.Stale {
			t.Errorf("the second outcome is answered %s %s", state, code)
		}
		if state, code := send(failed+".1", worker.Ending{Kind: worker.Failed, Error: "no"}); state != task.Failed {
			t.Errorf("a failure is answered %s %s", state, code)
		}
		got := w.get(done)
		w.wantState(got, task.Done, 1)
		if string(got.Result.Inline) != `{"ok":true,"data":7}` || states(got) != "queued running done" {
			t.Errorf("the result is %s, the history %s", got.Result.Inline, states(got))
		}
		w.wantState(w.get(failed), task.Failed, 1)
	})
}
