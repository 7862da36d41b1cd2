package post

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/durable/group"
	"github.com/posta-tasks/posta/task"
)

// outbox holds what waits for the broker, up to a bound.
type outbox[T any] struct {
	most          int
	wake          chan struct{}
	sent, dropped atomic.Int64

	mu      sync.Mutex // guards the one below
	waiting []T
}

func newOutbox[T any](most int) *outbox[T] {
	return &outbox[T]{most: most, wake: make(chan struct{}, 1)}
}

// put adds what there is room for, and tells whether that was all.
func (b *outbox[T]) put(list []T) bool {
	if len(list) == 0 {
		return true
	}
	b.mu.Lock()
	room := min(len(list), b.most-len(b.waiting))
	b.waiting = append(b.waiting, list[:room]...)
	b.mu.Unlock()
	b.dropped.Add(int64(len(list) - room))
	poke(b.wake)
	return room == len(list)
}

// take gives the next batch.
func (b *outbox[T]) take() []T {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(len(b.waiting), batchMost)
	batch := b.waiting[:n:n]
	if b.waiting = b.waiting[n:]; len(b.waiting) == 0 {
		b.waiting = nil
	}
	return batch
}

// Offer hands over tasks that are queued and have no place in this process.
func (p *Post) Offer(tasks []*task.Task) { p.offer(hintsOf(tasks)) }

func (p *Post) offer(hints []broker.Hint) {
	if !p.hints.put(hints) {
		p.config.Behind()
	}
}

func hintsOf(tasks []*task.Task) []broker.Hint {
	hints := make([]broker.Hint, len(tasks))
	for i, t := range tasks {
		hints[i] = broker.Hint{ID: t.ID, Queue: t.Queue, Priority: t.Priority, Action: t.Action}
	}
	return hints
}

// Tell tells every node what has become of tasks.
func (p *Post) Tell(tasks []task.Task) {
	events := make([]broker.Event, 0, len(tasks))
	for i := range tasks {
		t := &tasks[i]
		event := broker.Event{Kind: broker.Changed, Task: t.ID, Queue: t.Queue, Attempt: t.Attempt}
		if n := len(t.History); n > 0 {
			event.Entry = t.History[n-1]
		}
		if t.Cancelling {
			event.Kind, event.Entry = broker.Cancelling, task.Entry{}
		}
		events = append(events, event)
	}
	p.TellEvents(events)
}

// TellEvents tells every node of these.
func (p *Post) TellEvents(events []broker.Event) {
	p.events.put(events)
	if slices.ContainsFunc(events, isUrgent) {
		poke(p.hurry)
	}
}

// isUrgent tells whether somebody may wait for an event.
func isUrgent(ev broker.Event) bool {
	return ev.Kind != broker.Changed || ev.Entry.State != task.Running
}

// urgent tells whether an event that waits is such.
func (p *Post) urgent() bool {
	p.events.mu.Lock()
	defer p.events.mu.Unlock()
	return len(p.events.waiting) >= batchMost || slices.ContainsFunc(p.events.waiting, isUrgent)
}

// TellPause tells every node that a queue is paused, or goes on.
func (p *Post) TellPause(queue string, isPaused bool) {
	kind := broker.Resumed
	if isPaused {
		kind = broker.Paused
	}
	p.TellEvents([]broker.Event{{Kind: kind, Queue: queue}})
}

// publish gives hints to the broker until ctx ends, and then what is left, once: a node that
// stops leaves tasks behind which others may run at once.
func (p *Post) publish(ctx context.Context) {
	away := awayMin
	for {
		select {
		case <-p.hints.wake:
		case <-ctx.Done():
		}
		for batch := p.hints.take(); len(batch) > 0; batch = p.hints.take() {
			if p.publishBatch(ctx, batch) {
				away = awayMin
				continue
			}
			if !pause(ctx, away) {
				return
			}
			away = min(2*away, awayMax)
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// publishBatch makes one call, and another one if that was cut short by the end; a hint that the broker
// cannot take keeps no other from being published. What the broker refuses is left to the poll: this
// process's own begins as soon as it has room. It reports whether the broker is there.
func (p *Post) publishBatch(ctx context.Context, batch []broker.Hint) bool {
	errs := group.Apart(context.WithoutCancel(ctx), len(batch), func(from, to int) error {
		err := p.call(ctx, batch[from:to], publishTimeout)
		if err != nil && ctx.Err() != nil {
			err = p.call(context.WithoutCancel(ctx), batch[from:to], lastTimeout)
		}
		return err
	})
	lost, away := 0, false
	for i, err := range errs {
		if err == nil {
			continue
		}
		lost++
		if group.Blames(err) {
			p.config.Refused(batch[i].ID, err)
		} else {
			away = true
		}
	}
	p.published.Add(int64(len(batch) - lost))
	if lost > 0 {
		p.lost.Add(int64(lost))
		p.config.Behind()
	}
	return !away
}

func (p *Post) call(ctx context.Context, batch []broker.Hint, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return p.config.Broker.Publish(ctx, batch)
}

// broadcast gives events to the broker until ctx ends, and then what is left. That a task has begun waits a
// moment for company: most often it has soon ended, too.
func (p *Post) broadcast(ctx context.Context) {
	for {
		stopped := false
		select {
		case <-p.events.wake:
			select {
			case <-p.hurry: // of events that are here already
			default:
			}
			stopped = !p.urgent() && !pauseOr(ctx, companyWait, p.hurry)
		case <-ctx.Done():
			stopped = true
		}
		for batch := p.events.take(); len(batch) > 0; batch = p.events.take() {
			p.config.Broker.Broadcast(batch)
			p.events.sent.Add(int64(len(batch)))
		}
		if stopped {
			return
		}
	}
}
