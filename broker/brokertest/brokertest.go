// Package brokertest is the test suite that every broker passes. Each case is a sentence of
// the contract in package broker, and each file is one theme. A bug found in one broker
// becomes a case here, so that brokers do not drift apart.
//
// While nothing fails, the suite expects more than the contract promises: every id arrives
// exactly once, and so does every event. Tests of broken connections and lost brokers belong
// to the drivers.
package brokertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/task"
)

// Driver tells the suite how to open a broker.
type Driver struct {
	// Open opens an empty broker for this many nodes, and returns the Broker of each node;
	// nodes of one process may share one. The suite closes them. Open leaves any other
	// cleanup to t.Cleanup.
	Open func(t *testing.T, nodes int, bounds broker.Bounds) []broker.Broker
	// Lacks lists the parts of the contract that the broker does not have.
	Lacks Lacks
}

// Lacks lists the properties that a driver may lack, with the reason.
type Lacks struct {
	// Bubble: the driver cannot run in a testing/synctest bubble, since it waits for a
	// network. Its tests take real time.
	Bubble bool
	// Total: the driver limits each lane but not the sum of all lanes, since the ids are not
	// in the memory of this process.
	Total bool
	// Turns: the driver chooses among the ids that have arrived, so the weights of the
	// priorities and the turns of the queues depend on the network. The driver's own tests
	// check how it chooses.
	Turns bool
	// Behind: nodes of other processes notice a full lane only when they poll the store,
	// since the server notifies only the publisher.
	Behind bool
	// Missed: the driver notices that events were lost, but not how many.
	Missed bool
	// Bounds: the limit of a lane is approximate, since the server does not count ids.
	Bounds bool
	// Actions: ids of one queue and priority keep their order only among ids of the same
	// action, since each action has a lane of its own.
	Actions bool
	// Flight: a new listener may receive an event that was sent just before, since the event
	// was still on its way.
	Flight bool
	// Redelivery: ids that were taken and not acknowledged do not go to others, since all
	// takers of the broker die with the process.
	Redelivery bool
}

// cases are the tests of one theme, by the sentence that each of them checks.
type cases map[string]func(*fixture)

// Run tests a broker against the contract. Its caller must not be parallel, since Run begins
// by measuring the memory of the process.
func Run(t *testing.T, driver Driver) {
	if !driver.Lacks.Total {
		t.Run("a million ids need little memory", func(t *testing.T) {
			b := driver.Open(t, 1, broker.Bounds{})[0]
			defer b.Close()
			testMemory(t, b)
		})
	}
	themes := map[string]cases{
		"ids": ids(), "calls": calls(), "lanes": lanes(), "routing": routing(), "wanted": wanted(), "priorities": priorities(), "turns": turns(),
		"waiting": waiting(), "bounds": bounds(), "total": total(), "acknowledgement": acknowledgement(), "events": events(), "earlier events": earlierEvents(),
		"slow listeners": slowListeners(), "concurrency": concurrency(), "churn": churn(), "closing": closing(), "closing ends": closingEnds(),
	}
	for _, theme := range slices.Sorted(maps.Keys(themes)) {
		t.Run(theme, func(t *testing.T) {
			t.Parallel()
			for sentence, test := range themes[theme] {
				t.Run(sentence, func(t *testing.T) {
					t.Parallel()
					driver.run(t, test)
				})
			}
		})
	}
}

// run runs one test, in a bubble if the driver can run there.
func (d Driver) run(t *testing.T, test func(*fixture)) {
	if d.Lacks.Bubble {
		test(newFixture(t, d))
		return
	}
	synctest.Test(t, func(t *testing.T) { test(newFixture(t, d)) })
}

// fixture holds the broker of one test, and has methods that most tests need.
type fixture struct {
	*testing.T
	broker.Broker // of the first node
	others        []broker.Broker
	lacks         Lacks
	published     int
}

// The bounds of the broker of each test.
const (
	laneBound  = 30
	totalBound = 100
	eventBound = 20
)

func newFixture(t *testing.T, driver Driver) *fixture {
	nodes := driver.Open(t, 3, broker.Bounds{IDs: totalBound, LaneIDs: laneBound, Events: eventBound})
	t.Cleanup(func() {
		for _, node := range nodes {
			if err := node.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}
	})
	return &fixture{T: t, Broker: nodes[0], others: nodes[1:], lacks: driver.Lacks}
}

const (
	// patience is how long a test waits for something that must arrive. It is long, since a network and a
	// busy machine are slow.
	patience = 2 * time.Minute
	// quiet is how long it waits for something that must not arrive.
	quiet = 200 * time.Millisecond
)

// edit changes a usual hint.
type edit func(*broker.Hint)

func inQueue(name string) edit          { return func(h *broker.Hint) { h.Queue = name } }
func withAction(name string) edit       { return func(h *broker.Hint) { h.Action = name } }
func withPriority(p task.Priority) edit { return func(h *broker.Hint) { h.Priority = p } }

// publish publishes n usual hints with new ids, changed by edits, and returns the ids.
func (f *fixture) publish(n int, edits ...edit) []string {
	f.Helper()
	var hints []broker.Hint
	var ids []string
	for range n {
		f.published++
		h := broker.Hint{ID: fmt.Sprintf("01JE%022d", f.published), Queue: "default", Action: "upper"}
		for _, e := range edits {
			e(&h)
		}
		hints, ids = append(hints, h), append(ids, h.ID)
	}
	if err := f.Publish(f.Context(), hints); err != nil {
		f.Fatalf("publish: %v", err)
	}
	return ids
}

// usual returns the interest of a usual node: upper, in every queue.
func usual() broker.Interest { return broker.Interest{Actions: []string{"upper"}} }

// consume returns a taker whose first Take, which returns Behind, is over.
func (f *fixture) consume(by broker.Broker, what broker.Interest) broker.Taker {
	f.Helper()
	taker, err := by.Consume(what)
	if err != nil {
		f.Fatalf("consume: %v", err)
	}
	f.Cleanup(func() { taker.Close() })
	ctx, cancel := context.WithTimeout(f.Context(), patience)
	defer cancel()
	if taken, err := taker.Take(ctx, broker.Want{Limit: 1}); err != nil || !taken.Behind || len(taken.IDs) > 0 {
		f.Fatalf("the first Take returned %+v, %v, want only Behind", taken, err)
	}
	return taker
}

// take takes until it has n ids.
func (f *fixture) take(taker broker.Taker, n int) []string {
	f.Helper()
	return f.takeWant(taker, n, broker.Want{Limit: n})
}

func (f *fixture) takeWant(taker broker.Taker, n int, want broker.Want) (ids []string) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), patience)
	defer cancel()
	for len(ids) < n {
		want.Limit = min(want.Limit, n-len(ids))
		taken, err := taker.Take(ctx, want)
		if err != nil {
			f.Fatalf("%d of %d ids arrived, then: %v", len(ids), n, err)
		}
		if len(taken.IDs) > want.Limit {
			f.Fatalf("%d ids arrived, the limit is %d", len(taken.IDs), want.Limit)
		}
		ids = append(ids, taken.IDs...)
	}
	taker.Ack()
	return ids
}

// takeSome calls Take once.
func (f *fixture) takeSome(taker broker.Taker, want broker.Want) []string {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), patience)
	defer cancel()
	taken, err := taker.Take(ctx, want)
	if err != nil {
		f.Fatalf("take: %v", err)
	}
	taker.Ack()
	return taken.IDs
}

// wantNoIDs checks that no ids arrive for a while.
func (f *fixture) wantNoIDs(taker broker.Taker, want broker.Want) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), quiet)
	defer cancel()
	for {
		taken, err := taker.Take(ctx, want)
		if errors.Is(err, context.DeadlineExceeded) {
			return
		}
		if err != nil || len(taken.IDs) > 0 {
			f.Fatalf("Take returned %+v, %v, want no ids", taken, err)
		}
	}
}

// wantBehind takes until Take returns Behind, and returns the ids that arrived until then.
func (f *fixture) wantBehind(taker broker.Taker) (ids []string) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), patience)
	defer cancel()
	for {
		taken, err := taker.Take(ctx, broker.Want{Limit: 7})
		if err != nil {
			f.Fatalf("%d ids arrived, then: %v", len(ids), err)
		}
		ids = append(ids, taken.IDs...)
		if taken.Behind {
			return ids
		}
	}
}

// listen returns a listener.
func (f *fixture) listen(by broker.Broker) broker.Listener {
	f.Helper()
	listener, err := by.Listen()
	if err != nil {
		f.Fatalf("listen: %v", err)
	}
	f.Cleanup(func() { listener.Close() })
	return listener
}

// receive collects until it has n events, including lost ones.
func (f *fixture) receive(listener broker.Listener, n int) (all broker.Received) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), patience)
	defer cancel()
	for len(all.Events)+int(all.Missed) < n {
		received, err := listener.Next(ctx)
		if err != nil {
			f.Fatalf("%d of %d events arrived, then: %v", len(all.Events), n, err)
		}
		all.Events = append(all.Events, received.Events...)
		all.Missed += received.Missed
	}
	return all
}

// changes returns n events. Their Queue is from, which identifies the broadcaster.
func changes(from string, first, n int) []broker.Event {
	var events []broker.Event
	for i := range n {
		at := time.Date(2026, 3, 1, 12, 0, first+i, 7e6, time.UTC)
		events = append(events, broker.Event{
			Kind: broker.Changed, Task: fmt.Sprintf("01JE%022d", first+i), Queue: from,
			Entry: task.Entry{Seq: first + i, State: task.Failed, Attempt: 3, Generation: 1, At: at, Node: "n1", Worker: "img-311", Error: "ñ"},
		})
	}
	return events
}

func (f *fixture) wantIDs(got, want []string) {
	f.Helper()
	if !slices.Equal(got, want) {
		f.Errorf("ids %v, want %v", got, want)
	}
}

// wantSame checks that two lists have the same ids in any order.
func (f *fixture) wantSame(got, want []string) {
	f.Helper()
	f.wantIDs(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want)))
}

func (f *fixture) wantCode(err error, code task.Code) {
	f.Helper()
	if err == nil || task.CodeOf(err) != code {
		f.Errorf("error %v, want %s", err, code)
	}
}
