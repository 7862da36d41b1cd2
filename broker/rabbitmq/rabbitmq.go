// Package rabbitmq is the driver of broker for RabbitMQ.
//
// Each lane of ids is a quorum queue of its own: one for each queue, priority and action,
// so that a node gets only what it can run. A message carries one id when few wait, and up
// to idsMost of them when many do. Who publishes to a lane that is new declares it and
// announces it to all nodes, and whoever can run what is in it consumes from it from then
// on; a node that comes later asks which lanes there are.
//
// What arrives goes into a list of the taker's, a broker.Memory, which chooses whose turn it is.
// How many messages may be in it follows from the weights of the priorities. A message is
// acknowledged when all its ids are; a taker that takes nothing for a while gives back what
// it has, so that busy nodes keep nothing from idle ones.
//
// Events go through one exchange to a short queue of each node. Both are transient.
//
//	Publish ──→ publisher ──→ lane (quorum queue) ──→ taker's list ──→ Take
//	Broadcast ─→ outbox ────→ exchange ─→ node's queue ─→ Memory ───→ Next
//
// There are two connections, since RabbitMQ stops a connection that publishes when it has
// no room, and with it all that is consumed on it. Each is opened again by itself, after a
// pause that grows; everything is declared anew then, takers are told that they are
// behind, and listeners that they have missed something.
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
	// laneMin and laneMax bound the pause before a lane is consumed from again that could not be.
	laneMin = time.Second
	laneMax = time.Minute
	// openPatience is how long Open waits for a server: a node that starts should not
	// find it away when it is not.
	openPatience = 2 * time.Second
	// defaultPrefix is what all names on the server begin with.
	defaultPrefix = "posta"
)

// Config says where the server is.
type Config struct {
	URL    string        // needed: see ParseURL
	Prefix string        // of all names on the server; "posta". Nodes with another one share nothing
	Bounds broker.Bounds // LaneIDs, in bytes of ids as long as ours; Events; IDs has no meaning
	Logger *slog.Logger  // connections that come and go, messages that are none of ours; nil: none
}

// Broker is a node's end of a RabbitMQ. It implements broker.Broker.
type Broker struct {
	config  Config
	log     *slog.Logger
	publish *publisher
	notices *notices
	sending *link // publishes
	getting *link // consumes
	stop    context.CancelFunc
	parts   sync.WaitGroup // all goroutines
	closed  atomic.Bool
	taken   atomic.Int64
	foreign atomic.Int64 // messages that were none of ours

	is *condition

	mu     sync.Mutex // guards all below
	takers map[*taker]struct{}
	lanes  map[lane]struct{} // that somebody has announced
	odd    map[lane]string   // lanes that are not as they should be, and what the log has said of it
	tried  map[lane]int      // lanes that cannot be consumed from, and how often that was tried
}

// Open makes a broker, and waits a moment for the server. One that is away is no error.
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

// open makes a broker that connects in its own way.
func open(config Config, dial dialer) *Broker {
	config.Prefix = cmp.Or(config.Prefix, defaultPrefix)
	config.Bounds.LaneIDs = cmp.Or(config.Bounds.LaneIDs, broker.DefaultLaneIDs)
	config.Bounds.Events = cmp.Or(config.Bounds.Events, broker.DefaultEvents)
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	b := &Broker{config: config, log: config.Logger, takers: map[*taker]struct{}{}, lanes: map[lane]struct{}{},
		odd: map[lane]string{}, tried: map[lane]int{}}
	b.publish, b.notices = newPublisher(b), newNotices(b)
	b.is = newCondition(b.log)
	b.sending = &link{dial: dial, is: b.is, name: "publishing", up: b.publish.attach, down: b.publish.detach}
	b.getting = &link{dial: dial, is: b.is, name: "consuming", up: b.attach, down: b.detach}
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	for _, part := range []func(context.Context){b.sending.run, b.getting.run, b.publish.run, b.notices.run} {
		b.parts.Go(func() { part(ctx) })
	}
	patience := time.After(openPatience)
	for _, ready := range []<-chan struct{}{b.publish.ready, b.notices.ready} {
		select {
		case <-ready:
		case <-patience:
			return b
		}
	}
	return b
}

// attach makes all that consumes ready on a new connection.
func (b *Broker) attach(c connection) error {
	if err := b.notices.attach(c); err != nil {
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

// detach is called when the connection that consumes has gone.
func (b *Broker) detach() {
	b.notices.detach()
	b.mu.Lock()
	defer b.mu.Unlock()
	for t := range b.takers {
		t.detach()
	}
}

// learn notes a lane, and has those takers consume from it that can run what is in it.
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

// declare makes the queue of a lane. One that is there with other arguments, of another version or by
// somebody's hand, is used as it is: what is in it are hints.
func (b *Broker) declare(ch channel, l lane) error {
	err := ch.DeclareLane(l.name(b.config.Prefix), b.config.Bounds.LaneIDs*idBytes)
	if err != nil && isMismatch(err) {
		b.tellOdd(l, "a queue of the broker has other arguments than ours and is used as it is; delete it, and it is made anew", err)
		return nil
	}
	return err
}

// tellOdd logs what is wrong with a lane, once.
func (b *Broker) tellOdd(l lane, message string, err error) {
	b.mu.Lock()
	told := b.odd[l] == message
	b.odd[l] = message
	b.mu.Unlock()
	if !told {
		b.log.Warn("a queue of the broker is not as it should be", "lane", l.name(b.config.Prefix), "what", message, "error", err)
	}
}

// unconsumed notes that a lane cannot be consumed from, and has that tried again later and later, since
// a try may cost the channel. nil says that it can.
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
	b.tellOdd(l, "a queue of the broker is not consumed", err)
	time.AfterFunc(pause, func() {
		if !b.closed.Load() {
			b.learn(l)
		}
	})
}

// known lists the lanes.
func (b *Broker) known() []lane {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]lane, 0, len(b.lanes))
	for l := range b.lanes {
		list = append(list, l)
	}
	return list
}

// tellBehind tells the takers of this node that the store has more of a queue than the broker.
func (b *Broker) tellBehind(queue string) {
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
func (b *Broker) Broadcast(events []broker.Event) { b.notices.broadcast(events) }

// Listen implements broker.Events.
func (b *Broker) Listen() (broker.Listener, error) { return b.notices.listen() }

// Stats implements broker.Broker.
func (b *Broker) Stats() broker.Stats {
	s := broker.Stats{
		Published: b.publish.published.Load(), Dropped: b.publish.dropped.Load(), Taken: b.taken.Load(),
	}
	s.Sent, s.Missed = b.notices.counts()
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
	b.notices.close()
	b.stop()
	b.parts.Wait()
	return nil
}

// errClosed is what calls of a closed broker, taker or listener are refused with.
func errClosed() error { return task.Refuse(task.Unavailable, "the broker is closed") }

// errAway is what Publish is refused with while there is no connection.
func errAway(why string) error { return task.Refuse(task.Unavailable, "the broker is away: %s", why) }
