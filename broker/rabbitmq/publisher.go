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
	// batchMost limits the messages that are published before their confirms are awaited.
	batchMost = 1_024
	// confirmPatience is how long a confirm may take. After it, nobody knows whether the
	// server has the message, and it may be published again.
	confirmPatience = 3 * time.Second
	// announceAgain is how often a lane in use is announced again, for nodes that missed
	// the last announcement.
	announceAgain = time.Minute
)

// publisher publishes the callers' messages in batches: what came while the last batch was
// confirmed goes into the next one.
type publisher struct {
	broker   *Broker
	requests chan *request
	over     chan struct{} // closed when the publisher has ended
	ready    chan struct{} // closed after the first connection
	wasReady sync.Once

	published, dropped atomic.Int64 // ids

	mu         sync.Mutex // guards the fields below
	channel    channel    // for ids; nil: the server is away
	broadcasts channel    // for broadcasts; nil: the server is away
	link       connection
	gone       chan struct{}   // closed when link has gone; nil: it has
	full       string          // why the server accepts no messages; "": it accepts them
	blocked    context.Context // ends when the server accepts no messages
	block      context.CancelCauseFunc
	known      map[string]time.Time // declared queues, and when each was last announced
	silent     map[string]bool      // queues that did not confirm in time
}

// request holds the messages of one caller.
type request struct {
	parcels []*parcel
	answer  chan error // holds one
}

func newPublisher(b *Broker) *publisher {
	return &publisher{broker: b, requests: make(chan *request), over: make(chan struct{}), ready: make(chan struct{}), silent: map[string]bool{}}
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
	p.channel, p.broadcasts, p.link, p.gone, p.full, p.known = ch, broadcasts, c, gone, "", map[string]time.Time{}
	p.blocked, p.block = context.WithCancelCause(context.Background())
	p.mu.Unlock()
	p.broker.parts.Go(func() { p.watchRoom(c, gone) })
	p.broker.is.works("room") // until Blocked says otherwise
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

// watchRoom notes whether the server accepts messages, until the connection ends. While the server
// is blocked, current publishes fail at once. When it accepts messages again, the connection is
// replaced, since late confirms of the failed messages would be mistaken for those of others.
func (p *publisher) watchRoom(c connection, gone <-chan struct{}) {
	for {
		select {
		case why := <-c.Blocked():
			p.mu.Lock()
			was := p.full
			p.full = why
			if why != "" {
				p.block(errAway(why))
			}
			p.mu.Unlock()
			switch {
			case why != "":
				p.broker.is.fails("room", errors.New(why))
			case was != "":
				p.giveUp(errors.New("the server accepts messages again"))
				return
			}
		case <-gone:
			return
		}
	}
}

// send publishes parcels. It waits no longer than ctx.
func (p *publisher) send(ctx context.Context, parcels []*parcel) error {
	for len(parcels) > 0 {
		n := min(len(parcels), batchMost)
		if err := p.sendSome(ctx, parcels[:n]); err != nil {
			return err
		}
		parcels = parcels[n:]
	}
	return nil
}

func (p *publisher) sendSome(ctx context.Context, parcels []*parcel) error {
	r := &request{parcels, make(chan error, 1)}
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

// run publishes until ctx ends. After that, requests are refused.
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

// gather adds the waiting requests, up to the size of a batch.
func (p *publisher) gather(first *request) []*request {
	list, messages := []*request{first}, len(first.parcels)
	for messages < batchMost {
		select {
		case r := <-p.requests:
			list, messages = append(list, r), messages+len(r.parcels)
		default:
			return list
		}
	}
	return list
}

// serve publishes a batch and answers its requests.
func (p *publisher) serve(ctx context.Context, list []*request) {
	ctx, cancel := context.WithTimeout(ctx, confirmPatience)
	defer cancel()
	var parcels []*parcel
	for _, r := range list {
		parcels = append(parcels, r.parcels...)
	}
	err := p.publishAll(ctx, parcels)
	for _, r := range list {
		if err == nil {
			p.published.Add(idsOf(r.parcels))
		}
		r.answer <- err
	}
}

func idsOf(parcels []*parcel) (n int64) {
	for _, parcel := range parcels {
		n += int64(parcel.ids)
	}
	return n
}

// current returns the channel, or an error if the server accepts no messages.
func (p *publisher) current() (channel, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.full != "":
		return nil, errAway(p.full)
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

// publishAll publishes parcels. Those that came back because their queue is gone are published
// once more. After an error the connection is replaced, since outstanding confirms may never
// come.
func (p *publisher) publishAll(ctx context.Context, parcels []*parcel) error {
	ch, err := p.current()
	if err != nil {
		return err
	}
	ctx, stop := p.whileUnblocked(ctx)
	defer stop()
	for range 2 {
		back, err := p.round(ctx, ch, parcels)
		if why := context.Cause(ctx); err != nil && task.CodeOf(why) == task.Unavailable {
			p.refuse()
			return why
		}
		if err != nil {
			p.giveUp(err)
			return errAway(err.Error())
		}
		if len(back) == 0 {
			return nil
		}
		parcels = back
	}
	return errAway("its queues disappear as fast as they are made")
}

// whileUnblocked returns a context that also ends, with a refusal, when the server blocks.
func (p *publisher) whileUnblocked(ctx context.Context) (context.Context, func()) {
	p.mu.Lock()
	blocked := p.blocked
	p.mu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(blocked, func() { cancel(context.Cause(blocked)) })
	return ctx, func() { unhook(); cancel(nil) }
}

// refuse stops publishing on the channel: messages that were given up may still be confirmed or
// returned on it.
func (p *publisher) refuse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.channel = nil
}

// round publishes parcels once, and returns those that reached no queue.
func (p *publisher) round(ctx context.Context, ch channel, parcels []*parcel) (back []*parcel, err error) {
	confirms := make([]confirmation, len(parcels))
	for i, parcel := range parcels {
		name := parcel.name(p.broker.config.Prefix)
		if err := p.prepare(ch, parcel, name); err != nil {
			return nil, err
		}
		confirms[i], err = ch.Publish(message{Key: name, Body: parcel.body, Durable: true, Number: uint64(i)})
		if err != nil {
			return nil, err
		}
	}
	for i, confirm := range confirms {
		accepted, err := confirm(ctx)
		if err != nil {
			if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
				p.noteSilence(parcels[i])
			}
			return nil, err
		}
		if !accepted {
			p.dropped.Add(int64(parcels[i].ids))
			p.broker.markBehind(parcels[i].Queue)
		}
	}
	for _, n := range ch.Returned() {
		if n >= uint64(len(parcels)) {
			return nil, errors.New("the server returned a message that was not sent")
		}
		back = append(back, parcels[n])
		p.mu.Lock()
		delete(p.known, parcels[n].name(p.broker.config.Prefix))
		p.mu.Unlock()
	}
	return back, nil
}

// noteSilence notes a queue that did not confirm in time. If RabbitMQ is killed soon after a quorum
// queue was made, it can lose the inside of the queue and keep its name. Such a queue never
// confirms anything. A lane holds only hints, so the queue is made anew.
func (p *publisher) noteSilence(to *parcel) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent[to.name(p.broker.config.Prefix)] = true
}

// prepare declares the queue of a parcel, and announces its lane from time to time.
func (p *publisher) prepare(ch channel, to *parcel, name string) error {
	p.mu.Lock()
	announced, declared := p.known[name]
	silent := p.silent[name]
	p.mu.Unlock()
	now := time.Now()
	if declared && now.Sub(announced) < announceAgain {
		return nil
	}
	if !declared && silent {
		p.broker.log.Warn("a lane of the broker is made anew, since it does not confirm", "queue", to.Queue, "action", to.Action)
		if err := ch.DeleteLane(name); err != nil {
			return err
		}
		p.mu.Lock()
		delete(p.silent, name)
		p.mu.Unlock()
	}
	if !declared {
		if err := p.broker.declare(ch, to.lane); err != nil {
			return err
		}
	}
	p.mu.Lock()
	p.known[name] = now
	p.mu.Unlock()
	p.broker.events.announce([]lane{to.lane})
	return nil
}

// giveUp replaces the connection.
func (p *publisher) giveUp(why error) {
	p.mu.Lock()
	c := p.link
	p.mu.Unlock()
	p.refuse()
	p.broker.sending.giveUp(c, why)
}
