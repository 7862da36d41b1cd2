package pool

// Source is a source of work, usually a connection. Sources take turns at the slots, so that
// one with much work does not delay the others. It is safe for concurrent use.
type Source struct {
	pool *Pool

	// The pool's mu guards these.
	waiting []work
	listed  bool // the source is in pool.turns
	paused  bool // its work must not start
	drops   int  // how often its work was dropped
}

// work is a function that waits for a slot.
type work struct {
	source *Source
	limit  *Limit // nil: none
	weight int
	start  func()
}

// NewSource returns a source. It needs no closing; call Drop to discard its waiting work.
func (p *Pool) NewSource() *Source { return &Source{pool: p} }

// TryGo calls start on a new goroutine as soon as the source has a slot. start must return
// the slot with LeaveSlot. TryGo does not block; it returns false if too much work waits
// already. weight is the memory that the work holds, in bytes; limit may be nil.
func (s *Source) TryGo(weight int, limit *Limit, start func()) bool {
	p := s.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.roomFor(limit, weight) {
		return false
	}
	s.add(work{s, limit, weight, start})
	return true
}

// GoNow calls start on a new goroutine if a slot is free now and no other work waits for it. Otherwise it does nothing;
// full reports whether that is for lack of a slot, and not because the source is paused.
func (s *Source) GoNow(limit *Limit, start func()) (started, full bool) {
	p := s.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case s.paused:
		return false, false
	case p.busy >= p.slots() || p.waiting > p.aside || limit.full():
		return false, true
	}
	limit.enter()
	p.busy++
	go start()
	return true, false
}

// Go is TryGo, but waits until there is room. It returns false if the source's work is
// dropped meanwhile.
func (s *Source) Go(weight int, limit *Limit, start func()) bool {
	p := s.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	for drops := s.drops; !p.roomFor(limit, weight); {
		p.room.Wait()
		if s.drops != drops {
			return false
		}
	}
	s.add(work{s, limit, weight, start})
	return true
}

// roomFor reports whether another piece of work may wait. If none waits, one may, whatever its weight. The caller
// holds mu.
func (p *Pool) roomFor(limit *Limit, weight int) bool {
	pieces, size := p.waiting-p.aside, p.weight-p.asideSize
	if pieces > 0 && (pieces >= p.config.Waiting || size+weight > p.config.WaitingBytes) {
		return false
	}
	return limit == nil || limit.waiting == 0 ||
		(limit.waiting < p.config.Waiting && p.limited+weight <= p.config.WaitingBytes)
}

// add adds waiting work and fills free slots. The caller holds the pool's mu.
func (s *Source) add(w work) {
	s.waiting = append(s.waiting, w)
	s.pool.waiting++
	s.pool.weight += w.weight
	w.limit.await(w.weight)
	if !s.listed {
		s.enlist()
	}
	s.pool.fill()
}

// enlist queues the source for a turn, if it has work. The caller holds the pool's mu.
func (s *Source) enlist() {
	s.listed = len(s.waiting) > 0 && !s.paused
	if s.listed {
		s.pool.turns = append(s.pool.turns, s)
	} else if len(s.waiting) == 0 {
		s.waiting = nil
	}
}

// Pause keeps the source's waiting work from starting until Resume.
func (s *Source) Pause() {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	s.paused = true
	s.unlist()
}

// Resume ends a Pause.
func (s *Source) Resume() {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	s.paused = false
	if !s.listed {
		s.enlist()
	}
	s.pool.fill()
}

// Drop discards the waiting work and returns the number of its pieces. Calls of Go that
// wait for room return false and are not counted.
func (s *Source) Drop() int {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	pieces, weight := s.pool.dropAside(s)
	pieces += len(s.waiting)
	for _, w := range s.waiting {
		weight += w.weight
		w.limit.forget(w.weight)
	}
	s.waiting = nil
	s.drops++
	s.unlist()
	s.pool.forget(pieces, weight)
	return pieces
}

// unlist removes the source from the turns. The caller holds the pool's mu.
func (s *Source) unlist() {
	if !s.listed {
		return
	}
	s.listed = false
	for i, other := range s.pool.turns {
		if other == s {
			s.pool.turns = append(s.pool.turns[:i], s.pool.turns[i+1:]...)
			return
		}
	}
}
