// Package brokertest is the suite that every broker passes: each test is a sentence of the
// contract in package broker, by theme a file. A bug found in one broker becomes a test
// here, so that brokers cannot drift apart.
//
// It holds a broker that nothing disturbs to more than the contract promises: then every
// id comes, once, and every event. What a cut connection or a lost broker does is for the
// driver's own tests.
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

// Driver says how the suite gets at a broker.
type Driver struct {
	// Open makes an empty broker, and gives the end of each of so many nodes; those of one
	// process may be the same. The suite closes them; what else must be cleaned up is left
	// to t.Cleanup.
	Open func(t *testing.T, nodes int, bounds broker.Bounds) []broker.Broker
	// Lacks says what the broker does not do.
	Lacks Lacks
}

// Lacks lists what a driver may do without, and why it may.
type Lacks struct {
	// Bubble: it cannot live in a testing/synctest bubble, since it waits for a network. Its
	// tests take real time.
	Bubble bool
	// Total: it has a bound for each lane and none for all of them, since what waits in it
	// is not in this process's memory.
	Total bool
	// Turns: it chooses among what has arrived, so the weights of priorities, and the turns
	// of queues, follow from what the network brings; its own tests show how it chooses.
	Turns bool
	// Behind: a lane that had no room says so to nodes of other processes only when they
	// poll, since the broker tells nobody but the publisher.
	Behind bool
	// Missed: it knows that events were lost, and not how many.
	Missed bool
	// Bounds: its bound of a lane holds roughly, since it is not in ids.
	Bounds bool
	// Actions: ids of one queue and priority keep their order among those of one action
	// only, since it keeps what different nodes can run apart.
	Actions bool
	// Flight: an event that was sent just before may be heard, since it was still under way.
	Flight bool
	// Redelivery: what was taken and not acknowledged is not given to others, since all ends
	// of the broker die with the process.
	Redelivery bool
}

// sentences are tests of one theme, by what they say.
type sentences map[string]func(*fixture)

// Run holds a broker to the contract. Its caller must not be parallel, since it begins
// with a look at the memory of the process.
func Run(t *testing.T, driver Driver) {
	if !driver.Lacks.Total {
		t.Run("a million ids take little memory", func(t *testing.T) {
			b := driver.Open(t, 1, broker.Bounds{})[0]
			defer b.Close()
			testMemory(t, b)
		})
	}
	themes := map[string]sentences{
		"ids": ids(), "calls": calls(), "lanes": lanes(), "routing": routing(), "wanted": wanted(), "priorities": priorities(), "turns": turns(),
		"waiting": waiting(), "bounds": bounds(), "total": total(), "acknowledgement": acknowledgement(), "events": events(), "earlier events": earlierEvents(),
		"slow listeners": slowListeners(), "concurrency": concurrency(), "comings": comings(), "closing": closing(), "closing ends": closingEnds(),
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

// run runs one test, where no time passes if the driver can live there.
func (d Driver) run(t *testing.T, test func(*fixture)) {
	if d.Lacks.Bubble {
		test(newFixture(t, d))
		return
	}
	synctest.Test(t, func(t *testing.T) { test(newFixture(t, d)) })
}

// fixture is one test's broker, and what most tests do with it.
type fixture struct {
	*testing.T
	broker.Broker // the first node's
	others        []broker.Broker
	lacks         Lacks
	made          int
}

// The bounds of each test's broker.
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
	// patience is how long a test waits for what must come.
	patience = 20 * time.Second
	// quiet is how long it waits for what must not come.
	quiet = 200 * time.Millisecond
)

// edit makes a hint different from the usual one.
type edit func(*broker.Hint)

func inQueue(name string) edit          { return func(h *broker.Hint) { h.Queue = name } }
func withAction(name string) edit       { return func(h *broker.Hint) { h.Action = name } }
func withPriority(p task.Priority) edit { return func(h *broker.Hint) { h.Priority = p } }

// publish publishes n usual hints with other ids each time, and gives the ids.
func (f *fixture) publish(n int, edits ...edit) []string {
	f.Helper()
	var hints []broker.Hint
	var ids []string
	for range n {
		f.made++
		h := broker.Hint{ID: fmt.Sprintf("01JE%022d", f.made), Queue: "default", Action: "upper"}
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

// usual is what the usual node can run: upper, in every queue.
func usual() broker.Interest { return broker.Interest{Actions: []string{"upper"}} }

// consume begins to take, past the first answer, which is that the taker is behind.
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
		f.Fatalf("the first take gives %+v, %v", taken, err)
	}
	return taker
}

// take takes until it has so many ids.
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
			f.Fatalf("%d ids of %d came, then: %v", len(ids), n, err)
		}
		if len(taken.IDs) > want.Limit {
			f.Fatalf("%d ids came, the limit is %d", len(taken.IDs), want.Limit)
		}
		ids = append(ids, taken.IDs...)
	}
	taker.Ack()
	return ids
}

// takeSome makes one Take.
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

// wantQuiet wants no ids to come for a while.
func (f *fixture) wantQuiet(taker broker.Taker, want broker.Want) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), quiet)
	defer cancel()
	for {
		taken, err := taker.Take(ctx, want)
		if errors.Is(err, context.DeadlineExceeded) {
			return
		}
		if err != nil || len(taken.IDs) > 0 {
			f.Fatalf("%+v, %v came, want nothing", taken, err)
		}
	}
}

// wantBehind takes until the taker is told that it is behind, and gives the ids until then.
func (f *fixture) wantBehind(taker broker.Taker) (ids []string) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), patience)
	defer cancel()
	for {
		taken, err := taker.Take(ctx, broker.Want{Limit: 7})
		if err != nil {
			f.Fatalf("%d ids came, then: %v", len(ids), err)
		}
		ids = append(ids, taken.IDs...)
		if taken.Behind {
			return ids
		}
	}
}

// listen begins to collect events.
func (f *fixture) listen(by broker.Broker) broker.Listener {
	f.Helper()
	listener, err := by.Listen()
	if err != nil {
		f.Fatalf("listen: %v", err)
	}
	f.Cleanup(func() { listener.Close() })
	return listener
}

// hear collects until it has so many events, lost ones included.
func (f *fixture) hear(listener broker.Listener, n int) (all broker.Heard) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), patience)
	defer cancel()
	for len(all.Events)+int(all.Missed) < n {
		heard, err := listener.Next(ctx)
		if err != nil {
			f.Fatalf("%d events came of %d, then: %v", len(all.Events), n, err)
		}
		all.Events = append(all.Events, heard.Events...)
		all.Missed += heard.Missed
	}
	return all
}

// news gives n events; from tells those of one broadcaster from another's.
func news(from string, first, n int) []broker.Event {
	var events []broker.Event
	for i := range n {
		at := time.Date(2026, 3, 1, 12, 0, first+i, 7e6, time.UTC)
		events = append(events, broker.Event{
			Kind: broker.Changed, Task: fmt.Sprintf("01JE%022d", first+i), Queue: from,
			Entry: task.Entry{Seq: first + i, State: task.Failed, Attempt: 3, Generation: 1, At: at, Node: "n1", Error: "ñ"},
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

// wantSame wants the same ids in any order.
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
