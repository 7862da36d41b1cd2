package post

import (
	"context"
	"sync"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/task"
)

// inbox is the ids that wait for the engine to claim them: those of other processes, of which
// there is one batch at a time, and those that this process keeps for itself.
type inbox struct {
	room    chan struct{} // poked when there may be room
	claimed chan struct{} // poked when all that was taken has been given to the engine

	mu    sync.Mutex // guards all below
	own   []broker.Hint
	taken []string
	out   bool               // the engine has the last of taken, and has not said Done
	end   context.CancelFunc // of the Take under way; nil: there is none
}

func newInbox() *inbox {
	return &inbox{room: make(chan struct{}, 1), claimed: make(chan struct{}, 1)}
}

// Keep has the engine claim these tasks itself; it has room for them. A Take under way is
// ended, since it counts on the same room.
func (p *Post) Keep(tasks []*task.Task) {
	p.inbox.mu.Lock()
	p.inbox.own = append(p.inbox.own, hintsOf(tasks)...)
	p.inbox.mu.Unlock()
	p.Changed()
	p.config.Wake()
}

// Full says that the engine has no room after all. What it has kept is offered to others. Of what
// it has taken only the ids are known, so these are given: the engine finds out and offers.
func (p *Post) Full() (taken []string) {
	b := p.inbox
	b.mu.Lock()
	own := b.own
	taken, b.own, b.taken = b.taken, nil, nil
	b.out = b.out || len(taken) > 0
	b.mu.Unlock()
	p.offer(own)
	p.Done()
	return taken
}

// Next gives ids to claim, at most so many. When they are claimed, the engine says Done.
func (p *Post) Next(limit int) []string {
	b := p.inbox
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
func (p *Post) Waiting() int {
	p.inbox.mu.Lock()
	defer p.inbox.mu.Unlock()
	return len(p.inbox.own) + len(p.inbox.taken)
}

// Done says that the ids of the latest Next are claimed, or are nobody's to claim.
func (p *Post) Done() {
	b := p.inbox
	b.mu.Lock()
	all := b.out
	b.out = false
	b.mu.Unlock()
	if all {
		poke(b.claimed)
	}
}

// Freed says that the engine may have room again.
func (p *Post) Freed() { poke(p.inbox.room) }

// Changed says that the engine can run something else than a while ago. What is wanted is
// looked at anew.
func (p *Post) Changed() {
	b := p.inbox
	b.mu.Lock()
	if b.end != nil {
		b.end()
	}
	b.mu.Unlock()
	poke(b.room)
}

// take takes ids until ctx ends.
func (p *Post) take(ctx context.Context) {
	for ctx.Err() == nil {
		if taker, err := p.config.Broker.Consume(p.config.Interest); err == nil {
			p.takeFrom(ctx, taker)
			_ = taker.Close() // whoever listens next gets what was not acknowledged
		}
		pause(ctx, awayMax)
	}
}

// takeFrom takes batch after batch, until the taker is of no use.
func (p *Post) takeFrom(ctx context.Context, taker broker.Taker) {
	for {
		ids, err := p.takeOnce(ctx, taker)
		switch {
		case ctx.Err() != nil, err != nil:
			return
		case len(ids) > 0 && !p.awaitClaim(ctx, ids):
			return
		}
		taker.Ack()
	}
}

// takeOnce waits until the engine has room, and makes one Take, which is ended when
// something else is wanted; then it gives nothing.
func (p *Post) takeOnce(ctx context.Context, taker broker.Taker) ([]string, error) {
	call, end := context.WithCancel(ctx)
	defer end()
	p.inbox.ending(end) // before we look what is wanted, so that no change of it is missed
	defer p.inbox.ending(nil)
	want := p.want()
	if want.Limit < 1 {
		select {
		case <-p.inbox.room:
		case <-ctx.Done():
		}
		return nil, nil
	}
	taken, err := taker.Take(call, want)
	if err != nil && call.Err() != nil {
		return nil, nil
	}
	if taken.Behind {
		p.config.Behind()
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
func (p *Post) awaitClaim(ctx context.Context, ids []string) bool {
	p.taken.Add(int64(len(ids)))
	p.inbox.mu.Lock()
	p.inbox.taken = ids
	p.inbox.mu.Unlock()
	p.config.Wake()
	select {
	case <-p.inbox.claimed:
		return true
	case <-ctx.Done():
		return false
	}
}
