package mailbox

import (
	"context"
	"sync"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/internal/wait"
	"github.com/posta-tasks/posta/task"
)

// inbox has the ids that wait for the engine to claim them: those of other processes, one batch at a time, and
// those that this process keeps for itself.
type inbox struct {
	freed   wait.Signal // set when there may be capacity
	claimed wait.Signal // set when the engine has taken all ids

	mu    sync.Mutex // guards the fields below
	own   []broker.Hint
	taken []string
	out   bool               // the engine has the last ids of taken, and has not called Done
	end   context.CancelFunc // ends the running Take; nil: there is none
}

func newInbox() *inbox {
	return &inbox{freed: wait.NewSignal(), claimed: wait.NewSignal()}
}

// Keep adds tasks that the engine will claim itself, since it has capacity. It ends a running Take, which counts on
// the same capacity.
func (m *Mailbox) Keep(tasks []*task.Task) {
	m.inbox.mu.Lock()
	m.inbox.own = append(m.inbox.own, hintsOf(tasks)...)
	m.inbox.mu.Unlock()
	m.Changed()
	m.config.Wake()
}

// Full must be called when the engine has no capacity after all. The tasks from Keep are offered to other nodes. Of
// tasks from other processes only the ids are known, so Next returns these, and the engine offers the tasks.
func (m *Mailbox) Full() (taken []string) {
	b := m.inbox
	b.mu.Lock()
	own := b.own
	taken, b.own, b.taken = b.taken, nil, nil
	b.out = b.out || len(taken) > 0
	b.mu.Unlock()
	m.offer(own)
	m.Done()
	return taken
}

// Next returns at most limit ids to claim. After the claims the engine calls Done.
func (m *Mailbox) Next(limit int) []string {
	b := m.inbox
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(limit, len(b.taken))
	ids := b.taken[:n:n]
	if b.taken = b.taken[n:]; n > 0 {
		b.out = len(b.taken) == 0
	}
	n = min(limit-n, len(b.own))
	for i := range b.own[:n] {
		ids = append(ids, b.own[i].ID)
	}
	if b.own = b.own[n:]; len(b.own) == 0 {
		b.own = nil
	}
	return ids
}

// Waiting returns the number of ids for Next.
func (m *Mailbox) Waiting() int {
	m.inbox.mu.Lock()
	defer m.inbox.mu.Unlock()
	return len(m.inbox.own) + len(m.inbox.taken)
}

// Done must be called after the ids of the last Next were claimed or could not be.
func (m *Mailbox) Done() {
	b := m.inbox
	b.mu.Lock()
	all := b.out
	b.out = false
	b.mu.Unlock()
	if all {
		b.claimed.Set()
	}
}

// Freed must be called when the engine may have capacity again.
func (m *Mailbox) Freed() { m.inbox.freed.Set() }

// Changed must be called when the engine can run other tasks than before. The mailbox then asks again what it
// wants.
func (m *Mailbox) Changed() {
	b := m.inbox
	b.mu.Lock()
	if b.end != nil {
		b.end()
	}
	b.mu.Unlock()
	b.freed.Set()
}

// take takes ids until ctx ends.
func (m *Mailbox) take(ctx context.Context) {
	for ctx.Err() == nil {
		if taker, err := m.config.Broker.Consume(m.config.Interest); err == nil {
			m.takeFrom(ctx, taker)
			_ = taker.Close() // the next taker gets the ids that were not acknowledged
		}
		wait.For(ctx, awayMax)
	}
}

// takeFrom takes batches until the taker fails.
func (m *Mailbox) takeFrom(ctx context.Context, taker broker.Taker) {
	for {
		ids, err := m.takeOnce(ctx, taker)
		switch {
		case ctx.Err() != nil, err != nil:
			return
		case len(ids) > 0 && !m.awaitClaim(ctx, ids):
			return
		}
		taker.Ack()
	}
}

// takeOnce waits until the engine has capacity, and makes one Take. If the engine then wants other ids, it ends the
// Take and returns none.
func (m *Mailbox) takeOnce(ctx context.Context, taker broker.Taker) ([]string, error) {
	call, end := context.WithCancel(ctx)
	defer end()
	m.inbox.ending(end) // set before wanted is called, so that no change is missed
	defer m.inbox.ending(nil)
	want := m.want()
	if want.Limit < 1 {
		select {
		case <-m.inbox.freed:
		case <-ctx.Done():
		}
		return nil, nil
	}
	taken, err := taker.Take(call, want)
	if err != nil && call.Err() != nil {
		return nil, nil
	}
	if taken.Behind {
		m.config.Behind()
	}
	return taken.IDs[:min(len(taken.IDs), want.Limit)], err
}

// ending stores the function that ends the running Take.
func (b *inbox) ending(end context.CancelFunc) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.end = end
}

// awaitClaim passes ids to the engine and waits until it has claimed them.
func (m *Mailbox) awaitClaim(ctx context.Context, ids []string) bool {
	m.taken.Add(int64(len(ids)))
	m.inbox.mu.Lock()
	m.inbox.taken = ids
	m.inbox.mu.Unlock()
	m.config.Wake()
	select {
	case <-m.inbox.claimed:
		return true
	case <-ctx.Done():
		return false
	}
}
