package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	lib "github.com/rabbitmq/amqp091-go"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/task"
)

// pair is two nodes with a real server: node two takes the ids that node one publishes, and node one
// receives the events that node two broadcasts.
type pair struct {
	one, two *Broker
	taker    broker.Taker
	listener broker.Listener
	log      *testenv.Buffer
	raw      *lib.Channel // of another client
	next     int
}

func newPair(t *testing.T, server *testenv.RabbitMQServer) *pair {
	t.Helper()
	p := &pair{log: &testenv.Buffer{}, next: 1}
	logger := slog.New(slog.NewTextHandler(p.log, nil))
	prefix := "recovery-" + strings.ReplaceAll(t.Name()[strings.LastIndex(t.Name(), "/")+1:], "_", "-")
	for _, b := range []**Broker{&p.one, &p.two} {
		*b = open(Config{Prefix: prefix, Logger: logger}, dialerOf(t, server))
		t.Cleanup(func() { (*b).Close() })
		connected(t, *b)
	}
	conn, err := lib.Dial(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if p.raw, err = conn.Channel(); err != nil {
		t.Fatal(err)
	}
	return p
}

// begin opens the taker and the listener, and waits until ids and events arrive.
func (p *pair) begin(t *testing.T) {
	t.Helper()
	p.taker, p.listener = takerOf(t, p.two), listenerOf(t, p.one)
	p.flows(t)
}

func (p *pair) lane() string {
	return lane{"default", "upper", task.Normal}.name(p.one.config.Prefix)
}

// flows publishes and broadcasts until an id and an event arrive.
func (p *pair) flows(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	first, arrived := p.next+1, false
	testenv.Eventually(t, patience, func() error { // again, since ids and events are lost during an outage
		p.next++
		err := p.one.Publish(ctx, hints(p.next, 1))
		if arrived = arrived || p.idArrives(ctx, first); arrived {
			return nil
		}
		return fmt.Errorf("no id arrives (publish: %w); the log:\n%s", err, p.log)
	})
	for arrived := false; !arrived; {
		if ctx.Err() != nil {
			t.Fatalf("no event arrives; the log:\n%s", p.log)
		}
		p.two.Broadcast([]broker.Event{{Kind: broker.Resumed, Queue: "q"}})
		brief, stop := context.WithTimeout(ctx, time.Second)
		got, _ := p.listener.Next(brief)
		stop()
		arrived = len(got.Events) > 0
	}
}

// idArrives reports whether an id that is not less than first arrives within a second.
func (p *pair) idArrives(ctx context.Context, first int) bool {
	brief, stop := context.WithTimeout(ctx, time.Second)
	defer stop()
	for {
		taken, err := p.taker.Take(brief, broker.Want{Limit: 100})
		if err != nil {
			return false
		}
		p.taker.Ack()
		for _, got := range taken.IDs {
			if got >= hints(first, 1)[0].ID {
				return true
			}
		}
	}
}

// TestIDsAndEventsArriveAgainAfterAFault does to a real server what operators and accidents do. Ids and events
// arrive again without a restart, and the log contains the server's reply.
func TestIDsAndEventsArriveAgainAfterAFault(t *testing.T) {
	t.Parallel()
	server := testenv.RabbitMQ(t)
	for name, c := range map[string]struct {
		fault func(t *testing.T, p *pair)
		says  []string
	}{
		"the event queue is deleted": {func(t *testing.T, p *pair) {
			for _, queue := range eventQueues(t, server, p) {
				server.Control(t, "-q", "eval", `{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"`+queue+`">>)), rabbit_amqqueue:delete(Q, false, false, <<"test">>).`)
			}
		}, []string{"the queue of events was deleted", "needs is back"}},
		"the exchange is deleted": {func(t *testing.T, p *pair) {
			must(t, p.raw.ExchangeDelete(p.one.events.exchange(), false, false))
		}, []string{"404", "NOT_FOUND", "needs is back"}},
		"a queue is deleted under its consumer": {func(t *testing.T, p *pair) {
			_, err := p.raw.QueueDelete(p.lane(), false, false, false)
			must(t, err)
		}, nil},
		"a queue is deleted and made with other arguments": {func(t *testing.T, p *pair) {
			_, err := p.raw.QueueDelete(p.lane(), false, false, false)
			must(t, err)
			_, err = p.raw.QueueDeclare(p.lane(), true, false, false, false, nil)
			if err != nil { // a node declared the queue first
				t.Log(err)
			}
		}, nil},
		"the server closes a channel": {func(t *testing.T, p *pair) {
			tk := p.taker.(*taker)
			tk.mu.Lock()
			ch := tk.channel
			tk.mu.Unlock()
			if ch != nil {
				_ = ch.Ack(1 << 40)
			}
		}, nil},
		"an operator closes all connections": {func(t *testing.T, p *pair) {
			p.one.consumeLink.now().Close()
			p.two.publishLink.now().Close()
		}, []string{"needs is away", "needs is back"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, server)
			p.begin(t)
			mark := len(p.log.String())
			c.fault(t, p)
			testenv.Eventually(t, patience, func() error {
				for _, words := range c.says {
					if !strings.Contains(p.log.String()[mark:], words) {
						return errors.New("the log does not contain " + words)
					}
				}
				return nil
			})
			p.flows(t)
		})
	}
}

// TestAQueueWithOtherArgumentsIsUsedAsItIs declares the queue with another client first.
func TestAQueueWithOtherArgumentsIsUsedAsItIs(t *testing.T) {
	t.Parallel()
	p := newPair(t, testenv.RabbitMQ(t))
	_, err := p.raw.QueueDeclare(p.lane(), true, false, false, false, lib.Table{"x-max-length": 1000})
	must(t, err)
	p.begin(t)
	for _, words := range []string{"unexpected arguments", "406", "PRECONDITION_FAILED"} {
		if !strings.Contains(p.log.String(), words) {
			t.Errorf("the log does not contain %s:\n%s", words, p.log)
		}
	}
	if n := strings.Count(p.log.String(), "unexpected arguments"); n != 2 {
		t.Errorf("two nodes logged it %d times, want twice", n)
	}
}

// TestAMemoryAlarmDoesNotCreateQueuesAgain raises the server's memory alarm, publishes until the alarm arrives, and
// clears it.
func TestAMemoryAlarmDoesNotCreateQueuesAgain(t *testing.T) {
	t.Parallel()
	server := testenv.RabbitMQ(t)
	p := newPair(t, server)
	p.begin(t)
	for range 2 {
		mark := len(p.log.String())
		server.Control(t, "-q", "set_vm_memory_high_watermark", "0.00000001")
		testenv.Eventually(t, patience, func() error {
			p.next++
			if err := p.one.Publish(t.Context(), hints(p.next, 1)); err == nil || !strings.Contains(err.Error(), "out of space") {
				return errors.New("the broker still accepts ids")
			}
			return nil
		})
		if away, _ := p.one.outage.State(); !away {
			t.Error("the broker is not away")
		}
		server.Control(t, "-q", "set_vm_memory_high_watermark", "0.6")
		p.flows(t)
		if log := p.log.String()[mark:]; strings.Contains(log, "created again") || !strings.Contains(log, "low on memory") {
			t.Errorf("the log has\n%s", log)
		}
	}
}

// eventQueues returns the names of the queues that are bound to the exchange of events.
func eventQueues(t *testing.T, server *testenv.RabbitMQServer, p *pair) (names []string) {
	t.Helper()
	for line := range strings.Lines(server.Control(t, "-q", "--no-table-headers", "list_bindings", "source_name", "destination_name")) {
		if source, queue, _ := strings.Cut(strings.TrimSpace(line), "\t"); source == p.one.events.exchange() {
			names = append(names, queue)
		}
	}
	if len(names) != 2 {
		t.Fatalf("two nodes have the queues %v, want two", names)
	}
	return names
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
