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

// TestMain runs many tests in parallel, since most of them wait most of the time.
func TestMain(m *testing.M) {
	testenv.Overlap(16)
	goleak.VerifyTestMain(m)
}

// patience limits the waits of tests. It is long, since RabbitMQ takes long to start.
const patience = 2 * time.Minute

// lacks returns the properties that RabbitMQ lacks, with the reasons.
func lacks() brokertest.Lacks {
	return brokertest.Lacks{
		Bubble:  true, // the server is reached over a network
		Total:   true, // the ids are in the server's memory
		Turns:   true, // a taker chooses among what has arrived
		Behind:  true, // the server notifies only the publisher
		Bounds:  true, // the server's limit is in bytes and approximate
		Actions: true, // each action of a queue has a lane of its own on the server
		Flight:  true, // an earlier event may still be on its way
	}
}

// prefixes numbers the prefixes of names, so that tests do not share queues.
var prefixes atomic.Int64

// openNodes opens the brokers of several nodes that share a prefix.
func openNodes(t *testing.T, dial dialer, nodes int, bounds broker.Bounds) []*Broker {
	t.Helper()
	return openConfigured(t, dial, nodes, Config{Bounds: bounds})
}

func openConfigured(t *testing.T, dial dialer, nodes int, config Config) []*Broker {
	t.Helper()
	config.Prefix = fmt.Sprintf("t%d", prefixes.Add(1))
	list := make([]*Broker, nodes)
	for i := range list {
		list[i] = open(config, dial)
		t.Cleanup(func() { list[i].Close() })
		connected(t, list[i])
	}
	return list
}

// connected waits until a broker has both connections.
func connected(t *testing.T, b *Broker) {
	t.Helper()
	for name, ready := range map[string]<-chan struct{}{"publish": b.publish.ready, "receive": b.events.ready} {
		select {
		case <-ready:
		case <-time.After(patience):
			t.Fatalf("the broker is not ready to %s", name)
		}
	}
}

// TestCloseEndsGoroutinesAndStartsNoMore closes a broker while one of its goroutines sleeps for an hour.
func TestCloseEndsGoroutinesAndStartsNoMore(t *testing.T) {
	t.Parallel()
	b := open(Config{}, newFakeServer().dial)
	connected(t, b)
	slept := make(chan bool, 1)
	b.start(func() { slept <- b.sleep(time.Hour) })
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case whole := <-slept:
		if whole {
			t.Error("sleep waited for the whole hour")
		}
	default:
		t.Error("Close did not wait for the goroutine")
	}
	b.start(func() { t.Error("a goroutine started after Close") })
	b.goroutines.Wait()
}

// suite runs the suite of brokers against the server that dial reaches.
func suite(t *testing.T, dial dialer) {
	t.Helper()
	brokertest.Run(t, brokertest.Driver{
		Open: func(t *testing.T, nodes int, bounds broker.Bounds) []broker.Broker {
			t.Helper()
			var list []broker.Broker
			// The suite publishes each id once, so it waits for a server that has little time.
			for _, b := range openConfigured(t, dial, nodes, Config{Bounds: bounds, confirmTimeout: patience}) {
				list = append(list, b)
			}
			return list
		},
		Lacks: lacks(),
	})
}

// dialerOf returns a dialer of a real server.
func dialerOf(t *testing.T, server *testenv.RabbitMQServer) dialer {
	t.Helper()
	where, err := parseURL(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return where.dial
}

// TestFake and TestServer are not parallel, since the suite measures the memory of the process.
func TestFake(t *testing.T) { suite(t, newFakeServer().dial) }

func TestServer(t *testing.T) { suite(t, dialerOf(t, testenv.RabbitMQ(t))) }

// hints returns n hints of the usual lane.
func hints(first, n int) []broker.Hint {
	list := make([]broker.Hint, n)
	for i := range list {
		list[i] = broker.Hint{ID: fmt.Sprintf("01JE%022d", first+i), Queue: "default", Action: "upper"}
	}
	return list
}

// takerOf returns a taker whose first Take, which returns Behind, is over.
func takerOf(t *testing.T, b *Broker) broker.Taker {
	t.Helper()
	taker, err := b.Consume(broker.Interest{Actions: []string{"upper"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taker.Close() })
	if got := take(t, taker, 1); !got.Behind {
		t.Fatalf("the first Take returned %+v, want Behind", got)
	}
	return taker
}

// take calls Take once.
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

// takeID takes until the id arrives, and reports whether a Take returned Behind.
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

// publishUntil publishes until the broker accepts the ids.
func publishUntil(t *testing.T, b *Broker, list []broker.Hint) {
	t.Helper()
	testenv.Eventually(t, patience, func() error { return b.Publish(t.Context(), list) })
}
