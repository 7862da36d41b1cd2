// Package pool limits how much runs at once. It knows nothing of tasks; it hands out
// permits.
//
// There are two kinds. A slot is for work of any length. The caller gives the pool a
// function, and sources of work (usually connections) take turns. A quick permit is for
// work that should end at once. The caller runs it on its own goroutine, with one permit
// for a whole batch, so there is no hand-over. Work that outgrows its quick permit moves
// to a slot before any waiting work. If all slots are taken it gets an extra one, up to as
// many again, since it runs already, and long work should fill the slots rather than the
// quick permits. Nothing else starts until the pool is back within its slots:
//
//	waiting ──→ slot ──→ done
//	              ↑ outgrown
//	            quick ──→ done
//
// A Limit bounds how much of one kind of work runs at once within the slots.
//
// Work that does not return when it was asked to stop is stuck. The pool replaces its slot,
// up to a limit; beyond it the pool reports that it is not healthy.
package pool

import (
	"context"
	"errors"
	"sync"
)

// Config configures a Pool. All numbers must be at least 1, Stuck at least 0.
type Config struct {
	Slots int // pieces of work that may run at once
	Quick int // batches of quick work that may run at once, in addition to the slots
	Stuck int // most stuck slots that are replaced
	// Waiting is how many pieces of work may wait for a slot, over all sources, and WaitingBytes their maximal
	// total weight. Work that was set aside does not count. As many pieces may wait for each Limit, and all work
	// with limits together may have the same weight again.
	Waiting, WaitingBytes int
}

// Pool hands out permits. It is safe for concurrent use.
type Pool struct {
	config Config

	// mu guards the fields below. No code outside this package runs while it is held.
	mu        sync.Mutex
	busy      int // slots taken
	quickBusy int // quick permits taken, including those of outgrown work without a slot
	outgrown  int // pieces of work that hold a quick permit and should hold a slot
	stuck     int
	turns     []*Source       // sources with waiting work, in the order of their turns
	limits    []*Limit        // all of them
	aside     int             // pieces of work that were set aside
	asideSize int             // their weight
	limited   int             // weight of the waiting work that has a limit
	waiting   int             // pieces of work that wait, including those set aside
	weight    int             // of the waiting work
	room      *sync.Cond      // waits for waiting or weight to fall
	readers   []chan struct{} // wait for a quick permit, in order
}

// Stats is a snapshot of a pool.
type Stats struct {
	Slots, Busy      int // slots, including replacements, and taken slots, which outgrown work may raise above Slots
	Quick, QuickBusy int
	Waiting          int // pieces of work that wait for a slot
	Aside            int // how many of these were set aside
	Stuck            int // pieces of work that did not return when they were asked to stop
}

// New returns a pool, or an error if a number of config is out of range.
func New(config Config) (*Pool, error) {
	if config.Slots < 1 || config.Quick < 1 || config.Stuck < 0 || config.Waiting < 1 || config.WaitingBytes < 1 {
		return nil, errors.New("pool: slots, quick permits and waiting work must be at least 1, stuck slots at least 0")
	}
	p := &Pool{config: config}
	p.room = sync.NewCond(&p.mu)
	return p, nil
}

// slots returns the number of slots, including replacements of stuck ones. The caller holds
// mu.
func (p *Pool) slots() int { return p.config.Slots + min(p.stuck, p.config.Stuck) }

// EnterQuick takes a quick permit. It waits for one, first come, first served, until ctx
// ends.
func (p *Pool) EnterQuick(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p.mu.Lock()
	if p.quickBusy < p.config.Quick && len(p.readers) == 0 {
		p.quickBusy++
		p.mu.Unlock()
		return nil
	}
	turn := make(chan struct{}, 1)
	p.readers = append(p.readers, turn)
	p.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, reader := range p.readers {
		if reader == turn {
			p.readers = append(p.readers[:i], p.readers[i+1:]...)
			return ctx.Err()
		}
	}
	p.leaveQuick() // the turn came at the same moment: pass it on
	return ctx.Err()
}

// LeaveQuick returns a quick permit.
func (p *Pool) LeaveQuick() {
	p.mu.Lock()
	p.leaveQuick()
	p.mu.Unlock()
}

// leaveQuick frees a quick permit or passes it on. The caller holds mu.
func (p *Pool) leaveQuick() {
	if len(p.readers) == 0 {
		p.quickBusy--
		return
	}
	turn := p.readers[0]
	p.readers = p.readers[1:]
	turn <- struct{}{}
}

// Outgrow exchanges a quick permit for a slot, at once or as soon as one is free, because the work takes long. Call
// LeaveOutgrown when the work ends.
func (p *Pool) Outgrow() {
	p.mu.Lock()
	p.outgrown++
	p.fill()
	p.mu.Unlock()
}

// LeaveOutgrown returns the slot of outgrown work, or its quick permit if it got no slot. It does not matter which,
// since all permits are alike.
func (p *Pool) LeaveOutgrown() {
	p.mu.Lock()
	if p.outgrown > 0 {
		p.outgrown--
		p.leaveQuick()
	} else {
		p.busy--
		p.fill()
	}
	p.mu.Unlock()
}

// LeaveSlot returns a slot. limit is the one that the work was given with; nil means none.
func (p *Pool) LeaveSlot(limit *Limit) {
	p.mu.Lock()
	p.busy--
	limit.leave()
	p.fill()
	p.mu.Unlock()
}

// Stuck counts a piece of work that does not return, and replaces its slot.
func (p *Pool) Stuck() {
	p.mu.Lock()
	p.stuck++
	p.fill()
	p.mu.Unlock()
}

// Unstuck undoes Stuck: the piece of work has returned after all.
func (p *Pool) Unstuck() {
	p.mu.Lock()
	p.stuck--
	p.mu.Unlock()
}

// Healthy reports whether every stuck slot could be replaced.
func (p *Pool) Healthy() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stuck <= p.config.Stuck
}

// Stats returns a snapshot.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Stats{
		Slots: p.slots(), Busy: p.busy, Quick: p.config.Quick, QuickBusy: p.quickBusy,
		Waiting: p.waiting, Aside: p.aside, Stuck: p.stuck,
	}
}

// fill assigns free slots, first to outgrown work, then to work that was set aside, then to the sources in turn.
// The caller holds mu.
func (p *Pool) fill() {
	for p.outgrown > 0 && p.busy < 2*p.slots() {
		p.outgrown--
		p.busy++
		p.leaveQuick()
	}
	for p.busy < p.slots() {
		next, found := p.nextAside()
		if !found {
			next, found = p.nextTurn()
		}
		if !found {
			return
		}
		next.limit.forget(next.weight)
		p.forget(1, next.weight)
		next.limit.enter()
		p.busy++
		go next.start()
	}
}

// forget subtracts work that no longer waits. The caller holds mu.
func (p *Pool) forget(pieces, weight int) {
	p.waiting -= pieces
	p.weight -= weight
	p.room.Broadcast()
}
