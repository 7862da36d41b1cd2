package pool

import "slices"

// Limit limits how many pieces of work of one kind run at once within the slots of a pool. A piece that gets its
// turn while the limit is reached is set aside, and the work behind it gets the slot. As soon as the limit allows
// it, work that was set aside starts before all other waiting work. Create a Limit with Pool.NewLimit.
type Limit struct {
	pool *Pool

	// The pool's mu guards these.
	most    int    // pieces of work at once
	busy    int    // that run
	waiting int    // pieces that wait, set aside or for a slot
	aside   []work // pieces that were set aside
}

// NewLimit returns a limit of most pieces of work at once.
func (p *Pool) NewLimit(most int) *Limit {
	l := &Limit{pool: p, most: most}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limits = append(p.limits, l)
	return l
}

// Set changes the limit. Work that runs is not affected.
func (l *Limit) Set(most int) {
	l.pool.mu.Lock()
	defer l.pool.mu.Unlock()
	l.most = most
	l.pool.fill()
}

// Free returns how many more pieces of work may start now, beside those that were set aside.
func (l *Limit) Free() int {
	l.pool.mu.Lock()
	defer l.pool.mu.Unlock()
	return max(0, l.most-l.busy-len(l.aside))
}

// full reports whether the limit is reached. A nil Limit has no limit. The caller holds the pool's mu.
func (l *Limit) full() bool { return l != nil && l.busy >= l.most }

// enter counts a piece of work that starts. The caller holds the pool's mu.
func (l *Limit) enter() {
	if l != nil {
		l.busy++
	}
}

// leave undoes enter. The caller holds the pool's mu.
func (l *Limit) leave() {
	if l != nil {
		l.busy--
	}
}

// await counts a piece of work that waits. The caller holds the pool's mu.
func (l *Limit) await(weight int) {
	if l != nil {
		l.waiting++
		l.pool.limited += weight
	}
}

// forget undoes await. The caller holds the pool's mu.
func (l *Limit) forget(weight int) {
	if l != nil {
		l.waiting--
		l.pool.limited -= weight
	}
}

// nextAside removes and returns the next piece of work that was set aside and may start now. The caller holds mu.
func (p *Pool) nextAside() (work, bool) {
	if p.aside == 0 {
		return work{}, false
	}
	for _, l := range p.limits {
		if l.full() {
			continue
		}
		for i, w := range l.aside {
			if !w.source.paused {
				l.aside = slices.Delete(l.aside, i, i+1)
				p.aside--
				p.asideSize -= w.weight
				return w, true
			}
		}
	}
	return work{}, false
}

// nextTurn removes and returns the next piece of work of the sources in turn. It sets work aside whose limit is
// reached. The caller holds mu.
func (p *Pool) nextTurn() (work, bool) {
	for len(p.turns) > 0 {
		source := p.turns[0]
		p.turns = p.turns[1:]
		next := source.waiting[0]
		source.waiting[0] = work{} // lets the garbage collector free the function
		source.waiting = source.waiting[1:]
		source.enlist()
		if !next.limit.full() {
			return next, true
		}
		next.limit.aside = append(next.limit.aside, next)
		p.aside++
		p.asideSize += next.weight
		p.room.Broadcast()
	}
	return work{}, false
}

// dropAside discards the work of a source that was set aside. The caller holds mu.
func (p *Pool) dropAside(s *Source) (pieces, weight int) {
	if p.aside == 0 {
		return 0, 0
	}
	for _, l := range p.limits {
		l.aside = slices.DeleteFunc(l.aside, func(w work) bool {
			if w.source != s {
				return false
			}
			pieces++
			weight += w.weight
			l.forget(w.weight)
			return true
		})
	}
	p.aside -= pieces
	p.asideSize -= weight
	return pieces, weight
}
