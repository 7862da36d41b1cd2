package rabbitmq

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	lib "github.com/rabbitmq/amqp091-go"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/task"
)

// wantRecovery checks that the broker recovers by itself after an outage: the taker returns Behind,
// the listener reports missed events, and ids and events arrive again.
func wantRecovery(t *testing.T, one, two *Broker, taker broker.Taker, listener broker.Listener) {
	t.Helper()
	publishUntil(t, one, hints(1000, 1))
	if !takeID(t, taker, hints(1000, 1)[0].ID) {
		t.Error("no Take returned Behind")
	}
	missed := int64(0)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	event := []broker.Event{{Kind: broker.Resumed, Queue: "after"}}
	for arrived := false; !arrived; {
		two.Broadcast(event) // again, since events are lost during the outage
		brief, stop := context.WithTimeout(ctx, 100*time.Millisecond)
		got, err := listener.Next(brief)
		stop()
		if ctx.Err() != nil {
			t.Fatalf("no event arrived: %v", err)
		}
		missed += got.Missed
		arrived = len(got.Events) > 0
	}
	if missed == 0 {
		t.Error("the listener reported no missed events")
	}
}

func TestABrokenConnectionRecovers(t *testing.T) {
	t.Parallel()
	for name, wipe := range map[string]bool{"the queues still exist": false, "the queues are gone": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newFakeServer()
			nodes := openNodes(t, server.dial, 2, broker.Bounds{})
			taker, listener := takerOf(t, nodes[1]), listenerOf(t, nodes[0])
			publishUntil(t, nodes[0], hints(1, 40))
			take(t, taker, 5)
			server.cut(wipe)
			wantRecovery(t, nodes[0], nodes[1], taker, listener)
		})
	}
}

func listenerOf(t *testing.T, b *Broker) broker.Listener {
	t.Helper()
	l, err := b.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestCallsDoNotWaitForAServerThatIsAway(t *testing.T) {
	t.Parallel()
	server := newFakeServer()
	server.away = true
	b := open(Config{}, server.dial) // it waits for at most openTimeout
	defer b.Close()
	if err := b.Publish(t.Context(), hints(1, 1)); task.CodeOf(err) != task.Unavailable {
		t.Errorf("publish: %v", err)
	}
	b.Broadcast([]broker.Event{{Kind: broker.Paused, Queue: "q"}})
	taker, listener := takerOf(t, b), listenerOf(t, b)
	server.mu.Lock()
	server.away = false
	server.mu.Unlock()
	connected(t, b)
	wantIDAndEvent(t, b, taker, listener)
}

// wantIDAndEvent checks that an id and an event arrive at a taker and a listener.
func wantIDAndEvent(t *testing.T, b *Broker, taker broker.Taker, listener broker.Listener) {
	t.Helper()
	publishUntil(t, b, hints(1, 1))
	takeID(t, taker, hints(1, 1)[0].ID)
	b.Broadcast([]broker.Event{{Kind: broker.Resumed, Queue: "q"}})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if got, err := listener.Next(ctx); err != nil || len(got.Events) == 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestPublishFailsAtOnceWhenTheServerIsOutOfSpace(t *testing.T) {
	t.Parallel()
	server := newFakeServer()
	b := openNodes(t, server.dial, 1, broker.Bounds{})[0]
	publishUntil(t, b, hints(1, 1))
	server.alarm(true)
	testenv.Eventually(t, patience, func() error { // until the alarm arrives
		if b.Publish(t.Context(), hints(4, 1)) == nil {
			return task.Refuse(task.Internal, "the broker still accepts ids")
		}
		return nil
	})
	for range 3 {
		err := b.Publish(t.Context(), hints(2, 1))
		if task.CodeOf(err) != task.Unavailable || !strings.Contains(err.Error(), "low on memory") {
			t.Errorf("publish: %v", err)
		}
	}
	server.alarm(false)
	publishUntil(t, b, hints(3, 1))
	takeID(t, takerOf(t, b), hints(3, 1)[0].ID)
}

func TestAQueueThatDoesNotConfirmIsCreatedAgain(t *testing.T) {
	t.Parallel()
	server := newFakeServer()
	b := openNodes(t, server.dial, 1, broker.Bounds{})[0]
	publishUntil(t, b, hints(1, 1))
	server.mu.Lock()
	server.mute[lane{"default", "upper", task.Normal}.name(b.config.Prefix)] = true
	server.mu.Unlock()
	if err := b.Publish(t.Context(), hints(2, 1)); task.CodeOf(err) != task.Unavailable {
		t.Errorf("publish: %v", err)
	}
	publishUntil(t, b, hints(3, 1))
	takeID(t, takerOf(t, b), hints(3, 1)[0].ID)
}

func TestTheServerLimitsALane(t *testing.T) {
	t.Parallel()
	server := newFakeServer()
	b := openNodes(t, server.dial, 1, broker.Bounds{LaneIDs: 100})[0]
	for i := range 40 {
		publishUntil(t, b, hints(10*i, 10))
	}
	if s := b.Stats(); s.Published != 400 || s.Dropped < 290 || s.Dropped > 310 {
		t.Errorf("%+v", s)
	}
}

func TestAnIdleTakerReturnsItsMessages(t *testing.T) {
	t.Parallel()
	server := newFakeServer()
	nodes := openNodes(t, server.dial, 2, broker.Bounds{})
	busy := takerOf(t, nodes[0])
	publishUntil(t, nodes[0], hints(1, 20))
	first := take(t, busy, 1)
	other := takerOf(t, nodes[1]) // the first taker has prefetched all messages
	got := map[string]bool{}
	for len(got) < 19 {
		for _, id := range take(t, other, 20).IDs {
			got[id] = true
		}
	}
	if len(first.IDs) != 1 {
		t.Errorf("%+v", first)
	}
}

func TestATakerChoosesByTheWeightsOfThePriorities(t *testing.T) {
	t.Parallel()
	b := &Broker{config: Config{}, takers: map[*taker]struct{}{}}
	b.consumeLink = &link{}
	tk := newTaker(b, broker.Interest{Actions: []string{"upper"}})
	defer tk.end()
	if got := take(t, tk, 1); !got.Behind {
		t.Fatalf("%+v", got)
	}
	n := 0
	name := map[string]task.Priority{}
	for priority := range prefetch {
		for range 30 {
			n++
			id := hints(n, 1)[0].ID
			name[id] = priority
			tk.receive(tk.prefetched, lane{"default", "upper", priority}, delivery{Tag: uint64(n), Body: []byte(id)})
		}
	}
	count := map[task.Priority]int{}
	for _, id := range take(t, tk, 26).IDs {
		count[name[id]]++
	}
	if count[task.High] != 16 || count[task.Normal] != 8 || count[task.Low] != 2 {
		t.Errorf("high, normal and low: %v", count)
	}
}

// foreignBodies returns messages that other clients of the server could publish.
func foreignBodies() []string {
	return []string{"", "\n", "\x00", strings.Repeat("x", 65), "one id", "01\n\n02", strings.Repeat("0123456789\n", 65), "{\"id\":1}", strings.Repeat("y", 1<<20)}
}

func TestForeignMessagesAreDroppedAndCounted(t *testing.T) {
	t.Parallel()
	server := testenv.RabbitMQ(t)
	dial := dialerOf(t, server)
	b := openNodes(t, dial, 1, broker.Bounds{})[0]
	taker, listener := takerOf(t, b), listenerOf(t, b)
	publishUntil(t, b, hints(1, 1))
	takeID(t, taker, hints(1, 1)[0].ID)

	conn, err := lib.Dial(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	name, sent := lane{"default", "upper", task.Normal}.name(b.config.Prefix), int64(0)
	for _, body := range foreignBodies() {
		for _, to := range []struct{ exchange, key, kind string }{
			{"", name, ""}, {b.config.Prefix + ".events", "", kindEvents}, {b.config.Prefix + ".events", "", kindLanes},
			{b.config.Prefix + ".events", "", "other"},
		} {
			if err := ch.PublishWithContext(t.Context(), to.exchange, to.key, false, false, lib.Publishing{Type: to.kind, Body: []byte(body)}); err != nil {
				t.Fatal(err)
			}
			sent++
		}
	}
	publishUntil(t, b, hints(2, 1))
	takeID(t, taker, hints(2, 1)[0].ID)
	b.Broadcast([]broker.Event{{Kind: broker.Paused, Queue: "q"}})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if got, err := listener.Next(ctx); err != nil || len(got.Events) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	testenv.Eventually(t, patience, func() error {
		if got := b.foreign.Load(); got != sent {
			return task.Refuse(task.Internal, "%d messages were counted, %d were sent", got, sent)
		}
		return nil
	})
}

func TestARealServerRecoversFromEveryFault(t *testing.T) {
	t.Parallel()
	server := testenv.RabbitMQ(t)
	nodes := openNodes(t, dialerOf(t, server), 2, broker.Bounds{})
	taker, listener := takerOf(t, nodes[1]), listenerOf(t, nodes[0])
	publishUntil(t, nodes[0], hints(1, 40))
	take(t, taker, 5)
	for name, fault := range map[string]func(){
		"killed":  func() { server.Kill(t); server.Again(t) },
		"wiped":   func() { server.Kill(t); server.Wipe(t); server.Again(t) },
		"stopped": func() { server.Stop(t); server.Again(t) },
		"out of space": func() {
			server.Control(t, "-q", "set_vm_memory_high_watermark", "0.00000001")
			testenv.Eventually(t, patience, func() error { // the server reports it after the first message
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if nodes[0].Publish(ctx, hints(500, 1)) == nil {
					return task.Refuse(task.Internal, "the broker still accepts ids")
				}
				return nil
			})
			server.Control(t, "-q", "set_vm_memory_high_watermark", "0.4")
		},
	} {
		fault()
		t.Log(name)
		if name == "out of space" { // the consuming connection stays
			publishUntil(t, nodes[0], hints(1000, 1))
			takeID(t, taker, hints(1000, 1)[0].ID)
			continue
		}
		wantRecovery(t, nodes[0], nodes[1], taker, listener)
	}
}

// TestAConsumerThatTheServerDroppedIsFound deletes the queue of a lane on a server that does not cancel the consumer,
// as RabbitMQ does if the queue is declared again at once.
func TestAConsumerThatTheServerDroppedIsFound(t *testing.T) {
	t.Parallel()
	name := func(b *Broker) string { return lane{"default", "upper", task.Normal}.name(b.config.Prefix) }
	for what, fault := range map[string]func(t *testing.T, server *fakeServer, b *Broker){
		"the queue is gone": func(_ *testing.T, server *fakeServer, b *Broker) {
			server.mu.Lock()
			defer server.mu.Unlock()
			delete(server.queues, name(b))
		},
		"the queue was declared again": func(_ *testing.T, server *fakeServer, b *Broker) {
			server.mu.Lock()
			defer server.mu.Unlock()
			server.queues[name(b)] = &fakeQueue{name: name(b)}
		},
		"another node consumes from the new queue and is full": func(t *testing.T, server *fakeServer, b *Broker) {
			t.Helper()
			server.mu.Lock()
			q := &fakeQueue{name: name(b)}
			q.consumers = []*fakeConsumer{{queue: q}} // without credit
			server.queues[name(b)] = q
			server.mu.Unlock()
			publishUntil(t, b, hints(2, 1))
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			server := newFakeServer()
			b := openNodes(t, server.dial, 1, broker.Bounds{})[0]
			taken := takerOf(t, b)
			publishUntil(t, b, hints(1, 1))
			takeID(t, taken, hints(1, 1)[0].ID)
			fault(t, server, b)
			for range quietChecks {
				taken.(*taker).checkConsumers()
			}
			publishUntil(t, b, hints(3, 1))
			if !takeID(t, taken, hints(3, 1)[0].ID) {
				t.Error("no Take returned Behind")
			}
		})
	}
}

// TestAQueueThatAPublishCreatesAgainIsConsumedAgain deletes a queue on a server that does not cancel its consumers.
func TestAQueueThatAPublishCreatesAgainIsConsumedAgain(t *testing.T) {
	t.Parallel()
	server := newFakeServer()
	nodes := openNodes(t, server.dial, 2, broker.Bounds{})
	taker := takerOf(t, nodes[1])
	for i := range 3 {
		publishUntil(t, nodes[0], hints(2*i, 1))
		takeID(t, taker, hints(2*i, 1)[0].ID)
		server.mu.Lock()
		delete(server.queues, lane{"default", "upper", task.Normal}.name(nodes[0].config.Prefix))
		server.mu.Unlock()
		publishUntil(t, nodes[0], hints(2*i+1, 1))
		takeID(t, taker, hints(2*i+1, 1)[0].ID)
	}
}

// TestATakerThatGetsNoConsumerBackTriesAgainAfterGrowingPauses checks a lane for which the server
// reports that it has no consumer.
func TestATakerThatGetsNoConsumerBackTriesAgainAfterGrowingPauses(t *testing.T) {
	t.Parallel()
	tk, l := &taker{checks: map[lane]int{}}, lane{Action: "upper"}
	var tries []int
	for check := 1; check <= 50; check++ {
		if tk.noteCheck(l, false) {
			tries = append(tries, check)
		}
	}
	if want := []int{1, 2, 4, 8, 16, 32, 48}; !slices.Equal(tries, want) {
		t.Errorf("it tried again after the checks %v, want %v", tries, want)
	}
	if tk.noteCheck(l, true) || !tk.noteCheck(l, false) {
		t.Error("a check that finds the consumer does not end the pauses")
	}
}
