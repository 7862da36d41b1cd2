package mailbox

import (
	"context"
	"sync"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/internal/wait"
	"github.com/posta-tasks/posta/task"
)

// inbox is the ids that wait for the engine to claim them: those of other processes, of which
// there is one batch at a time, and those that this process keeps for itself.
type inbox struct {
	room    wait.Signal // poked when there may be room
	claimed wait.Signal // poked when all that was taken has been given to the engine

	mu    sync.Mutex // guards all below
	own   []broker.Hint
	taken []string
	out   bool               // the engine has the last of taken, and has not said Done
	end   context.CancelFunc // of the Take under way; nil: there is none
}

func newInbox() *inbox {
	return &inbox{room: wait.NewSignal(), claimed: wait.NewSignal()}
}

// Keep has the engine claim these tasks itself; it has room for them. A Take under way is
// ended, since it counts on the same room.
func (m *Mailbox) Keep(tasks []*task.Task) {
	m.inbox.mu.Lock()
	m.inbox.own = append(m.inbox.own, hintsOf(tasks)...)
	m.inbox.mu.Unlock()
	m.Changed()
	m.config.Wake()
}

// Full says that the engine has no room after all. What it has kept is offered to others. Of what
// it has taken only the ids are known, so these are given: the engine finds out and offers.
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

// Next returns ids to claim, at most so many. When they are claimed, the engine says Done.
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

// Waiting is how many ids there are for Next.
func (m *Mailbox) Waiting() int {
	m.inbox.mu.Lock()
	defer m.inbox.mu.Unlock()
	return len(m.inbox.own) + len(m.inbox.taken)
}

// Done says that the ids of the latest Next are claimed, or are nobody's to claim.
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

// Freed says that the engine may have room again.
func (m *Mailbox) Freed() { m.inbox.room.Set() }

// Changed says that the engine can run something else than a while ago. What is wanted is
// looked at anew.
func (m *Mailbox) Changed() {
	b := m.inbox
	b.mu.Lock()
	if b.end != nil {
		b.end()
	}
	b.mu.Unlock()
	b.room.Set()
}

// take takes ids until ctx ends.
func (m *Mailbox) take(ctx context.Context) {
	for ctx.Err() == nil {
		if taker, err := m.config.Broker.Consume(m.config.Interest); err == nil {
			m.takeFrom(ctx, taker)
			_ = taker.Close() // whoever listens next gets what was not acknowledged
		}
		wait.For(ctx, awayMax)
	}
}

// takeFrom takes batch after batch, until the taker is of no use.
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

// takeOnce waits until the engine has room, and makes one Take, which is ended when
// something else is wanted; then it gives nothing.
func (m *Mailbox) takeOnce(ctx context.Context, taker broker.Taker) ([]string, error) {
	call, end := context.WithCancel(ctx)
	defer end()
	m.inbox.ending(end) // before we look what is wanted, so that no change of it is missed
	defer m.inbox.ending(nil)
	want := m.want()
	if want.Limit < 1 {
		select {
		case <-m.inbox.room:
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

// ending keeps what ends the Take under way.
func (b *inbox) ending(end context.CancelFunc) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.end = end
}

// awaitClaim hands ids to the engine and waits until it has claimed them.
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
