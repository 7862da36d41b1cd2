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
	// batchMost bounds the messages that are published before their confirmations are awaited.
	batchMost = 1_024
	// confirmPatience is how long a confirmation may take. Later it is not known whether the
	// server has the message, which may be published again then.
	confirmPatience = 3 * time.Second
	// announceAgain is how often a lane that is in use is announced, lest a node that missed
	// it never hears of it.
	announceAgain = time.Minute
)

// publisher publishes what callers hand over, batch by batch: whatever waited while the last
// one was confirmed goes into the next.
type publisher struct {
	broker   *Broker
	requests chan *request
	over     chan struct{} // closed when nothing is published any more
	ready    chan struct{} // closed when there was a connection
	wasReady sync.Once

	published, dropped atomic.Int64 // ids

	mu      sync.Mutex // guards all below
	channel channel    // for ids; nil: the server is away
	notices channel    // for what all nodes hear; likewise
	link    connection
	gone    chan struct{}   // closed when link has gone; nil: it has
	full    string          // why the server takes nothing; "": it does
	blocked context.Context // ends when the server takes nothing
	block   context.CancelCauseFunc
	known   map[string]time.Time // queues that are declared, and when they were announced last
	silent  map[string]bool      // queues that have not confirmed what was published to them
}

// request is what one caller wants published.
type request struct {
	parcels []*parcel
	answer  chan error // has room for it
}

func newPublisher(b *Broker) *publisher {
	return &publisher{broker: b, requests: make(chan *request), over: make(chan struct{}), ready: make(chan struct{}), silent: map[string]bool{}}
}

// attach makes the publisher ready on a new connection.
func (p *publisher) attach(c connection) error {
	ch, err := c.Channel()
	if err != nil {
		return err
	}
	notices, err := c.Channel()
	if err != nil {
		return err
	}
	if err := notices.DeclareExchange(p.broker.notices.exchange()); err != nil {
		return err
	}
	gone := make(chan struct{})
	p.mu.Lock()
	p.channel, p.notices, p.link, p.gone, p.full, p.known = ch, notices, c, gone, "", map[string]time.Time{}
	p.blocked, p.block = context.WithCancelCause(context.Background())
	p.mu.Unlock()
	p.broker.parts.Go(func() { p.watchRoom(c, gone) })
	p.broker.is.works("room") // or the first message says that there is none
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
	p.channel, p.notices, p.link, p.gone = nil, nil, nil, nil
}

// watchRoom notes whether the server takes anything, until the connection has gone. What was published
// to one that takes nothing is given up at once. When it takes again, the connection is opened anew:
// the confirmations of what was given up would be taken for those of others.
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
				p.giveUp(errors.New("it takes again, and what was given up is forgotten"))
				return
			}
		case <-gone:
			return
		}
	}
}

// send has parcels published, and waits no longer than ctx.
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

// run publishes until ctx ends, and then refuses for good.
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

// gather takes what else waits, within the bound of a batch.
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

// serve publishes a batch and answers it.
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

// conversation gives the channel, if the server can be published to.
func (p *publisher) conversation() (channel, error) {
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

// tell publishes to all nodes, if the server can be published to. It is for one goroutine.
func (p *publisher) tell(m message) error {
	if _, err := p.conversation(); err != nil {
		return err
	}
	p.mu.Lock()
	ch := p.notices
	p.mu.Unlock()
	_, err := ch.Publish(m)
	if err != nil {
		p.giveUp(err)
	}
	return err
}

// publishAll publishes parcels. What came back, since its queue has gone, is published once
// more. After an error the connection is given up, since confirmations that are outstanding
// may never come.
func (p *publisher) publishAll(ctx context.Context, parcels []*parcel) error {
	ch, err := p.conversation()
	if err != nil {
		return err
	}
	ctx, stop := p.whileItTakes(ctx)
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
	return errAway("its queues go as fast as they come")
}

// whileItTakes gives a context that also ends, with a refusal, when the server says that it takes
// nothing.
func (p *publisher) whileItTakes(ctx context.Context) (context.Context, func()) {
	p.mu.Lock()
	blocked := p.blocked
	p.mu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(blocked, func() { cancel(context.Cause(blocked)) })
	return ctx, func() { unhook(); cancel(nil) }
}

// refuse has nothing published on the channel any more: what was given up may be confirmed, or come
// back, later.
func (p *publisher) refuse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.channel = nil
}

// round publishes parcels once, and gives those that no queue has got.
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
	for i, told := range confirms {
		taken, err := told(ctx)
		if err != nil {
			if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
				p.noteSilence(parcels[i])
			}
			return nil, err
		}
		if !taken {
			p.dropped.Add(int64(parcels[i].ids))
			p.broker.tellBehind(parcels[i].Queue)
		}
	}
	for _, n := range ch.Returned() {
		if n >= uint64(len(parcels)) {
			return nil, errors.New("it returns what was not sent")
		}
		back = append(back, parcels[n])
		p.mu.Lock()
		delete(p.known, parcels[n].name(p.broker.config.Prefix))
		p.mu.Unlock()
	}
	return back, nil
}

// noteSilence notes a queue that did not confirm in time. RabbitMQ can lose the inside of a quorum
// queue, and keep its name, when it is killed soon after the queue was made; nothing that is
// published to it is ever confirmed then. What is in a lane are hints, so it is made anew.
func (p *publisher) noteSilence(to *parcel) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent[to.name(p.broker.config.Prefix)] = true
}

// prepare declares the queue of a parcel, and announces its lane now and then.
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
	p.broker.notices.announce([]lane{to.lane})
	return nil
}

// giveUp has the connection opened anew.
func (p *publisher) giveUp(why error) {
	p.mu.Lock()
	c := p.link
	p.mu.Unlock()
	p.refuse()
	p.broker.sending.giveUp(c, why)
}
