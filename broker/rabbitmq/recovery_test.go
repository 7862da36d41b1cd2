package rabbitmq

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	lib "github.com/rabbitmq/amqp091-go"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/task"
)

// journal is what nodes have logged.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (j *journal) Write(line []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(line)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// since returns what was logged after a mark.
func (j *journal) since(mark int) string { return j.String()[mark:] }

// pair is two nodes at a real server: what one publishes the other takes, and what the other tells the
// first hears.
type pair struct {
	one, two *Broker
	taker    broker.Taker
	listener broker.Listener
	log      *journal
	raw      *lib.Channel // somebody else's
	next     int
}

func newPair(t *testing.T, server *testenv.RabbitMQServer) *pair {
	t.Helper()
	p := &pair{log: &journal{}, next: 1}
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

// begin has ids and events flow.
func (p *pair) begin(t *testing.T) {
	t.Helper()
	p.taker, p.listener = takerOf(t, p.two), listenerOf(t, p.one)
	p.flows(t)
}

func (p *pair) lane() string {
	return lane{"default", "upper", task.Normal}.name(p.one.config.Prefix)
}

// flows waits until an id that is published comes by itself, and an event.
func (p *pair) flows(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	first, came := p.next+1, false
	testenv.Eventually(t, patience, func() error { // once more, since what is published while it is away is lost
		p.next++
		err := p.one.Publish(ctx, hints(p.next, 1))
		if came = came || p.comes(ctx, first); came {
			return nil
		}
		return fmt.Errorf("no id comes (publish: %w); the log:\n%s", err, p.log)
	})
	for received := false; !received; {
		if ctx.Err() != nil {
			t.Fatalf("no event comes; the log:\n%s", p.log)
		}
		p.two.Broadcast([]broker.Event{{Kind: broker.Resumed, Queue: "q"}})
		brief, stop := context.WithTimeout(ctx, time.Second)
		got, _ := p.listener.Next(brief)
		stop()
		received = len(got.Events) > 0
	}
}

// comes reports whether an id from a first one on comes within a moment.
func (p *pair) comes(ctx context.Context, first int) bool {
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

// TestThePushPathComesBack does to a real server what operators and accidents do. Ids and events flow again
// each time without a restart, and the log has the server's words.
func TestThePushPathComesBack(t *testing.T) {
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
		}, []string{"the queue of events was deleted", "the broker is back"}},
		"the exchange is deleted": {func(t *testing.T, p *pair) {
			must(t, p.raw.ExchangeDelete(p.one.events.exchange(), false, false))
		}, []string{"404", "NOT_FOUND", "the broker is back"}},
		"a queue is deleted under its consumer": {func(t *testing.T, p *pair) {
			_, err := p.raw.QueueDelete(p.lane(), false, false, false)
			must(t, err)
		}, nil},
		"a queue is deleted and made with other arguments": {func(t *testing.T, p *pair) {
			_, err := p.raw.QueueDelete(p.lane(), false, false, false)
			must(t, err)
			_, err = p.raw.QueueDeclare(p.lane(), true, false, false, false, nil)
			if err != nil { // the nodes were quicker
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
			p.one.getting.now().Close()
			p.two.sending.now().Close()
		}, []string{"the broker is away", "the broker is back"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, server)
			p.begin(t)
			mark := len(p.log.String())
			c.fault(t, p)
			testenv.Eventually(t, patience, func() error {
				for _, words := range c.says {
					if !strings.Contains(p.log.since(mark), words) {
						return errors.New("the log does not say " + words)
					}
				}
				return nil
			})
			p.flows(t)
		})
	}
}

// TestAQueueWithOtherArgumentsIsUsedAsItIs has somebody else make the queue first.
func TestAQueueWithOtherArgumentsIsUsedAsItIs(t *testing.T) {
	t.Parallel()
	p := newPair(t, testenv.RabbitMQ(t))
	_, err := p.raw.QueueDeclare(p.lane(), true, false, false, false, lib.Table{"x-max-length": 1000})
	must(t, err)
	p.begin(t)
	for _, words := range []string{"unexpected arguments", "406", "PRECONDITION_FAILED"} {
		if !strings.Contains(p.log.String(), words) {
			t.Errorf("the log does not say %s:\n%s", words, p.log)
		}
	}
	if n := strings.Count(p.log.String(), "unexpected arguments"); n != 2 {
		t.Errorf("two nodes have told of it %d times", n)
	}
}

// TestAnAlarmCostsNoLane sets the server's memory alarm, publishes until it is received, and clears it.
func TestAnAlarmCostsNoLane(t *testing.T) {
	t.Parallel()
	server := testenv.RabbitMQ(t)
	p := newPair(t, server)
	p.begin(t)
	for range 2 {
		mark := len(p.log.String())
		server.Control(t, "-q", "set_vm_memory_high_watermark", "0.00000001")
		testenv.Eventually(t, patience, func() error {
			p.next++
			if err := p.one.Publish(t.Context(), hints(p.next, 1)); err == nil || !strings.Contains(err.Error(), "no room") {
				return errors.New("it still takes something")
			}
			return nil
		})
		if away, _ := p.one.is.state(); !away {
			t.Error("the broker does not count as away")
		}
		server.Control(t, "-q", "set_vm_memory_high_watermark", "0.6")
		p.flows(t)
		if said := p.log.since(mark); strings.Contains(said, "made anew") || !strings.Contains(said, "low on memory") {
			t.Errorf("the log says\n%s", said)
		}
	}
}

// eventQueues lists the queues at the exchange of events.
func eventQueues(t *testing.T, server *testenv.RabbitMQServer, p *pair) (names []string) {
	t.Helper()
	for line := range strings.Lines(server.Control(t, "-q", "--no-table-headers", "list_bindings", "source_name", "destination_name")) {
		if source, queue, _ := strings.Cut(strings.TrimSpace(line), "\t"); source == p.one.events.exchange() {
			names = append(names, queue)
		}
	}
	if len(names) != 2 {
		t.Fatalf("two nodes have the queues %v", names)
	}
	return names
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
