package durable_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// drain drains a node, which lets its attempts finish for so long.
func (w *world) drain(n *node, patience time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	n.Drain(ctx)
}

func TestADrainLetsFinishWhatFinishesInTime(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		id, late := w.accept(n, "second").ID, w.accept(n, "ok", task.Options{RunAt: time.Now().Add(2 * time.Second)}).ID
		w.after(100 * time.Millisecond)
		start := time.Now()
		w.drain(n, time.Minute)
		if took := time.Since(start); took != 900*time.Millisecond {
			t.Errorf("the drain took %s", took)
		}
		w.wantState(w.get(id), "done", 1)
		w.after(time.Minute)
		w.wantState(w.get(late), "queued", 0)
	})
}

func TestADrainGivesBackWhatIsUnfinishedAndItCostsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a := w.node("a")
		var ids []string
		for _, action := range []string{"minute", "stormy", "deaf"} {
			ids = append(ids, w.accept(a, action, task.Options{MaxAttempts: 1, Timeout: time.Hour}).ID)
		}
		w.after(time.Second)
		start := time.Now()
		w.drain(a, 5*time.Second)
		if took := time.Since(start); took > 5*time.Second+1100*time.Millisecond {
			t.Errorf("the drain took %s", took)
		}
		for _, id := range ids {
			back := w.get(id)
			w.wantState(back, "queued", 1)
			if back.Failures != 0 || back.Crashes != 0 || back.Suspect {
				t.Errorf("it cost the task something: %+v", back)
			}
		}
		a.end()
		b := w.node("b")
		w.wantState(w.finished(b, ids[0]), "done", 2)
		w.wantState(w.finished(b, ids[2]), "done", 2)
	})
}

func TestANodeThatDrainsRefusesAndEndsWhatWaits(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		id := w.accept(n, "minute").ID
		ended := make(chan *task.Error, 2)
		go func() {
			_, refusal := n.Wait(t.Context(), id)
			ended <- refusal
		}()
		go func() {
			var last *task.Error
			for _, refusal := range n.Watch(t.Context(), id, 0) {
				last = refusal
			}
			ended <- last
		}()
		w.after(time.Second)
		go w.drain(n, time.Hour)
		for range 2 {
			if refusal := <-ended; refusal == nil || refusal.Code != task.Draining || refusal.Task != id {
				t.Errorf("it ended with %v", refusal)
			}
		}
		if a := n.Accept(t.Context(), []durable.Request{{Action: "ok"}}); a[0].Refusal == nil || a[0].Refusal.Code != task.Draining {
			t.Errorf("a new task: %+v", a[0])
		}
	})
}

func TestAnEngineThatStopsWithoutADrainGivesBackAtOnce(t *testing.T) {
	inBubble(t, func(_ *testing.T, w *world) {
		a := w.node("a")
		id := w.accept(a, "minute").ID
		w.after(time.Second)
		a.end()
		w.wantState(w.get(id), "queued", 1)
	})
}

func TestATaskOfANodeThatDiedRunsElsewhereAfterItsLease(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		shared := w.store
		cut := &frail{Store: shared}
		w.store = cut
		a := w.node("a", func(c *durable.Config) { c.Hub = durable.NewHub() })
		id := w.accept(a, "minute", task.Options{MaxAttempts: 1, Timeout: time.Hour}).ID
		w.after(time.Second)
		cut.away.Store(true) // for the store, that is what death looks like
		w.store = shared
		b := w.node("b", func(c *durable.Config) { c.RunsSuspects = true })
		start := time.Now()
		done := w.finished(b, id)
		w.wantState(done, "done", 2)
		if done.Node != "b" || done.Failures != 0 {
			t.Errorf("%+v", done)
		}
		if wait := done.StartedAt.Sub(start); wait > task.LeaseTime {
			t.Errorf("it was started after %s", wait)
		}
		if w.runs(id) != 2 {
			t.Errorf("it was started %d times", w.runs(id))
		}
	})
}

func TestTheOutcomeOfAnAttemptWhoseLeaseWasLostIsRefusedAndCounted(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		shared := w.store
		deaf := &frail{Store: shared}
		w.store = deaf
		a := w.node("a", func(c *durable.Config) { c.Hub = durable.NewHub() })
		id := w.accept(a, "deaf", task.Options{Timeout: time.Hour}).ID
		w.after(time.Second)
		deaf.renew.Store(true)
		w.store = shared
		b := w.node("b", func(c *durable.Config) { c.RunsSuspects = true })
		w.wantState(w.finished(b, id), "done", 2)
		w.after(time.Hour)
		if s := a.Stats(); s.Stale != 1 || s.Done != 0 || s.Held != 0 {
			t.Errorf("a: %+v", s)
		}
		if got := states(w.get(id)); got != "queued running queued running done" {
			t.Errorf("its history is %s", got)
		}
	})
}

func TestALostLeaseEndsTheAttemptAndItsOutcomeIsDropped(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		id := w.accept(n, "hour", task.Options{Timeout: time.Hour}).ID
		w.after(time.Second)
		if _, err := w.store.Recover(t.Context(), "a", nil); err != nil {
			t.Fatal(err)
		}
		w.after(task.LeaseRenew)
		if s := n.Stats(); s.Lost != 1 || s.Dropped != 1 || s.Stale != 0 || s.Held != 0 || s.Running != 0 {
			t.Errorf("%+v", s)
		}
		w.wantState(w.get(id), "queued", 1)
	})
}

func TestAStoreThatIsAwayRefusesAcceptsAndAllGoesOnWhenItIsBack(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		frail := &frail{Store: w.store}
		w.store = frail
		n := w.node("a")
		running := w.accept(n, "second").ID
		w.after(500 * time.Millisecond)
		frail.away.Store(true)
		a := n.Accept(t.Context(), []durable.Request{{Action: "ok"}})
		if a[0].Refusal == nil || a[0].Refusal.Code != task.Unavailable || a[0].Task.ID != "" {
			t.Errorf("an accept: %+v", a[0])
		}
		if _, refusal := n.Get(t.Context(), running, false); refusal == nil || refusal.Code != task.Unavailable {
			t.Errorf("a get: %v", refusal)
		}
		w.after(10 * time.Second)
		frail.away.Store(false)
		w.wantState(w.finished(n, running), "done", 1)
		w.wantState(w.finished(n, w.accept(n, "ok").ID), "done", 1)
		if w.runs(running) != 1 {
			t.Errorf("the task ran %d times", w.runs(running))
		}
	})
}

func TestAStoreThatIsAwayForLongerThanALeaseStopsWhatRunsAndItRunsAgain(t *testing.T) {
	inBubble(t, func(_ *testing.T, w *world) {
		frail := &frail{Store: w.store}
		w.store = frail
		n := w.node("a", func(c *durable.Config) { c.RunsSuspects = true })
		id := w.accept(n, "hour", task.Options{MaxAttempts: 1, Timeout: 2 * time.Hour}).ID
		w.after(time.Second)
		frail.away.Store(true)
		w.after(time.Minute)
		frail.away.Store(false)
		w.wantState(w.finished(n, id), "done", 2)
	})
}

func TestALostAnswerToAnAcceptIsAskedForOnceMore(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		frail := &frail{Store: w.store}
		w.store = frail
		n := w.node("a")
		frail.lost.Store(1)
		id := w.accept(n, "second").ID
		w.wantState(w.finished(n, id), "done", 1)
		frail.lost.Store(2)
		a := n.Accept(t.Context(), []durable.Request{{Action: "second"}})[0]
		if a.Refusal == nil || a.Refusal.Code != task.UnknownOutcome || a.Refusal.Task == "" {
			t.Fatalf("%+v", a)
		}
		lost := w.finished(n, a.Refusal.Task) // the store had started it, and nobody knew
		w.wantState(lost, "done", 1)
		if wait := lost.StartedAt.Sub(lost.CreatedAt); wait > task.LeaseTime+time.Second {
			t.Errorf("it began after %s", wait)
		}
	})
}

func TestALostAnswerToARecordIsNoStaleOutcome(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		frail := &frail{Store: w.store}
		w.store = frail
		n := w.node("a")
		id := w.accept(n, "second").ID
		w.after(500 * time.Millisecond)
		frail.lost.Store(1)
		w.wantState(w.finished(n, id), "done", 1)
		if s := n.Stats(); s.Done != 1 || s.Stale != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestAnOutcomeThatTheStoreCannotTakeDoesNotKeepTheOthers(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		picky := &pickyStore{Store: w.store}
		w.store = picky
		n := w.node("a", func(c *durable.Config) { c.RunsSuspects = true })
		ids := w.acceptMany(n, 3, "second", task.Options{})
		picky.mu.Lock()
		picky.id = ids[1]
		picky.mu.Unlock()
		w.wantState(w.finished(n, ids[0]), "done", 1)
		w.wantState(w.finished(n, ids[2]), "done", 1)
		w.after(100 * time.Millisecond)
		picky.mu.Lock()
		picky.id = ""
		picky.mu.Unlock()
		w.wantState(w.finished(n, ids[1]), "done", 2)
	})
}

// pickyStore does not take outcomes of one task.
type pickyStore struct {
	store.Store
	mu sync.Mutex // guards the one below
	id string
}

func (p *pickyStore) Record(ctx context.Context, list []store.Outcome) ([]store.Recorded, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range list {
		if o.ID == p.id {
			return nil, task.Refuse(task.Internal, "not this one")
		}
	}
	return p.Store.Record(ctx, list)
}

func TestOnlyATaskUnderWhichTheProcessDiesAloneTwiceIsFailed(t *testing.T) {
	inBubble(t, func(_ *testing.T, w *world) {
		shared := w.store
		feeder := w.node("feeder", func(c *durable.Config) { c.Actions = []string{}; c.Hub = durable.NewHub() })
		poison := w.accept(feeder, "hour", task.Options{Timeout: time.Hour}).ID
		innocent := w.accept(feeder, "minute", task.Options{Timeout: time.Hour, MaxAttempts: 1}).ID
		for i := 0; !w.get(poison).State.Final(); i++ {
			if i == 10 {
				w.t.Fatalf("after ten deaths it is still %+v", w.get(poison))
			}
			cut := &frail{Store: shared}
			w.store, w.hub = cut, durable.NewHub()
			n := w.node(fmt.Sprint("n", i), func(c *durable.Config) { c.RunsSuspects = true })
			w.after(100 * time.Millisecond)
			for w.get(poison).State != task.Running {
				w.after(time.Second) // its neighbour is the suspect now
			}
			cut.away.Store(true)
			n.end()
			if _, err := shared.Recover(w.t.Context(), "", nil); err != nil {
				w.t.Fatal(err)
			}
			w.store = shared
		}
		if failed := w.get(poison); failed.Code != task.Crashed {
			w.t.Errorf("it failed with %s", failed.Code)
		}
		w.store, w.hub = shared, durable.NewHub()
		last := w.node("last", func(c *durable.Config) { c.RunsSuspects = true })
		if done := w.finished(last, innocent); done.State != task.Done || done.Failures != 0 {
			w.t.Errorf("its neighbour is %s: %+v", done.State, done)
		}
	})
}

func TestProcessesThatDieOfOtherThingsMakeNoTaskFail(t *testing.T) {
	inBubble(t, func(_ *testing.T, w *world) {
		shared := w.store
		feeder := w.node("feeder", func(c *durable.Config) { c.Actions = []string{}; c.Hub = durable.NewHub() })
		ids := w.acceptMany(feeder, 3, "hour", task.Options{Timeout: 2 * time.Hour})
		for i := range 20 {
			cut := &frail{Store: shared}
			w.store, w.hub = cut, durable.NewHub()
			n := w.node(fmt.Sprint("n", i), func(c *durable.Config) { c.RunsSuspects = true })
			w.after(14 * time.Second)
			cut.away.Store(true)
			n.end()
			if _, err := shared.Recover(w.t.Context(), "", nil); err != nil {
				w.t.Fatal(err)
			}
		}
		w.store, w.hub = shared, durable.NewHub()
		last := w.node("last", func(c *durable.Config) { c.RunsSuspects = true })
		for _, id := range ids {
			if done := w.finished(last, id); done.State != task.Done || done.Failures != 0 {
				w.t.Errorf("it is %s: %+v", done.State, done)
			}
		}
	})
}

func TestThreeNodesRecordEachTaskOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		nodes := []*node{
			w.node("a", func(c *durable.Config) { c.RunsSuspects = true }), w.node("b"), w.node("c"),
		}
		const each = 1000
		var callers sync.WaitGroup
		ids := make([][]string, len(nodes))
		for i, n := range nodes {
			for range 4 {
				callers.Go(func() {
					for range each / 4 / 10 {
						requests := make([]durable.Request, 10)
						for j := range requests {
							requests[j].Action = "ok"
						}
						for _, a := range n.Accept(t.Context(), requests) {
							w.mu.Lock()
							ids[i] = append(ids[i], a.Task.ID)
							w.mu.Unlock()
						}
					}
				})
			}
		}
		callers.Wait()
		var done int64
		for i, n := range nodes {
			for _, id := range ids[i] {
				one := w.finished(nodes[(i+1)%3], id)
				w.wantState(one, "done", 1)
			}
			_ = n
		}
		for _, n := range nodes {
			s := n.Stats()
			done += s.Done
			if s.Stale != 0 || s.Lost != 0 || s.Done == 0 {
				t.Errorf("%+v", s)
			}
		}
		if done != 3*each || len(w.order()) != 3*each {
			t.Errorf("%d outcomes were recorded and %d attempts made, want %d", done, len(w.order()), 3*each)
		}
		if list, _ := nodes[0].Nodes(t.Context()); len(list) != 3 {
			t.Errorf("%d nodes are alive", len(list))
		}
	})
}

func TestAnIdleEngineHardlyAsksTheStore(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		counted := &countedStore{Store: w.store}
		w.store = counted
		n := w.node("a")
		w.accept(n, "ok")
		w.after(time.Hour)
		before := counted.count(0)
		w.after(100 * time.Second)
		if per := counted.count(0) - before; per > 60 {
			t.Errorf("%d claims and maintenance calls in 100 s", per)
		}
	})
}

// countedStore counts what an idle engine might do too often. It is for one engine.
type countedStore struct {
	store.Store
	mu    sync.Mutex // guards the one below
	calls int
}

func (c *countedStore) count(more int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls += more
	return c.calls
}

func (c *countedStore) Claim(ctx context.Context, by store.Claim) ([]task.Task, error) {
	c.count(1)
	return c.Store.Claim(ctx, by)
}

func (c *countedStore) Maintain(ctx context.Context, limit int) (store.Maintained, error) {
	c.count(1)
	return c.Store.Maintain(ctx, limit)
}
