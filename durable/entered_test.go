package durable_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// look has a second look at the store, once in a while, until the test ends.
func (w *world) look(each time.Duration, do func()) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-time.After(each):
				do()
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { cancel(); <-done }
}

// mostRunning returns the most tasks that the store shows as running, in its queues and in its list.
func (w *world) mostRunning(n *node) int {
	queues, refusal := n.Queues(context.Background())
	page, err := w.store.List(context.Background(), store.Query{State: task.Running, Limit: 1000})
	if refusal != nil || err != nil {
		w.t.Errorf("%v, %v", refusal, err)
	}
	running := 0
	for _, q := range queues {
		running += int(q.Running)
	}
	return max(running, len(page.Tasks), n.Stats().Running)
}

// After 400 quick tasks a node claims far beyond its slots. What waits is not running, and expires.
func TestWhatWaitsForASlotIsNotRunningAndExpires(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		w.acceptMany(n, 400, "ok", task.Options{})
		most := 0
		stop := w.look(time.Millisecond, func() { most = max(most, w.mostRunning(n)) })
		ids := w.acceptMany(n, 300, "second", task.Options{ExpiresIn: time.Second + time.Second/2})
		started := 0
		for _, id := range ids {
			got := w.finished(n, id)
			switch {
			case got.State == task.Done:
				started++
				if !got.StartedAt.Before(got.Expires) {
					t.Errorf("task %s was entered %s after it had expired", id, got.StartedAt.Sub(got.Expires))
				}
				w.wantState(got, task.Done, 1)
			case got.State != task.Failed || got.Code != task.Expired || got.Attempt != 0 || w.runs(id) != 0:
				t.Errorf("task %s is %s (%s) in attempt %d", id, got.State, got.Code, got.Attempt)
			}
		}
		stop()
		if started != 2*w.slots {
			t.Errorf("%d were entered, want %d", started, 2*w.slots)
		}
		if most != w.slots {
			t.Errorf("%d were running at a time, with %d slots", most, w.slots)
		}
	})
}

func TestTasksWithoutAFailureEndInTheirFirstAttempt(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		nodes := []*node{w.node("a"), w.node("b"), w.node("c")}
		for _, n := range nodes {
			w.acceptMany(n, 100, "ok", task.Options{})
		}
		w.after(time.Second)
		ids := w.acceptMany(nodes[0], 100, "second", task.Options{})
		for _, id := range ids {
			w.finished(nodes[1], id)
			got := w.get(id)
			w.wantState(got, task.Done, 1)
			if states(got) != "queued running done" || w.runs(id) != 1 {
				t.Errorf("task %s ran %d times: %s", id, w.runs(id), states(got))
			}
			if ran := got.FinishedAt.Sub(got.StartedAt); ran < time.Second || ran > time.Second+50*time.Millisecond {
				t.Errorf("task %s is said to have run for %s", id, ran)
			}
		}
	})
}

// marks is a store that counts the calls of Enter.
type marks struct {
	store.Store
	entered atomic.Int64
}

func (m *marks) Enter(ctx context.Context, list []store.Entered) ([]store.Recorded, error) {
	m.entered.Add(int64(len(list)))
	return m.Store.Enter(ctx, list)
}

func TestAQuickTaskCostsNoWriteOfItsOwn(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		m := &marks{Store: w.store}
		w.store = m
		n := w.node("a")
		for _, id := range w.acceptMany(n, 100, "ok", task.Options{}) {
			w.finished(n, id)
			if got := w.get(id); states(got) != "queued running done" {
				t.Errorf("task %s: %s", id, states(got))
			}
		}
		if got := m.entered.Load(); got != 0 {
			t.Errorf("Enter was called %d times for a quick task", got)
		}
		w.finished(n, w.accept(n, "second").ID)
		if got := m.entered.Load(); got != 1 {
			t.Errorf("Enter was called %d times for a task of a second", got)
		}
	})
}

func TestATaskThatWasJustEnteredIsShownAsRunning(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		id := w.accept(n, "second").ID
		w.after(time.Millisecond) // less than it takes until Enter is called
		if got := w.get(id); got.State != task.Queued || w.runs(id) != 1 {
			t.Errorf("the store has it as %s, and it ran %d times", got.State, w.runs(id))
		}
		got, refusal := n.Get(t.Context(), id, false)
		if refusal != nil || got.State != task.Running || got.Attempt != 1 || got.Node != "a" {
			t.Errorf("it is %+v, %v", got, refusal)
		}
		w.wantState(w.finished(n, id), task.Done, 1)
		if got := w.get(id); states(got) != "queued running done" {
			t.Errorf("its history: %s", states(got))
		}
	})
}

func TestAfterAPauseNothingIsEnteredOnAnyNode(t *testing.T) {
	for name, shared := range map[string]bool{"in one process": false, "in several that share a store": true, "with a broker": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				var nodes []*node
				memory := broker.NewMemory(broker.Bounds{})
				defer memory.Close()
				for _, node := range []string{"a", "b", "c"} {
					switch {
					case !shared:
						nodes = append(nodes, w.node(node))
					case strings.HasPrefix(name, "with"):
						nodes = append(nodes, w.process(node, memory))
					default:
						nodes = append(nodes, w.process(node, nil, func(c *durable.Config) { c.Broker, c.Shared = nil, true }))
					}
				}
				w.after(10 * time.Second)
				for _, n := range nodes {
					w.acceptMany(n, 100, "ok", task.Options{})
				}
				ids := w.acceptMany(nodes[0], 300, "tell", task.Options{})
				w.after(1500 * time.Millisecond)
				start := time.Now()
				if refusal := nodes[1].Pause(t.Context(), task.DefaultQueue, true); refusal != nil {
					t.Fatal(refusal)
				}
				if took := time.Since(start); took > 2*time.Second {
					t.Errorf("the pause took %s", took)
				}
				entered := len(w.order())
				w.after(time.Minute)
				if now := len(w.order()); now != entered {
					t.Errorf("%d tasks were entered after the answer", now-entered)
				}
				q, _ := nodes[0].Queues(t.Context())
				if q[0].Running != 0 || q[0].Queued == 0 {
					t.Errorf("the queue is %+v", q[0])
				}
				if refusal := nodes[2].Pause(t.Context(), task.DefaultQueue, false); refusal != nil {
					t.Fatal(refusal)
				}
				for _, id := range ids {
					w.wantState(w.finished(nodes[0], id), task.Done, 1)
				}
			})
		})
	}
}

// busyStore takes a while before it writes what nodes have entered and how attempts ended.
type busyStore struct{ store.Store }

func (s *busyStore) Enter(ctx context.Context, list []store.Entered) ([]store.Recorded, error) {
	<-time.After(300 * time.Millisecond)
	return s.Store.Enter(ctx, list)
}

func (s *busyStore) Record(ctx context.Context, list []store.Outcome) ([]store.Recorded, error) {
	<-time.After(300 * time.Millisecond)
	return s.Store.Record(ctx, list)
}

func TestAfterAPauseNoTaskIsSaidToHaveStartedLaterHoweverBusyTheStoreIs(t *testing.T) {
	for action, before := range map[string]time.Duration{"ok": time.Millisecond, "second": 1100 * time.Millisecond} {
		t.Run(action, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.store = &busyStore{w.store}
				nodes := []*node{w.node("a"), w.node("b"), w.node("c")}
				w.after(time.Second)
				ids := w.acceptMany(nodes[0], 100, action, task.Options{})
				w.after(before)
				if refusal := nodes[1].Pause(t.Context(), task.DefaultQueue, true); refusal != nil {
					t.Fatal(refusal)
				}
				answered, entered := time.Now(), len(w.order())
				w.after(time.Minute)
				started := 0
				for _, id := range ids {
					got := w.get(id)
					if got.StartedAt.IsZero() {
						continue
					}
					if started++; got.StartedAt.After(answered) {
						t.Errorf("a task started %s after the answer to the pause", got.StartedAt.Sub(answered))
					}
				}
				if now := len(w.order()); now != entered || started != entered || entered == 0 {
					t.Errorf("%d tasks were entered until the answer, and %d until now; %d have a start", entered, now, started)
				}
			})
		})
	}
}

// A node that is not there any more, or cannot reach the store, holds up a pause for seconds and no longer.
func TestAPauseDoesNotWaitForTheDead(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.process("a", nil, func(c *durable.Config) { c.Broker, c.Shared = nil, true })
		w.after(time.Second)
		if err := w.store.Beat(t.Context(), store.Node{Name: "dead", Paused: 1}); err != nil {
			t.Fatal(err)
		}
		for _, queue := range []string{"mail", "other"} {
			w.finished(n, w.accept(n, "ok", task.Options{Queue: queue}).ID)
		}
		start := time.Now()
		if refusal := n.Pause(t.Context(), "mail", true); refusal != nil {
			t.Fatal(refusal)
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("the pause took %s", took)
		}
		if err := w.store.Beat(t.Context(), store.Node{Name: "dead"}); err != nil { // of a release that does not say
			t.Fatal(err)
		}
		start = time.Now()
		if refusal := n.Pause(t.Context(), "other", true); refusal != nil || time.Since(start) != 0 {
			t.Errorf("the pause took %s: %v", time.Since(start), refusal)
		}
	})
}

func TestWhatIsCancelledWhileItWaitsForASlotIsNotEntered(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		w.acceptMany(n, 400, "ok", task.Options{})
		ids := w.acceptMany(n, 20, "second", task.Options{})
		w.after(20 * time.Millisecond)
		answers, refusal := n.Cancel(t.Context(), ids)
		if refusal != nil {
			t.Fatal(refusal)
		}
		for i, id := range ids {
			if answers[i].Refusal != nil {
				t.Errorf("%v", answers[i].Refusal)
			}
			got := w.finished(n, id)
			if ran := w.runs(id); got.State != task.Cancelled || got.Attempt != ran || len(w.get(id).History) != 2+ran {
				t.Errorf("task %s is %s in attempt %d, and ran %d times: %s", id, got.State, got.Attempt, ran, states(w.get(id)))
			}
		}
	})
}

func TestADrainEntersNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		w.acceptMany(n, 400, "ok", task.Options{})
		ids := w.acceptMany(n, 50, "second", task.Options{})
		w.after(20 * time.Millisecond)
		entered := len(w.order())
		w.drain(n, 10*time.Second)
		if now := len(w.order()); now != entered {
			t.Errorf("%d tasks were entered in the drain", now-entered)
		}
		for _, id := range ids {
			if got := w.get(id); got.Attempt != w.runs(id) || got.Reserved != "" {
				t.Errorf("task %s is %s in attempt %d, and ran %d times", id, got.State, got.Attempt, w.runs(id))
			}
		}
	})
}
