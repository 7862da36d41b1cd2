package durable_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// bad is a broker that fails in one way or another.
type bad struct {
	broker.Broker
	how atomic.Pointer[string]
}

func (b *bad) is(how string) bool { now := b.how.Load(); return now != nil && *now == how }

func (b *bad) Publish(ctx context.Context, hints []broker.Hint) error {
	switch {
	case b.is("errors"):
		return task.Refuse(task.Unavailable, "no broker")
	case b.is("blocks"):
		<-ctx.Done()
		return task.Refuse(task.Unavailable, "%v", ctx.Err())
	case b.is("drops"):
		return nil
	case b.is("repeats"):
		hints = append(append(hints, hints...), hints...)
		rand.Shuffle(len(hints), func(i, j int) { hints[i], hints[j] = hints[j], hints[i] })
	case b.is("forges"):
		for i := range hints {
			hints[i].ID = "forged" + strings.Repeat("x", i)
		}
	}
	return b.Broker.Publish(ctx, hints)
}

func (b *bad) Broadcast(events []broker.Event) {
	switch {
	case b.is("errors"), b.is("blocks"), b.is("drops"):
		return
	case b.is("repeats"):
		events = append(append([]broker.Event{}, events...), events...)
		rand.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
	case b.is("forges"):
		for i := range events {
			events[i].Task += "x"
		}
	}
	b.Broker.Broadcast(events)
}

func (b *bad) Consume(what broker.Interest) (broker.Taker, error) {
	if b.is("errors") {
		return nil, errors.New("no broker")
	}
	return b.Broker.Consume(what)
}

func (b *bad) Listen() (broker.Listener, error) {
	if b.is("errors") {
		return nil, errors.New("no broker")
	}
	return b.Broker.Listen()
}

func TestABrokerThatFailsCostsTimeOnly(t *testing.T) {
	for _, how := range []string{"errors", "blocks", "drops", "repeats", "forges", "closed"} {
		t.Run(how, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				memory := broker.NewMemory(broker.Bounds{})
				defer memory.Close()
				b := &bad{Broker: memory}
				b.how.Store(&how)
				if how == "closed" {
					memory.Close()
				}
				var nodes []*node
				for _, name := range []string{"a", "b", "c"} {
					nodes = append(nodes, w.process(name, b))
				}
				w.acquaint()
				start := time.Now()
				ids := w.acceptMany(nodes[0], 60, "second", task.Options{})
				if took := time.Since(start); took != 0 {
					t.Errorf("the accept took %s", took)
				}
				w.ranOn(nodes[1], ids)
				if took := time.Since(start); took > 9*time.Second {
					t.Errorf("60 seconds of work in twelve slots took %s", took)
				}
			})
		})
	}
}

func TestABrokerThatComesBackIsUsedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		memory := broker.NewMemory(broker.Bounds{})
		defer memory.Close()
		b, how := &bad{Broker: memory}, "errors"
		b.how.Store(&how)
		door := w.process("door", b, func(c *durable.Config) { c.Actions = []string{} })
		w.process("worker", b)
		w.after(time.Minute)
		w.wantState(w.finished(door, w.accept(door, "ok").ID), task.Done, 1)
		b.how.Store(nil)
		w.after(5 * time.Second)
		start := time.Now()
		w.wantState(w.finished(door, w.accept(door, "ok").ID), task.Done, 1)
		if took := time.Since(start); took != 0 {
			t.Errorf("five seconds after the broker was back it took %s", took)
		}
	})
}

func TestATaskOfWhichTheIDIsLostStartsWithinTheSecond(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		memory := broker.NewMemory(broker.Bounds{})
		defer memory.Close()
		b, how := &bad{Broker: memory}, "drops"
		door := w.process("door", b, func(c *durable.Config) { c.Actions = []string{} })
		w.process("worker", memory)
		w.acquaint()
		b.how.Store(&how)
		accepted := w.accept(door, "ok")
		if wait := w.finished(door, accepted.ID).StartedAt.Sub(accepted.CreatedAt); wait > time.Second {
			t.Errorf("it began after %s", wait)
		}
	})
}

func TestProcessesThatShareAStoreNeedNoBroker(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		alone := func(c *durable.Config) { c.Broker, c.Shared = nil, true }
		a := w.process("a", nil, alone, func(c *durable.Config) { c.Actions = []string{} })
		w.process("b", nil, alone)
		w.acquaint()
		start := time.Now()
		w.wantState(w.finished(a, w.accept(a, "ok").ID), task.Done, 1)
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

func TestAnAttemptOutlivesAStoreThatIsAwayForLessThanItsLease(t *testing.T) {
	inBubble(t, func(_ *testing.T, w *world) {
		cut := &frail{Store: w.store}
		w.store = cut
		_, nodes := w.cluster()
		id := w.accept(nodes[0], "minute").ID
		w.after(4 * time.Second) // its lease was renewed at most a beat ago
		cut.away.Store(true)
		w.after(8 * time.Second)
		cut.away.Store(false)
		w.wantState(w.finished(nodes[1], id), task.Done, 1)
	})
}

// hanging is a store whose accepts hang until their context ends.
type hanging struct{ store.Store }

func (hanging) Accept(ctx context.Context, _ []task.Task) ([]store.Accepted, error) {
	<-ctx.Done()
	return nil, task.Refuse(task.Unavailable, "the store does not answer")
}

func TestAnAcceptByAStoreThatHangsIsRefusedWithinTwoSeconds(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.store = hanging{w.store}
		n := w.process("a", nil, func(c *durable.Config) { c.Broker, c.Shared = nil, true })
		start := time.Now()
		a := n.Accept(t.Context(), []durable.Request{{Action: "ok"}})[0]
		if a.Refusal == nil || a.Refusal.Code != task.Unavailable || time.Since(start) > 2*time.Second {
			t.Errorf("after %s: %+v", time.Since(start), a.Refusal)
		}
	})
}

func TestWorkGoesOnWithinFiveSecondsOfTheStoresReturn(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		cut := &frail{Store: w.store}
		w.store = cut
		_, nodes := w.cluster()
		running := w.acceptMany(nodes[0], 4, "second", task.Options{})
		w.after(100 * time.Millisecond)
		cut.away.Store(true)
		w.after(10 * time.Second)
		if a := nodes[0].Accept(t.Context(), []durable.Request{{Action: "ok"}})[0]; a.Refusal == nil || a.Refusal.Code != task.Unavailable {
			t.Errorf("meanwhile an accept is answered with %+v", a)
		}
		cut.away.Store(false)
		back := time.Now()
		running = append(running, w.accept(nodes[0], "ok").ID)
		w.ranOn(nodes[1], running)
		if took := time.Since(back); took > 5*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}
