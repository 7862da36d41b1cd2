package durable_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/task"
)

// doomed starts a node whose process dies when the function is called.
func (w *world) doomed(name string) (n *node, dies func()) {
	shared := w.store
	cut := &frail{Store: shared}
	w.store, w.hub = cut, durable.NewHub()
	n = w.node(name, func(c *durable.Config) { c.RunsSuspects = true })
	w.store = shared
	return n, func() {
		cut.away.Store(true)
		n.end()
		if _, err := shared.Recover(w.t.Context(), "", nil); err != nil {
			w.t.Fatal(err)
		}
		w.hub = durable.NewHub()
	}
}

func TestMoreSuspectsRunTogetherTheLongerTheProcessLivesWithThem(t *testing.T) {
	inBubble(t, func(_ *testing.T, w *world) {
		n, dies := w.doomed("n0")
		ids := w.acceptMany(n, 4, "hour", task.Options{Timeout: 2 * time.Hour, MaxAttempts: 1})
		w.after(time.Second)
		dies()
		next := w.node("n1", func(c *durable.Config) { c.RunsSuspects = true })
		for _, want := range []int{1, 2, 4} {
			w.after(200 * time.Millisecond)
			running := 0
			for _, id := range ids {
				if w.get(id).State == task.Running {
					running++
				}
			}
			if running != want {
				w.t.Errorf("%d suspects run, want %d", running, want)
			}
			w.after(60 * time.Millisecond)
		}
		for _, id := range ids {
			w.wantState(w.finished(next, id), task.Done, 2)
		}
	})
}

func TestATaskInQuarantineDoesNotRunBesideASuspect(t *testing.T) {
	inBubble(t, func(_ *testing.T, w *world) {
		n, dies := w.doomed("n0")
		quarantined := w.accept(n, "hour", task.Options{Timeout: 2 * time.Hour}).ID
		w.after(time.Second)
		dies()
		n, dies = w.doomed("n1")
		w.after(time.Second)
		w.wantState(w.get(quarantined), task.Running, 2)
		long := w.accept(n, "hour", task.Options{Timeout: 2 * time.Hour}).ID
		w.after(time.Second)
		dies()
		last := w.node("n2", func(c *durable.Config) { c.RunsSuspects = true })
		w.after(30 * time.Minute)
		w.wantState(w.get(quarantined), task.Queued, 2)
		w.wantState(w.get(long), task.Running, 2)
		w.wantState(w.finished(last, long), task.Done, 2)
		w.wantState(w.finished(last, quarantined), task.Done, 3)
	})
}

func TestATaskThatKillsLateIsFailedAndItsNeighboursAreNot(t *testing.T) {
	inBubble(t, func(_ *testing.T, w *world) {
		feeder := w.node("feeder", func(c *durable.Config) { c.Actions = []string{}; c.Hub = durable.NewHub() })
		poison := w.accept(feeder, "hour", task.Options{Timeout: 2 * time.Hour}).ID
		innocent := w.acceptMany(feeder, 2, "hour", task.Options{Timeout: 2 * time.Hour, MaxAttempts: 1})
		for i := 0; !w.get(poison).State.Final(); i++ {
			if i == 10 {
				w.t.Fatalf("after ten deaths it is still %+v", w.get(poison))
			}
			_, dies := w.doomed(fmt.Sprint("n", i))
			for w.get(poison).State != task.Running {
				w.after(time.Second)
			}
			w.after(time.Minute) // by then its neighbours run beside it, if they may
			dies()
		}
		if failed := w.get(poison); failed.Code != task.Crashed {
			w.t.Errorf("it failed with %s", failed.Code)
		}
		last := w.node("last", func(c *durable.Config) { c.RunsSuspects = true })
		for _, id := range innocent {
			if done := w.finished(last, id); done.State != task.Done || done.Failures != 0 {
				w.t.Errorf("its neighbour is %s: %+v", done.State, done)
			}
		}
	})
}

// wantSuspects checks of each task that it runs or waits as a suspect or not, without a crash and with all its
// attempts.
func (w *world) wantSuspects(ids []string, suspect bool) {
	w.t.Helper()
	for _, id := range ids {
		if now := w.get(id); now.Suspect != suspect || now.Crashes != 0 || now.Failures != 0 {
			w.t.Errorf("task %s is %s, suspect %t, with %d crashes and %d failures", id, now.State, now.Suspect, now.Crashes, now.Failures)
		}
	}
}

func TestTasksOfWhichTheClaimsAnswerWasLostRunTogetherWhenTheirLeaseIsOver(t *testing.T) {
	inBubble(t, func(_ *testing.T, w *world) {
		w.slots = 100
		feeder := w.node("feeder", func(c *durable.Config) { c.Actions = []string{}; c.Hub = durable.NewHub() })
		forgetful := &frail{Store: w.store}
		w.store = forgetful
		n := w.node("a", func(c *durable.Config) { c.RunsSuspects, c.Shared = true, true })
		w.after(2 * task.LeaseTime) // a quiet period
		forgetful.claim.Store(1)
		ids := w.acceptMany(feeder, w.slots, "minute", task.Options{MaxAttempts: 1})
		w.after(10 * time.Second)
		for _, id := range ids {
			w.wantState(w.get(id), task.Queued, 0) // reserved for a node that does not know of it
			if w.runs(id) != 0 {
				w.t.Fatalf("task %s runs", id)
			}
		}
		w.wantState(w.finished(n, w.accept(n, "ok").ID), task.Done, 1)
		w.after(time.Until(w.get(ids[0]).Lease) + 2*time.Second)
		w.wantSuspects(ids, false)
		for _, id := range ids {
			w.wantState(w.get(id), task.Running, 1)
		}
		w.after(time.Minute)
		for _, id := range ids {
			w.wantState(w.get(id), task.Done, 1)
		}
		w.wantSuspects(ids, false)
		reaped := feeder.Stats().Reaped + n.Stats().Reaped // by the node that polled first
		if s := n.Stats(); s.Crashed != 0 || s.StoreRefused != 1 || reaped != int64(len(ids)) {
			w.t.Errorf("%d are reaped; %+v", reaped, s)
		}
	})
}

func TestAProcessThatIsStartedAgainDoesNotMakeItsPredecessorsTasksInnocent(t *testing.T) {
	inBubble(t, func(_ *testing.T, w *world) {
		shared := w.store
		cut := &frail{Store: shared}
		w.store = cut
		dead := w.node("a", func(c *durable.Config) { c.Hub = durable.NewHub() })
		ids := w.acceptMany(dead, 3, "minute", task.Options{MaxAttempts: 1})
		w.after(time.Second)
		cut.away.Store(true)
		dead.stop()
		w.after(time.Second)
		w.store = shared
		again := w.node("a", func(c *durable.Config) { c.RunsSuspects, c.Shared = true, true })
		w.after(task.LeaseTime)
		w.wantSuspects(ids, true)
		for _, id := range ids {
			w.wantState(w.finished(again, id), task.Done, 2)
		}
	})
}
