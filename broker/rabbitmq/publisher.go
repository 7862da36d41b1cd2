package rabbitmq

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/task"
)

const (
	// maxBatch is the largest number of messages that are published before waiting for their
	// confirms.
	maxBatch = 1_024
	// confirmTimeout, unless Config says otherwise, limits the wait for a confirm. After it, the server may or may not have
	// the message, and the message may be published again.
	confirmTimeout = 3 * time.Second
	// reannounceInterval is how often a lane in use is announced again, for nodes that missed
	// an announcement.
	reannounceInterval = time.Minute
)

// publisher publishes messages in batches: the messages that callers send while the server
// confirms one batch form the next one.
type publisher struct {
	broker   *Broker
	requests chan *request
	over     chan struct{} // closed when the publisher has ended
	ready    chan struct{} // closed after the first connection
	wasReady sync.Once

	published, dropped atomic.Int64 // ids

	mu          sync.Mutex // guards the fields below
	channel     channel    // for ids; nil: the server is away
	broadcasts  channel    // for broadcasts; nil: the server is away
	link        connection
	gone        chan struct{}   // closed when link ends; nil: there is no link
	blockReason string          // why the server accepts no messages; "": it accepts them
	blocked     context.Context // ends when the server accepts no messages
	block       context.CancelCauseFunc
	known       map[string]time.Time // declared queues, and when each was last announced
	unconfirmed map[string]bool      // queues that did not confirm in time
	deleted     map[string]bool      // queues that were deleted, until the publisher has declared them again
}

// request holds the messages of one caller.
type request struct {
	packets []*packet
	answer  chan error // has a buffer of one
}

func newPublisher(b *Broker) *publisher {
	return &publisher{broker: b, requests: make(chan *request), over: make(chan struct{}), ready: make(chan struct{}), unconfirmed: map[string]bool{},
		deleted: map[string]bool{}}
}

// attach sets the publisher up on a new connection.
func (p *publisher) attach(c connection) error {
	ch, err := c.Channel()
	if err != nil {
		return err
	}
	broadcasts, err := c.Channel()
	if err != nil {
		return err
	}
	if err := broadcasts.DeclareExchange(p.broker.events.exchange()); err != nil {
		return err
	}
	gone := make(chan struct{})
	p.mu.Lock()
	p.channel, p.broadcasts, p.link, p.gone, p.blockReason, p.known = ch, broadcasts, c, gone, "", map[string]time.Time{}
	p.blocked, p.block = context.WithCancelCause(context.Background())
	p.mu.Unlock()
	p.broker.goroutines.Go(func() { p.watchBlocked(c, gone) })
	p.broker.outage.Up("space") // until Blocked says otherwise
	p.wasReady.Do(func() { close(p.ready) })
	return nil
}

func (p *publisher) detach() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone != nil {
		close(p.gone)
		p.block(nil)
	}
	p.channel, p.broadcasts, p.link, p.gone = nil, nil, nil, nil
}

// watchBlocked notes whether the server accepts messages, until the connection ends. When the server
// stops accepting them, current publishes fail at once. When it accepts messages again, watchBlocked
// replaces the connection, since late confirms of the failed messages would be mistaken for others.
func (p *publisher) watchBlocked(c connection, gone <-chan struct{}) {
	for {
		select {
		case why := <-c.Blocked():
			p.mu.Lock()
			was := p.blockReason
			p.blockReason = why
			if why != "" {
				p.block(errAway(why))
			}
			p.mu.Unlock()
			switch {
			case why != "":
				p.broker.outage.Down("space", errors.New(why))
			case was != "":
				p.giveUp(errors.New("the server accepts messages again"))
				return
			}
		case <-gone:
			return
		}
	}
}

// send publishes packets and waits for their confirms, but no longer than ctx.
func (p *publisher) send(ctx context.Context, packets []*packet) error {
	for len(packets) > 0 {
		n := min(len(packets), maxBatch)
		if err := p.sendSome(ctx, packets[:n]); err != nil {
			return err
		}
		packets = packets[n:]
	}
	return nil
}

func (p *publisher) sendSome(ctx context.Context, packets []*packet) error {
	r := &request{packets, make(chan error, 1)}
	select {
	case p.requests <- r:
	case <-p.over:
		return errClosed()
	case <-ctx.Done():
		return task.Refuse(task.Unavailable, "the broker did not answer: %v", ctx.Err())
	}
	select {
	case err := <-r.answer:
		return err
	case <-ctx.Done():
		return task.Refuse(task.Unavailable, "the broker did not answer: %v", ctx.Err())
	}
}

// run publishes until ctx ends. Later requests fail.
func (p *publisher) run(ctx context.Context) {
	defer close(p.over)
	for {
		select {
		case r := <-p.requests:
			p.serve(ctx, p.gather(r))
		case <-ctx.Done():
			return
		}
	}
}

// gather returns the first request with those that wait, up to the size of a batch.
func (p *publisher) gather(first *request) []*request {
	list, messages := []*request{first}, len(first.packets)
	for messages < maxBatch {
		select {
		case r := <-p.requests:
			list, messages = append(list, r), messages+len(r.packets)
		default:
			return list
		}
	}
	return list
}

// serve publishes a batch and answers its requests.
func (p *publisher) serve(ctx context.Context, list []*request) {
	ctx, cancel := context.WithTimeout(ctx, p.broker.config.confirmTimeout)
	defer cancel()
	var packets []*packet
	for _, r := range list {
		packets = append(packets, r.packets...)
	}
	err := p.publishAll(ctx, packets)
	for _, r := range list {
		if err == nil {
			p.published.Add(idsOf(r.packets))
		}
		r.answer <- err
	}
}

func idsOf(packets []*packet) (n int64) {
	for _, packet := range packets {
		n += int64(packet.ids)
	}
	return n
}

// current returns the channel, or an error if the server accepts no messages.
func (p *publisher) current() (channel, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.blockReason != "":
		return nil, errAway(p.blockReason)
	case p.channel == nil:
		return nil, errAway("there is no connection")
	}
	return p.channel, nil
}

// broadcast publishes a message to all nodes. Only one goroutine may call it.
func (p *publisher) broadcast(m message) error {
	if _, err := p.current(); err != nil {
		return err
	}
	p.mu.Lock()
	ch := p.broadcasts
	p.mu.Unlock()
	_, err := ch.Publish(m)
	if err != nil {
		p.giveUp(err)
	}
	return err
}

// publishAll publishes packets. It publishes those that the server returned, because their queue
// is gone, once more. After an error it replaces the connection, since outstanding confirms may
// never arrive.
func (p *publisher) publishAll(ctx context.Context, packets []*packet) error {
	ch, err := p.current()
	if err != nil {
		return err
	}
	ctx, stop := p.whileUnblocked(ctx)
	defer stop()
	for range 2 {
		back, err := p.publishOnce(ctx, ch, packets)
		if why := context.Cause(ctx); err != nil && task.CodeOf(why) == task.Unavailable {
			p.dropChannel()
			return why
		}
		if err != nil {
			p.giveUp(err)
			return errAway(err.Error())
		}
		if len(back) == 0 {
			return nil
		}
		packets = back
	}
	return errAway("its queues disappear as fast as they are created")
}

// whileUnblocked returns a context that also ends when the server blocks; its cause is the error.
func (p *publisher) whileUnblocked(ctx context.Context) (context.Context, func()) {
	p.mu.Lock()
	blocked := p.blocked
	p.mu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(blocked, func() { cancel(context.Cause(blocked)) })
	return ctx, func() { unhook(); cancel(nil) }
}

// dropChannel stops publishing on the channel: the server may still confirm or return abandoned
// messages on it.
func (p *publisher) dropChannel() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.channel = nil
}

// publishOnce publishes packets once, and returns those that reached no queue.
func (p *publisher) publishOnce(ctx context.Context, ch channel, packets []*packet) (back []*packet, err error) {
	confirms := make([]confirmation, len(packets))
	for i, packet := range packets {
		name := packet.name(p.broker.config.Prefix)
		if err := p.prepare(ch, packet, name); err != nil {
			return nil, err
		}
		confirms[i], err = ch.Publish(message{Key: name, Body: packet.body, Durable: true, Number: uint64(i)})
		if err != nil {
			return nil, err
		}
	}
	for i, confirm := range confirms {
		accepted, err := confirm(ctx)
		if err != nil {
			if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
				p.noteUnconfirmed(packets[i])
			}
			return nil, err
		}
		if !accepted {
			p.dropped.Add(int64(packets[i].ids))
			p.broker.markBehind(packets[i].Queue)
		}
	}
	for _, n := range ch.Returned() {
		if n >= uint64(len(packets)) {
			return nil, errors.New("the server returned a message that was not sent")
		}
		back = append(back, packets[n])
		p.noteDeleted(packets[n])
	}
	return back, nil
}

// noteUnconfirmed notes a queue that did not confirm in time, so that prepare creates it again. If
// RabbitMQ is killed soon after a quorum queue was declared, it can lose the contents of the queue
// and keep its name. Such a queue never confirms anything. A lane holds only hints, so nothing is
// lost with it.
func (p *publisher) noteUnconfirmed(to *packet) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unconfirmed[to.name(p.broker.config.Prefix)] = true
}

// noteDeleted notes a queue that no longer exists, so that prepare declares it again and the announcement says so.
func (p *publisher) noteDeleted(to *packet) {
	p.mu.Lock()
	defer p.mu.Unlock()
	name := to.name(p.broker.config.Prefix)
	delete(p.known, name)
	p.deleted[name] = true
}

// prepare declares the queue of a packet, and announces its lane at an interval.
func (p *publisher) prepare(ch channel, to *packet, name string) error {
	p.mu.Lock()
	announced, declared := p.known[name]
	unconfirmed := p.unconfirmed[name]
	p.mu.Unlock()
	now := time.Now()
	if declared && now.Sub(announced) < reannounceInterval {
		return nil
	}
	if !declared && unconfirmed {
		p.broker.log.Warn("a queue of the broker does not confirm and is created again", "queue", to.Queue, "action", to.Action)
		if err := ch.DeleteLane(name); err != nil {
			return err
		}
		p.mu.Lock()
		delete(p.unconfirmed, name)
		p.deleted[name] = true
		p.mu.Unlock()
	}
	if !declared {
		if err := p.broker.declare(ch, to.lane); err != nil {
			return err
		}
	}
	p.mu.Lock()
	p.known[name] = now
	again := p.deleted[name]
	delete(p.deleted, name)
	p.mu.Unlock()
	p.broker.events.announce([]announcement{{to.lane, again}})
	return nil
}

// giveUp replaces the connection.
func (p *publisher) giveUp(why error) {
	p.mu.Lock()
	c := p.link
	p.mu.Unlock()
	p.dropChannel()
	p.broker.publishLink.giveUp(c, why)
}
