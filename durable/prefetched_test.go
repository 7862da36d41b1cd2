package durable_test

import (
	"context"
	"testing"
	"time"

	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// acceptMany has a node accept tasks in one call.
func (w *world) acceptMany(n *node, count int, action string, options task.Options) []string {
	w.t.Helper()
	requests := make([]durable.Request, count)
	for i := range requests {
		requests[i] = durable.Request{Action: action, Options: options}
	}
	var ids []string
	for _, a := range n.Accept(w.t.Context(), requests) {
		if a.Refusal != nil {
			w.t.Fatal(a.Refusal)
		}
		ids = append(ids, a.Task.ID)
	}
	return ids
}

// distantStore takes ten milliseconds for a claim.
type distantStore struct{ store.Store }

func (s *distantStore) Claim(ctx context.Context, by store.Claim) ([]task.Task, error) {
	<-time.After(10 * time.Millisecond)
	return s.Store.Claim(ctx, by)
}

func TestQuickTasksAreClaimedAhead(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.store = &distantStore{w.store}
		n := w.node("a")
		for range 2 {
			for _, id := range w.acceptMany(n, 1000, "ok", task.Options{}) {
				w.finished(n, id)
			}
		}
		if s := n.Stats(); s.Claimed != 2000 || s.ClaimCalls > 60 {
			t.Errorf("%d tasks were claimed in %d calls", s.Claimed, s.ClaimCalls)
		}
	})
}

func TestPrefetchedTasksBehindSlowOnesAreReleasedToNodesWithSlots(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a := w.node("a")
		for _, id := range w.acceptMany(a, 1000, "ok", task.Options{}) {
			w.finished(a, id)
		}
		w.node("b")
		start := time.Now()
		ids := w.acceptMany(a, 40, "second", task.Options{MaxAttempts: 1})
		for _, id := range ids {
			if done := w.finished(a, id); done.State != task.Done || done.Failures != 0 {
				t.Errorf("it is %s after %d failures", done.State, done.Failures)
			}
			if w.runs(id) != 1 {
				t.Errorf("it was started %d times", w.runs(id))
			}
		}
		if took := time.Since(start); took > 6*time.Second {
			t.Errorf("forty tasks of a second in two times four slots took %s", took)
		}
		if s := a.Stats(); s.Released == 0 || s.Held != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestADrainGivesBackWhatWasClaimedAhead(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		for _, id := range w.acceptMany(n, 1000, "ok", task.Options{}) {
			w.finished(n, id)
		}
		ids := w.acceptMany(n, 40, "second", task.Options{})
		w.after(100 * time.Millisecond)
		start := time.Now()
		w.drain(n, time.Minute)
		if took := time.Since(start); took > time.Second {
			t.Errorf("the drain took %s", took)
		}
		states := map[task.State]int{}
		for _, id := range ids {
			states[w.get(id).State]++
		}
		if states[task.Done] != 4 || states[task.Queued] != 36 {
			t.Errorf("after the drain there are %v", states)
		}
	})
}
