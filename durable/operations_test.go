package durable_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// acceptLater accepts tasks that start in an hour, and returns their ids, oldest first.
func (w *world) acceptLater(n *node, count int) (ids []string) {
	w.t.Helper()
	var list []durable.Request
	for range count {
		list = append(list, durable.Request{Action: "echo", Options: task.Options{Queue: "q", Delay: time.Hour}})
	}
	for _, answer := range n.Accept(w.t.Context(), list) {
		if answer.Refusal != nil {
			w.t.Fatal(answer.Refusal)
		}
		ids = append(ids, answer.Task.ID)
	}
	return ids
}

// operation returns an operation as a node sees it.
func (w *world) operation(n *node, id string) task.Operation {
	w.t.Helper()
	list, refusal := n.Operations(w.t.Context())
	if refusal != nil {
		w.t.Fatal(refusal)
	}
	for _, op := range list {
		if op.ID == id {
			return op
		}
	}
	w.t.Fatalf("node %s sees no operation %s", "", id)
	return task.Operation{}
}

// gated is a store whose cancels wait for the gate. It notes the ids.
type gated struct {
	store.Store
	gate chan struct{}
	mu   sync.Mutex
	ids  []string
}

func (g *gated) Cancel(ctx context.Context, ids []string) ([]store.Changed, error) {
	<-g.gate
	g.mu.Lock()
	g.ids = append(g.ids, ids...)
	g.mu.Unlock()
	return g.Store.Cancel(ctx, ids)
}

func TestAnOperationChangesEachTaskThatWasThereOnceAndGoesOnWithoutItsClient(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		g := &gated{Store: w.store, gate: make(chan struct{})}
		first := w.node("n1", func(c *durable.Config) { c.Store = g })
		second := w.node("n2")
		ids := w.acceptLater(first, 3000)
		ctx, gone := context.WithCancel(t.Context())
		op, refusal := first.Operate(ctx, task.Operation{Change: task.Cancel, Filter: "tasks?queue=q", Who: "ana"}, store.Query{Queue: "q"}, nil)
		if refusal != nil {
			t.Fatal(refusal)
		}
		gone()
		synctest.Wait()
		later := w.acceptLater(first, 1)[0]
		if seen := w.operation(second, op.ID); seen.Matched != 3000 && seen.Matched != 0 || !seen.Ended.IsZero() || seen.Node != "n1" || seen.Who != "ana" {
			t.Errorf("another node sees %+v", seen)
		}
		close(g.gate)
		synctest.Wait()
		got := w.operation(second, op.ID)
		if got.Matched != 3000 || got.Changed != 3000 || got.Refused != 0 || got.Left() != 0 || got.More || got.Ended.IsZero() || got.Error != "" {
			t.Errorf("at its end: %+v", got)
		}
		if len(g.ids) != len(ids) {
			t.Fatalf("%d tasks were cancelled", len(g.ids))
		}
		for i := range ids {
			if g.ids[i] != ids[i] {
				t.Fatalf("task %d is %s, want %s", i, g.ids[i], ids[i])
			}
		}
		if state := w.get(later).State; state != task.Scheduled {
			t.Errorf("the task that came later is %s", state)
		}
	})
}

func TestAnOperationStopsWhenItIsAskedToOrItsNodeEnds(t *testing.T) {
	for reason, stop := range map[string]func(w *world, n *node, other *node, id string){
		task.OperationStopped: func(w *world, _, other *node, id string) {
			if refusal := other.StopOperation(w.t.Context(), id); refusal != nil {
				w.t.Error(refusal)
			}
		},
		task.OperationDraining: func(_ *world, n, _ *node, _ string) { n.stop() },
	} {
		t.Run(reason, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				g := &gated{Store: w.store, gate: make(chan struct{})}
				first, second := w.node("n1", func(c *durable.Config) { c.Store = g }), w.node("n2")
				w.acceptLater(first, 1000)
				op, refusal := first.Operate(t.Context(), task.Operation{Change: task.Cancel}, store.Query{Queue: "q"}, nil)
				if refusal != nil {
					t.Fatal(refusal)
				}
				synctest.Wait()
				stop(w, first, second, op.ID)
				synctest.Wait()
				close(g.gate)
				synctest.Wait()
				got := w.operation(second, op.ID)
				if got.Error != reason || got.Changed != 200 || got.Left() != 800 || got.Ended.IsZero() {
					t.Errorf("%+v", got)
				}
			})
		})
	}
}

func TestAnOperationOfChosenTasksLeavesOutThoseThatItMayNotChange(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("n1")
		ids := w.acceptLater(n, 4)
		may := func(one *task.Task) bool { return one.ID != ids[1] }
		op, refusal := n.Operate(t.Context(), task.Operation{Change: task.Cancel, IDs: append(ids[:3:3], "01JE0000000000000000000000")}, store.Query{Allows: may}, nil)
		if refusal != nil {
			t.Fatal(refusal)
		}
		synctest.Wait()
		got := w.operation(n, op.ID)
		if got.Matched != 4 || got.Changed != 2 || got.Refused != 2 || got.Ended.IsZero() {
			t.Errorf("%+v", got)
		}
		for i, want := range []task.State{task.Cancelled, task.Scheduled, task.Cancelled, task.Scheduled} {
			if state := w.get(ids[i]).State; state != want {
				t.Errorf("task %d is %s, want %s", i, state, want)
			}
		}
	})
}

func TestAnOperationWhoseNodeIsSilentIsLost(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("n2")
		if _, err := w.store.SaveOperation(t.Context(), task.Operation{ID: "01JE0000000000000000000000", Node: "n1"}); err != nil {
			t.Fatal(err)
		}
		if op := w.operation(n, "01JE0000000000000000000000"); op.IsLost() {
			t.Error("it is lost at once")
		}
		w.after(2 * time.Minute)
		if op := w.operation(n, "01JE0000000000000000000000"); !op.IsLost() {
			t.Error("it is not lost after a minute")
		}
	})
}

func TestAnOperationEndsWithTheKeyOfItsClient(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		g := &gated{Store: w.store, gate: make(chan struct{})}
		n := w.node("n1", func(c *durable.Config) { c.Store = g })
		w.acceptLater(n, 1000)
		var revoke func()
		stopped := false
		op, refusal := n.Operate(t.Context(), task.Operation{Change: task.Cancel}, store.Query{Queue: "q"}, func(end func()) func() {
			revoke = end
			return func() { stopped = true }
		})
		if refusal != nil {
			t.Fatal(refusal)
		}
		synctest.Wait()
		revoke()
		close(g.gate)
		synctest.Wait()
		if got := w.operation(n, op.ID); got.Error != task.OperationRevoked || got.Changed != 200 || got.Ended.IsZero() || !stopped {
			t.Errorf("%+v, the watch was stopped: %t", got, stopped)
		}
	})
}
