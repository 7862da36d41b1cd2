// Package rabbitmq is the driver of broker for RabbitMQ.
//
// Each lane of ids is a quorum queue: one for each queue, priority and action, so that a
// node gets only ids that it can run. A message carries one id when few wait, and up to
// idsMost when many do. A node that publishes to a new lane declares it and announces it to
// all nodes. Nodes that can run its ids consume from it from then on. A node that starts
// later asks which lanes there are.
//
// Arriving ids go into the taker's list, a broker.Memory, which chooses their order. The
// prefetch of each lane follows from the weights of the priorities. A message is
// acknowledged when all its ids are. A taker that takes nothing for a while gives its
// messages back, so that busy nodes keep nothing from idle ones.
//
// Events go through one exchange to a short queue of each node. Both are transient.
//
//	Publish ──→ publisher ──→ lane (quorum queue) ──→ taker's list ──→ Take
//	Broadcast ─→ outbox ────→ exchange ─→ node's queue ─→ Memory ───→ Next
//
// There are two connections, since RabbitMQ blocks a connection that publishes when it has
// no room, and with it everything that is consumed on it. Each connection reconnects by
// itself, after a growing pause. Everything is then declared anew, takers are told that
// they are behind, and listeners that they missed something.
package rabbitmq

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/task"
)

const (
	// laneMin and laneMax are the bounds of the pause before a failed consume is repeated.
	laneMin = time.Second
	laneMax = time.Minute
	// openPatience is how long Open waits for the server, so that a starting node does not
	// report a server as away that is not.
	openPatience = 2 * time.Second
	// defaultPrefix is how all names on the server begin.
	defaultPrefix = "posta"
)

// Config configures a Broker.
type Config struct {
	URL    string        // required: amqp://USER:PASSWORD@HOST:PORT/VHOST, see parseURL
	Prefix string        // of all names on the server; "posta". Nodes with different prefixes share nothing
	Bounds broker.Bounds // LaneIDs and Events; IDs is not used
	Logger *slog.Logger  // for lost connections and foreign messages; nil: none
}

// Broker is a node's end of the broker. It implements broker.Broker.
type Broker struct {
	config  Config
	log     *slog.Logger
	publish *publisher
	events  *events
	sending *link // publishes
	getting *link // consumes
	stop    context.CancelFunc
	stopped <-chan struct{} // closed by stop
	parts   sync.WaitGroup  // all goroutines; see part
	closed  atomic.Bool
	taken   atomic.Int64
	foreign atomic.Int64 // foreign messages

	is *condition

	mu     sync.Mutex // guards the fields below
	takers map[*taker]struct{}
	lanes  map[lane]struct{} // announced lanes
	warned map[lane]string   // the last warning about a lane
	tried  map[lane]int      // failed consumes in a row, by lane
}

// Open returns a broker. It waits up to openPatience for the server, but a server that is away is no
// error.
func Open(config Config) (*Broker, error) {
	where, err := parseURL(config.URL)
	if err != nil {
		return nil, err
	}
	if where.exposed() && config.Logger != nil {
		config.Logger.Warn("the broker is reached in plain text, its password too; amqps:// encrypts", "broker", where.String())
	}
	return open(config, where.dial), nil
}

// open is Open with a dialer.
func open(config Config, dial dialer) *Broker {
	config.Prefix = cmp.Or(config.Prefix, defaultPrefix)
	config.Bounds.LaneIDs = cmp.Or(config.Bounds.LaneIDs, broker.DefaultLaneIDs)
	config.Bounds.Events = cmp.Or(config.Bounds.Events, broker.DefaultEvents)
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	b := &Broker{config: config, log: config.Logger, takers: map[*taker]struct{}{}, lanes: map[lane]struct{}{},
		warned: map[lane]string{}, tried: map[lane]int{}}
	b.publish, b.events = newPublisher(b), newEvents(b)
	b.is = newCondition(b.log)
	b.sending = &link{dial: dial, is: b.is, name: "publishing", up: b.publish.attach, down: b.publish.detach}
	b.getting = &link{dial: dial, is: b.is, name: "consuming", up: b.attach, down: b.detach}
	ctx, stop := context.WithCancel(context.Background())
	b.stop, b.stopped = stop, ctx.Done()
	for _, part := range []func(context.Context){b.sending.run, b.getting.run, b.publish.run, b.events.run} {
		b.parts.Go(func() { part(ctx) })
	}
	patience := time.After(openPatience)
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
	takers := b.takers
	list := make([]*taker, 0, len(takers))
	for t := range takers {
		list = append(list, t)
	}
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

// learn adds a lane. Takers that can run its ids consume from it.
func (b *Broker) learn(l lane) {
	b.mu.Lock()
	if _, known := b.lanes[l]; !known && len(b.lanes) >= lanesMost {
		b.mu.Unlock()
		return
	}
	b.lanes[l] = struct{}{}
	var list []*taker
	for t := range b.takers {
		list = append(list, t)
	}
	b.mu.Unlock()
	for _, t := range list {
		t.subscribe(l)
	}
}

// declare declares the queue of a lane. A queue that exists with other arguments, from another
// version or an operator, is used as it is: it holds only hints.
func (b *Broker) declare(ch channel, l lane) error {
	err := ch.DeclareLane(l.name(b.config.Prefix), b.config.Bounds.LaneIDs*idBytes)
	if err != nil && isMismatch(err) {
		b.warnLane(l, "the queue has unexpected arguments and is used as it is; delete it, and Posta makes it anew", err)
		return nil
	}
	return err
}

// warnLane logs a problem of a lane, once.
func (b *Broker) warnLane(l lane, message string, err error) {
	b.mu.Lock()
	told := b.warned[l] == message
	b.warned[l] = message
	b.mu.Unlock()
	if !told {
		b.log.Warn("a queue of the broker has a problem", "lane", l.name(b.config.Prefix), "what", message, "error", err)
	}
}

// unconsumed notes whether consuming from a lane failed. After a failure it is tried again, with
// growing pauses, since each try may end the channel.
func (b *Broker) unconsumed(l lane, err error) {
	b.mu.Lock()
	if err == nil {
		delete(b.tried, l)
		b.mu.Unlock()
		return
	}
	pause := min(laneMin<<min(b.tried[l], 10), laneMax)
	b.tried[l]++
	b.mu.Unlock()
	b.warnLane(l, "the queue cannot be consumed", err)
	b.part(func() {
		if b.rest(pause) {
			b.learn(l)
		}
	})
}

// part runs a function in a goroutine that Close waits for. After Close it does nothing.
func (b *Broker) part(do func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed.Load() { // Close takes mu after it has set closed, and waits after that
		b.parts.Go(do)
	}
}

// rest waits. It returns false, at once, when the broker is closed.
func (b *Broker) rest(pause time.Duration) bool {
	select {
	case <-time.After(pause):
		return !b.closed.Load()
	case <-b.stopped:
		return false
	}
}

// known returns the known lanes.
func (b *Broker) known() []lane {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]lane, 0, len(b.lanes))
	for l := range b.lanes {
		list = append(list, l)
	}
	return list
}

// markBehind marks the takers of a queue: the store has ids that the broker dropped.
func (b *Broker) markBehind(queue string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for t := range b.takers {
		if t.works(queue) {
			t.fallBehind()
		}
	}
}

// Publish implements broker.IDs.
func (b *Broker) Publish(ctx context.Context, hints []broker.Hint) error {
	if err := ctx.Err(); err != nil {
		return task.Refuse(task.Unavailable, "the broker was not asked: %v", err)
	}
	parcels, err := pack(hints)
	if err != nil {
		return err
	}
	if b.closed.Load() {
		return errClosed()
	}
	if err = b.publish.send(ctx, parcels); err != nil {
		b.is.refuses()
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
	if c := b.getting.now(); c != nil {
		if err := t.attach(c); err != nil {
			b.getting.giveUp(c, err)
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
	s.Away, s.Outages = b.is.state()
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
	b.parts.Wait()
	return nil
}

// errClosed returns the refusal of a closed broker, taker or listener.
func errClosed() error { return task.Refuse(task.Unavailable, "the broker is closed") }

// errAway returns the refusal of Publish while the server cannot be used.
func errAway(why string) error { return task.Refuse(task.Unavailable, "the broker is away: %s", why) }
