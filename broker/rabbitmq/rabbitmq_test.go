package rabbitmq

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/broker/brokertest"
	"github.com/posta-tasks/posta/internal/testenv"
)

// TestMain has the tests wait beside each other, which most of them do.
func TestMain(m *testing.M) {
	testenv.Overlap(16)
	goleak.VerifyTestMain(m)
}

// patience is how long tests wait for what must come: RabbitMQ takes long to start.
const patience = 2 * time.Minute

// lacks is what a RabbitMQ does not do, with the reason of each.
func lacks() brokertest.Lacks {
	return brokertest.Lacks{
		Bubble:  true, // it is a network away
		Total:   true, // what waits is in the server's memory
		Turns:   true, // a taker chooses among what has arrived
		Behind:  true, // the server tells nobody but who publishes
		Bounds:  true, // the server's bound is in bytes, and soft
		Actions: true, // each action of a queue has a lane of its own on the server
		Flight:  true, // what was broadcast may be under way
	}
}

// prefixes makes the brokers of one test share what those of no other do.
var prefixes atomic.Int64

// ends opens the ends of so many nodes, each with connections of its own.
func ends(t *testing.T, dial dialer, nodes int, bounds broker.Bounds) []*Broker {
	t.Helper()
	prefix := fmt.Sprintf("t%d", prefixes.Add(1))
	list := make([]*Broker, nodes)
	for i := range list {
		list[i] = open(Config{Prefix: prefix, Bounds: bounds}, dial)
		t.Cleanup(func() { list[i].Close() })
		connected(t, list[i])
	}
	return list
}

// connected waits until a broker has both connections.
func connected(t *testing.T, b *Broker) {
	t.Helper()
	for name, ready := range map[string]<-chan struct{}{"publish": b.publish.ready, "hear": b.events.ready} {
		select {
		case <-ready:
		case <-time.After(patience):
			t.Fatalf("a node is not ready to %s", name)
		}
	}
}

// TestCloseEndsPausesAndNothingBeginsAfterIt has a part that waits for an hour when the broker is closed.
func TestCloseEndsPausesAndNothingBeginsAfterIt(t *testing.T) {
	t.Parallel()
	b := open(Config{}, newFakeServer().dial)
	connected(t, b)
	rested := make(chan bool, 1)
	b.part(func() { rested <- b.rest(time.Hour) })
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case whole := <-rested:
		if whole {
			t.Error("the pause was not ended")
		}
	default:
		t.Error("Close has not waited for a part")
	}
	b.part(func() { t.Error("a part began after Close") })
	b.parts.Wait()
}

// suite runs the suite over servers that dial reaches.
func suite(t *testing.T, dial dialer) {
	t.Helper()
	brokertest.Run(t, brokertest.Driver{
		Open: func(t *testing.T, nodes int, bounds broker.Bounds) []broker.Broker {
			t.Helper()
			var list []broker.Broker
			for _, b := range ends(t, dial, nodes, bounds) {
				list = append(list, b)
			}
			return list
		},
		Lacks: lacks(),
	})
}

// dialerOf reaches a real server.
func dialerOf(t *testing.T, server *testenv.RabbitMQServer) dialer {
	t.Helper()
	where, err := parseURL(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return where.dial
}

// TestFake and TestServer are not parallel, as the suite wants.
func TestFake(t *testing.T) { suite(t, newFakeServer().dial) }

func TestServer(t *testing.T) { suite(t, dialerOf(t, testenv.RabbitMQ(t))) }

// hints makes n hints of the usual lane.
func hints(first, n int) []broker.Hint {
	list := make([]broker.Hint, n)
	for i := range list {
		list[i] = broker.Hint{ID: fmt.Sprintf("01JE%022d", first+i), Queue: "default", Action: "upper"}
	}
	return list
}

// taker begins to take, past the first answer.
func takerOf(t *testing.T, b *Broker) broker.Taker {
	t.Helper()
	taker, err := b.Consume(broker.Interest{Actions: []string{"upper"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taker.Close() })
	if got := take(t, taker, 1); !got.Behind {
		t.Fatalf("the first take gives %+v", got)
	}
	return taker
}

// take makes one Take.
func take(t *testing.T, taker broker.Taker, limit int) broker.Taken {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	taken, err := taker.Take(ctx, broker.Want{Limit: limit})
	if err != nil {
		t.Fatalf("take: %v", err)
	}
	taker.Ack()
	return taken
}

// takeID takes until the id has come, whatever comes beside it.
func takeID(t *testing.T, taker broker.Taker, id string) (behind bool) {
	t.Helper()
	for {
		taken := take(t, taker, 100)
		behind = behind || taken.Behind
		for _, got := range taken.IDs {
			if got == id {
				return behind
			}
		}
	}
}

// publishUntil publishes until the broker takes it.
func publishUntil(t *testing.T, b *Broker, list []broker.Hint) {
	t.Helper()
	testenv.Eventually(t, patience, func() error { return b.Publish(t.Context(), list) })
}
