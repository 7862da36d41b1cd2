package worker

import (
	"context"
	"slices"
	"time"

	"github.com/posta-tasks/posta/task"
)

const (
	// pollLeast is how long a poll waits at least: as long as a node needs to look into its store.
	pollLeast = time.Second
	// gatherTime is how long a poll that has a task waits for more of them.
	gatherTime = 10 * time.Millisecond
	// pollersMost bounds the workers without a connection, in a process.
	pollersMost = 4_096
)

// polling is what a stream without a connection has. Such a worker asks for tasks with polls. Each of its leases ends when no
// beat has named it for a while. The mutex of the pool guards the fields.
type polling struct {
	isNamed bool          // the worker has said its name
	life    time.Duration // of its leases
	open    int           // polls that wait
	pushed  []*lease      // which no poll has taken yet
	bytes   int           // of pushed
	changed chan struct{} // closed when there is more, or the stream has ended
	idle    *time.Timer   // ends the stream when the worker has not been heard of for life
}

// wake wakes the polls that wait.
func (g *polling) wake() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// add has a poll take a lease.
func (g *polling) add(l *lease) {
	g.pushed = append(g.pushed, l)
	g.bytes += len(l.text)
	g.wake()
}

// Polled is the answer to a poll.
type Polled struct {
	Worker string
	Tasks  [][]byte // pushes without id and status
	leases []*lease
}

// Poll waits until tasks are pushed to a worker without a connection, at most for wait. The options need Name, Node, Token,
// Actions, Queues, Slots and Version. life is how long a lease lasts, from its push or the last beat that named it.
//
// If ctx ends, the tasks that the poll had are given back. A caller that cannot deliver the tasks calls GiveBack.
func (p *Pool) Poll(ctx context.Context, o Options, wait, life time.Duration) (Polled, *task.Error) {
	s, joined, refusal := p.openPoll(o, life)
	if refusal != nil {
		return Polled{}, refusal
	}
	p.notify(s.Node, joined)
	timer := time.NewTimer(max(wait, pollLeast))
	defer timer.Stop()
	for gathers, waits := false, true; waits; {
		p.mu.Lock()
		changed := s.poll.changed
		full := s.isFull()
		some := len(s.poll.pushed) > 0
		ended := s.closed || s.ending != ""
		p.mu.Unlock()
		if ended || some && full {
			break
		}
		if some && !gathers {
			gathers = true
			timer.Reset(gatherTime)
		}
		select {
		case <-changed:
		case <-timer.C:
			waits = false
		case <-ctx.Done():
			waits = false
		}
	}
	gone := ctx.Err() != nil
	polled, refusal := p.closePoll(s, gone)
	if gone {
		p.GiveBack(polled)
		return Polled{Worker: s.Name}, refusal
	}
	return polled, refusal
}

// isFull reports whether a poll has all that it can have now. The caller holds the mutex of the pool.
func (s *Stream) isFull() bool {
	if s.poll.bytes >= unsentMost {
		return true
	}
	if len(s.held) < s.Slots {
		return false
	}
	for _, l := range s.held {
		if !l.written { // it comes
			return false
		}
	}
	return true
}

// GiveBack gives back the tasks of a poll that has not received them.
func (p *Pool) GiveBack(polled Polled) {
	p.mu.Lock()
	var back []*lease
	var s *Stream
	for _, l := range polled.leases {
		if p.leases[l.id] != l {
			continue
		}
		if s = l.stream; !l.isOver {
			back = append(back, l)
		}
		p.forget(l)
	}
	p.mu.Unlock()
	p.end(back, Ending{Kind: Unwritten})
	if s != nil {
		p.freed(s)
	}
}

// openPoll returns the stream of a poll. joined reports whether it is new.
func (p *Pool) openPoll(o Options, life time.Duration) (s *Stream, joined bool, refusal *task.Error) {
	o.normalize()
	key := o.identity()
	p.mu.Lock()
	var back []*lease
	s = p.pollers[key]
	if o.Name == "" {
		s = nil
	}
	switch {
	case s != nil && s.ending == task.Quiet:
		refusal = refuseQuiet()
	case s != nil && s.ending == "" && slices.Equal(s.Actions, o.Actions) && slices.Equal(s.Queues, o.Queues) && (s.Queues == nil) == (o.Queues == nil):
		s.Slots, s.Version = o.Slots, o.Version
	case s == nil && len(p.pollers) >= pollersMost:
		refusal = refusePollers()
	default:
		s, back = p.joinPolling(o, s)
		joined = true
	}
	if s != nil {
		s.poll.life = life
		s.poll.idle.Reset(life)
		if refusal == nil {
			s.poll.open++
			s.fix()
		}
	}
	p.mu.Unlock()
	p.end(back, Ending{Kind: Unwritten})
	return s, joined, refusal
}

// joinPolling adds a stream without a connection. It takes over what the worker's earlier stream holds, except back, which
// no poll has taken. The caller holds mu.
func (p *Pool) joinPolling(o Options, earlier *Stream) (s *Stream, back []*lease) {
	g := &polling{isNamed: o.Name != "", changed: make(chan struct{})}
	s = p.newStream(o)
	close(s.writerEnded)
	s.poll = g
	g.idle = time.AfterFunc(time.Hour, func() { p.endIdle(s) })
	p.join(s)
	p.pollers[s.identity()] = s
	if earlier == nil {
		return s, nil
	}
	for _, l := range earlier.poll.pushed {
		if p.leases[l.id] == l && !l.isOver {
			back = append(back, l)
			p.forget(l)
		}
	}
	for _, l := range earlier.held {
		l.moveTo(s)
	}
	p.part(earlier)
	earlier.closed = true
	earlier.poll.pushed, earlier.poll.bytes = nil, 0
	earlier.poll.idle.Stop()
	earlier.poll.wake()
	return s, back
}

// closePoll ends a poll, and returns what it has to deliver. If its client has gone, that is left to another poll.
func (p *Pool) closePoll(s *Stream, gone bool) (Polled, *task.Error) {
	p.mu.Lock()
	g := s.poll
	g.open--
	polled := Polled{Worker: s.Name}
	if gone && g.open > 0 {
		p.mu.Unlock()
		return polled, nil
	}
	for _, l := range g.pushed {
		if p.leases[l.id] == l && !l.isOver {
			polled.Tasks, polled.leases = append(polled.Tasks, l.text), append(polled.leases, l)
		}
		l.text = nil
	}
	g.pushed, g.bytes = nil, 0
	var refusal *task.Error
	if len(polled.leases) == 0 {
		switch s.ending {
		case task.Quiet:
			refusal = refuseQuiet()
		case task.Draining:
			refusal = RefuseDraining()
		}
	}
	s.fix()
	forgotten := !g.isNamed && g.open == 0 && len(s.held) == 0 && !s.closed
	if !s.closed {
		g.idle.Reset(g.life)
	}
	p.mu.Unlock()
	if forgotten { // it does not come back under a name that it does not have
		p.endIdle(s)
	}
	return polled, refusal
}

// endIdle ends a stream without a connection that holds nothing and was not heard of.
func (p *Pool) endIdle(s *Stream) {
	p.mu.Lock()
	switch {
	case s.closed || p.pollers[s.identity()] != s:
		p.mu.Unlock()
		return
	case s.poll.open > 0 || len(s.held) > 0:
		s.poll.idle.Reset(s.poll.life)
		p.mu.Unlock()
		return
	}
	s.poll.idle.Stop()
	delete(p.pollers, s.identity())
	p.mu.Unlock()
	s.Close(Left)
}

// setLife has a lease end when no beat has named it for a while. The caller holds the mutex of the pool.
func (s *Stream) setLife(l *lease) {
	if s.poll == nil {
		return
	}
	l.life = time.AfterFunc(s.poll.life, func() { s.pool.outlive(l) })
}

// outlive ends a lease that no beat has named in time.
func (p *Pool) outlive(l *lease) {
	p.mu.Lock()
	s := l.stream
	if p.leases[l.id] != l || s == nil {
		p.mu.Unlock()
		return
	}
	over := l.isOver
	p.forget(l)
	if !over {
		s.group.died = time.Now()
	}
	p.mu.Unlock()
	if !over {
		p.end([]*lease{l}, Ending{Kind: Gone, Cause: Died})
	}
	p.freed(s)
}

// Beat extends leases of a worker without a connection. It returns the leases whose attempts the worker must stop, those that
// it has lost, and those that are not of this process.
func (p *Pool) Beat(token, name string, leases []string) (cancelling, lost, unknown []string) {
	p.mu.Lock()
	if s := p.pollers[identity(token, name)]; s != nil {
		s.poll.idle.Reset(s.poll.life)
	}
	var freed []*Stream
	for _, id := range leases {
		l := p.leases[id]
		switch {
		case l == nil:
			unknown = append(unknown, id)
		case l.token != token || l.isDirect():
			lost = append(lost, id)
		case l.isOver:
			lost = append(lost, id)
			if l.stream != nil && l.stream.poll != nil { // it stops, and answers no more
				freed = append(freed, l.stream)
				p.forget(l)
			}
		default:
			l.extend()
			if l.code != "" {
				cancelling = append(cancelling, id)
			}
		}
	}
	p.mu.Unlock()
	for _, s := range freed {
		p.freed(s)
	}
	return cancelling, lost, unknown
}

// extend has a lease of a worker without a connection last longer. The caller holds the mutex of the pool.
func (l *lease) extend() {
	if l.life != nil && l.stream != nil && l.stream.poll != nil {
		l.life.Reset(l.stream.poll.life)
	}
}

// Poller returns the stream of a worker without a connection, so that it can adopt leases. If there is none, it makes one
// that receives no tasks.
func (p *Pool) Poller(node, token, name string, life time.Duration) (*Stream, *task.Error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.pollers[identity(token, name)]
	if s == nil {
		if len(p.pollers) >= pollersMost {
			return nil, refusePollers()
		}
		s, _ = p.joinPolling(Options{Node: node, Token: token, Name: name, Slots: 1}, nil)
		s.poll.life = life
		s.poll.idle.Reset(life)
	}
	return s, nil
}

// Rest ends a stream of Poller if it has no actions and has adopted nothing.
func (s *Stream) Rest() {
	if len(s.Actions) == 0 {
		s.pool.endIdle(s)
	}
}

func refusePollers() *task.Error {
	refusal := task.Refuse(task.Overloaded, "this process has %d workers that poll; no more are taken", pollersMost)
	refusal.RetryAfter = pollLeast
	return refusal
}

func refuseQuiet() *task.Error {
	return task.Refuse(task.Quiet, "an operator asked this worker to stop")
}

// normalize sorts the lists of the options.
func (o *Options) normalize() {
	o.Actions = sorted(o.Actions)
	if o.Queues != nil {
		o.Queues = sorted(o.Queues)
	}
}
