// Package rabbitmq is the driver of broker for RabbitMQ.
//
// Each lane of ids is a quorum queue: one for each queue, priority and action, so that a
// node gets only ids that it can run. A message carries one id when few wait, and up to
// maxMessageIDs when many do. A node that publishes to a new lane declares it and announces
// it to all nodes. Nodes that can run its ids then consume from it. A node that starts later
// asks the others for their lanes.
//
// Arriving ids go into the taker's list, a broker.Memory, which chooses their order. The
// prefetch of each lane follows from the weights of the priorities. A message is
// acknowledged when all its ids are. A taker that takes nothing for a while returns its
// messages to the server, so that busy nodes do not keep ids from idle ones.
//
// Events go through one exchange to a short queue of each node. Both are transient.
//
//	Publish ──→ publisher ──→ lane (quorum queue) ──→ taker's list ──→ Take
//	Broadcast ─→ outbox ────→ exchange ─→ node's queue ─→ Memory ───→ Next
//
// There are two connections, since RabbitMQ blocks a connection that publishes when it is
// out of memory or disk space, and with it all consumers on that connection. Each connection
// reconnects by itself, after a growing pause, and declares everything again. Then takers
// report Behind, and listeners report missed events.
package rabbitmq

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/internal/outage"
	"github.com/posta-tasks/posta/task"
)

const (
	// consumePauseMin and consumePauseMax limit the pause before a failed consume is repeated.
	consumePauseMin = time.Second
	consumePauseMax = time.Minute
	// consumersInterval is how often a node checks that it consumes from its lanes, and
	// maxConsumerChecks how many of them it checks each time.
	consumersInterval = 5 * time.Second
	maxConsumerChecks = 100
	// openTimeout limits how long Open waits for the server. Without the wait, a starting node
	// would report every server as away.
	openTimeout = 2 * time.Second
	// defaultPrefix is the prefix of all names on the server.
	defaultPrefix = "posta"
)

// Config configures a Broker.
type Config struct {
	URL    string        // required: amqp://USER:PASSWORD@HOST:PORT/VHOST; see parseURL
	Prefix string        // of all names on the server; default "posta". Nodes with different prefixes share nothing
	Bounds broker.Bounds // only LaneIDs and Events are used
	Logger *slog.Logger  // for lost connections and foreign messages; nil: no logs

	confirmTimeout time.Duration // default confirmTimeout; tests on a busy machine wait longer
}

// Broker is the broker of one node. It implements broker.Broker.
type Broker struct {
	config      Config
	log         *slog.Logger
	publish     *publisher
	events      *events
	publishLink *link // publishes
	consumeLink *link // consumes
	stop        context.CancelFunc
	stopped     <-chan struct{} // closed by stop
	goroutines  sync.WaitGroup  // all goroutines; see start
	closed      atomic.Bool
	taken       atomic.Int64
	foreign     atomic.Int64 // foreign messages

	outage *outage.Part

	mu       sync.Mutex // guards the fields below
	takers   map[*taker]struct{}
	lanes    map[lane]struct{} // announced lanes
	warned   map[lane]string   // the last warning about a lane
	failures map[lane]int      // failed consumes in a row, by lane
}

// Open returns a broker, which the caller closes. It waits up to two seconds for the server, but a
// server that is away is no error.
func Open(config Config) (*Broker, error) {
	where, err := parseURL(config.URL)
	if err != nil {
		return nil, err
	}
	if where.exposed() && config.Logger != nil {
		config.Logger.Warn("the connection to the broker is plain text, including the password; use amqps:// to encrypt it", "broker", where.String())
	}
	return open(config, where.dial), nil
}

// open opens a broker with a dialer.
func open(config Config, dial dialer) *Broker {
	config.Prefix = cmp.Or(config.Prefix, defaultPrefix)
	config.Bounds.LaneIDs = cmp.Or(config.Bounds.LaneIDs, broker.DefaultLaneIDs)
	config.confirmTimeout = cmp.Or(config.confirmTimeout, confirmTimeout)
	config.Bounds.Events = cmp.Or(config.Bounds.Events, broker.DefaultEvents)
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	b := &Broker{config: config, log: config.Logger, takers: map[*taker]struct{}{}, lanes: map[lane]struct{}{},
		warned: map[lane]string{}, failures: map[lane]int{}}
	b.publish, b.events = newPublisher(b), newEvents(b)
	b.outage = &outage.Part{Name: "the broker", Logger: b.log}
	b.publishLink = &link{dial: dial, outage: b.outage, name: "publishing", up: b.publish.attach, down: b.publish.detach}
	b.consumeLink = &link{dial: dial, outage: b.outage, name: "consuming", up: b.attach, down: b.detach}
	ctx, stop := context.WithCancel(context.Background())
	b.stop, b.stopped = stop, ctx.Done()
	for _, part := range []func(context.Context){b.publishLink.run, b.consumeLink.run, b.publish.run, b.events.run, b.checkConsumers} {
		b.goroutines.Go(func() { part(ctx) })
	}
	patience := time.After(openTimeout)
	for _, ready := range []<-chan struct{}{b.publish.ready, b.events.ready} {
		select {
		case <-ready:
		case <-patience:
			return b
		}
	}
	return b
}

// attach sets all consumers up on a new connection.
func (b *Broker) attach(c connection) error {
	if err := b.events.attach(c); err != nil {
		return err
	}
	b.mu.Lock()
	list := slices.Collect(maps.Keys(b.takers))
	b.mu.Unlock()
	var errs []error
	for _, t := range list {
		errs = append(errs, t.attach(c))
	}
	return errors.Join(errs...)
}

// detach is called when the consuming connection has ended.
func (b *Broker) detach() {
	b.events.detach()
	b.mu.Lock()
	defer b.mu.Unlock()
	for t := range b.takers {
		t.detach()
	}
}

// addLane adds a lane. Takers that can run its ids begin to consume from it. With again, its queue is new, and takers
// that have consumed from the lane before consume again.
func (b *Broker) addLane(l lane, again bool) {
	b.mu.Lock()
	if _, known := b.lanes[l]; !known && len(b.lanes) >= maxLanes {
		b.mu.Unlock()
		return
	}
	b.lanes[l] = struct{}{}
	list := slices.Collect(maps.Keys(b.takers))
	b.mu.Unlock()
	for _, t := range list {
		if again {
			t.resubscribe(l)
		}
		t.subscribe(l)
	}
}

// declare declares the queue of a lane. If the queue exists with other arguments, from another version or
// an operator, it is used as it is, since it holds only hints.
func (b *Broker) declare(ch channel, l lane) error {
	err := ch.DeclareLane(l.name(b.config.Prefix), b.config.Bounds.LaneIDs*idBytes)
	if err != nil && isMismatch(err) {
		b.warnLane(l, "the queue has unexpected arguments and is used as it is; if you delete it, Posta creates it again", err)
		return nil
	}
	return err
}

// warnLane logs a problem of a lane, unless it was the last one that was logged.
func (b *Broker) warnLane(l lane, message string, err error) {
	b.mu.Lock()
	logged := b.warned[l] == message
	b.warned[l] = message
	b.mu.Unlock()
	if !logged {
		b.log.Warn("a queue of the broker has a problem", "lane", l.name(b.config.Prefix), "what", message, "error", err)
	}
}

// noteConsume notes whether consuming from a lane failed. After a failure it tries again, with
// growing pauses, since each try may end the channel.
func (b *Broker) noteConsume(l lane, err error) {
	b.mu.Lock()
	if err == nil {
		delete(b.failures, l)
		b.mu.Unlock()
		return
	}
	pause := min(consumePauseMin<<min(b.failures[l], 10), consumePauseMax)
	b.failures[l]++
	b.mu.Unlock()
	b.warnLane(l, "the queue cannot be consumed", err)
	b.start(func() {
		if b.sleep(pause) {
			b.addLane(l, false)
		}
	})
}

// start runs a function in a goroutine that Close waits for. After Close it does nothing.
func (b *Broker) start(do func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed.Load() { // Close sets closed, then locks mu, then waits
		b.goroutines.Go(do)
	}
}

// sleep waits and returns true. When the broker closes, it returns false at once.
func (b *Broker) sleep(pause time.Duration) bool {
	select {
	case <-time.After(pause):
		return !b.closed.Load()
	case <-b.stopped:
		return false
	}
}

// checkConsumers checks the consumers of all takers at an interval until ctx ends.
func (b *Broker) checkConsumers(ctx context.Context) {
	ticks := time.NewTicker(consumersInterval)
	defer ticks.Stop()
	for {
		select {
		case <-ticks.C:
			b.mu.Lock()
			list := slices.Collect(maps.Keys(b.takers))
			b.mu.Unlock()
			for _, t := range list {
				t.checkConsumers()
			}
		case <-ctx.Done():
			return
		}
	}
}

// known returns the known lanes.
func (b *Broker) known() []lane {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Keys(b.lanes))
}

// markBehind marks the takers of a queue as behind: the store has tasks whose ids the broker dropped.
func (b *Broker) markBehind(queue string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for t := range b.takers {
		if t.works(queue) {
			t.markBehind()
		}
	}
}

// Publish implements broker.IDs.
func (b *Broker) Publish(ctx context.Context, hints []broker.Hint) error {
	if err := ctx.Err(); err != nil {
		return task.Refuse(task.Unavailable, "the broker was not asked: %v", err)
	}
	packets, err := pack(hints)
	if err != nil {
		return err
	}
	if b.closed.Load() {
		return errClosed()
	}
	if err = b.publish.send(ctx, packets); err != nil {
		b.outage.Refused()
	}
	return err
}

// Consume implements broker.IDs.
func (b *Broker) Consume(what broker.Interest) (broker.Taker, error) {
	t := newTaker(b, what)
	b.mu.Lock()
	if b.closed.Load() {
		b.mu.Unlock()
		return nil, errClosed()
	}
	b.takers[t] = struct{}{}
	b.mu.Unlock()
	if c := b.consumeLink.now(); c != nil {
		if err := t.attach(c); err != nil {
			b.consumeLink.giveUp(c, err)
		}
	}
	return t, nil
}

// Broadcast implements broker.Events.
func (b *Broker) Broadcast(events []broker.Event) { b.events.broadcast(events) }

// Listen implements broker.Events.
func (b *Broker) Listen() (broker.Listener, error) { return b.events.listen() }

// Stats implements broker.Broker.
func (b *Broker) Stats() broker.Stats {
	s := broker.Stats{
		Published: b.publish.published.Load(), Dropped: b.publish.dropped.Load(), Taken: b.taken.Load(),
	}
	s.Sent, s.Missed = b.events.counts()
	s.Away, s.Outages = b.outage.State()
	b.mu.Lock()
	defer b.mu.Unlock()
	for t := range b.takers {
		s.Held += t.held()
	}
	return s
}

// Close implements broker.Broker.
func (b *Broker) Close() error {
	if b.closed.Swap(true) {
		return nil
	}
	b.mu.Lock()
	list := b.takers
	b.takers = map[*taker]struct{}{}
	b.mu.Unlock()
	for t := range list {
		t.end()
	}
	b.events.close()
	b.stop()
	b.goroutines.Wait()
	return nil
}

// errClosed returns the error of a closed broker, taker or listener.
func errClosed() error { return task.Refuse(task.Unavailable, "the broker is closed") }

// errAway returns the error of Publish while the server cannot be used.
func errAway(why string) error { return task.Refuse(task.Unavailable, "the broker is away: %s", why) }

// Kind returns what people call this broker.
func (b *Broker) Kind() string { return "RabbitMQ" }
