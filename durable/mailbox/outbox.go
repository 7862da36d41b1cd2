package mailbox

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/durable/batch"
	"github.com/posta-tasks/posta/internal/wait"
	"github.com/posta-tasks/posta/task"
)

// outbox has the items that wait for the broker, up to a limit.
type outbox[T any] struct {
	most          int
	wake          wait.Signal
	sent, dropped atomic.Int64

	mu      sync.Mutex // guards the field below
	waiting []T
}

func newOutbox[T any](most int) *outbox[T] {
	return &outbox[T]{most: most, wake: wait.NewSignal()}
}

// put adds the items for which there is room, and reports whether these were all.
func (b *outbox[T]) put(list []T) bool {
	if len(list) == 0 {
		return true
	}
	b.mu.Lock()
	room := min(len(list), b.most-len(b.waiting))
	b.waiting = append(b.waiting, list[:room]...)
	b.mu.Unlock()
	b.dropped.Add(int64(len(list) - room))
	b.wake.Set()
	return room == len(list)
}

// take returns the next batch.
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

// Offer offers queued tasks that no engine of this process can run to other nodes.
func (m *Mailbox) Offer(tasks []*task.Task) { m.offer(hintsOf(tasks)) }

func (m *Mailbox) offer(hints []broker.Hint) {
	if !m.hints.put(hints) {
		m.config.Behind()
	}
}

func hintsOf(tasks []*task.Task) []broker.Hint {
	hints := make([]broker.Hint, len(tasks))
	for i, t := range tasks {
		hints[i] = broker.Hint{ID: t.ID, Queue: t.Queue, Priority: t.Priority, Action: t.Action}
	}
	return hints
}

// SendChanges sends changes of tasks to all nodes.
func (m *Mailbox) SendChanges(tasks []task.Task) {
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
	m.SendEvents(events)
}

// SendEvents sends events to all nodes.
func (m *Mailbox) SendEvents(events []broker.Event) {
	m.events.put(events)
	if slices.ContainsFunc(events, isUrgent) {
		m.hurry.Set()
	}
}

// isUrgent reports whether a client may wait for an event.
func isUrgent(ev broker.Event) bool {
	return ev.Kind != broker.Changed || ev.Entry.State != task.Running
}

// urgent reports whether an urgent event waits.
func (m *Mailbox) urgent() bool {
	m.events.mu.Lock()
	defer m.events.mu.Unlock()
	return len(m.events.waiting) >= batchMost || slices.ContainsFunc(m.events.waiting, isUrgent)
}

// SendPause notifies all nodes that a queue was paused or resumed.
func (m *Mailbox) SendPause(queue string, isPaused bool) {
	kind := broker.Resumed
	if isPaused {
		kind = broker.Paused
	}
	m.SendEvents([]broker.Event{{Kind: kind, Queue: queue}})
}

// publish sends hints to the broker until ctx ends, and then the rest once, since other nodes can run the tasks of
// a node that stops.
func (m *Mailbox) publish(ctx context.Context) {
	away := awayMin
	for {
		select {
		case <-m.hints.wake:
		case <-ctx.Done():
		}
		for hints := m.hints.take(); len(hints) > 0; hints = m.hints.take() {
			if m.publishBatch(ctx, hints) {
				away = awayMin
				continue
			}
			if !wait.For(ctx, away) {
				return
			}
			away = min(2*away, awayMax)
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// publishBatch makes one call, and another one if the end of ctx interrupted it. If the broker cannot take one of
// the hints, the others are still published. Polling finds the tasks of refused hints; this process polls as soon
// as it has capacity. It reports whether the broker has answered.
func (m *Mailbox) publishBatch(ctx context.Context, hints []broker.Hint) bool {
	errs := batch.Isolate(context.WithoutCancel(ctx), len(hints), errUnresolved(), func(from, to int) error {
		err := m.call(ctx, hints[from:to], publishTimeout)
		if err != nil && ctx.Err() != nil {
			err = m.call(context.WithoutCancel(ctx), hints[from:to], lastTimeout)
		}
		return err
	})
	lost, away := 0, false
	for i, err := range errs {
		if err == nil {
			continue
		}
		lost++
		if batch.IsItemFault(err) {
			m.config.Refused(hints[i].ID, err)
		} else {
			away = true
		}
	}
	m.published.Add(int64(len(hints) - lost))
	if lost > 0 {
		m.lost.Add(int64(lost))
		m.config.Behind()
	}
	return !away
}

// errUnresolved is the error of hints in a failed call if there was no time to find the faulty one.
func errUnresolved() error {
	return task.Refuse(task.Unavailable, "the broker refused a call that several hints shared, and there was no time to try each alone")
}

func (m *Mailbox) call(ctx context.Context, hints []broker.Hint, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return m.config.Broker.Publish(ctx, hints)
}

// broadcast sends events to the broker until ctx ends, and then the rest. The event that a task has started waits a
// short time for others, since most tasks end soon.
func (m *Mailbox) broadcast(ctx context.Context) {
	for {
		stopped := false
		select {
		case <-m.events.wake:
			m.hurry.Clear() // for events that are taken now
			stopped = !m.urgent() && !wait.ForOr(ctx, startedWait, m.hurry)
		case <-ctx.Done():
			stopped = true
		}
		for events := m.events.take(); len(events) > 0; events = m.events.take() {
			m.config.Broker.Broadcast(events)
			m.events.sent.Add(int64(len(events)))
		}
		if stopped {
			return
		}
	}
}
