package worker

import (
	"context"
	"slices"
	"time"

	"github.com/posta-tasks/posta/task"
)

const (
	// pollLeast is the shortest wait of a poll. A node needs that long to claim tasks from its store.
	pollLeast = time.Second
	// gatherTime is how long a poll that has a task waits for more tasks.
	gatherTime = 10 * time.Millisecond
	// pollersMost limits the number of workers without a connection in a process.
	pollersMost = 4_096
)

// polling has the fields of a stream without a connection, whose worker asks for tasks with polls. A lease of such a worker
// ends when no beat has named it for leaseTime. The mutex of the pool guards the fields.
type polling struct {
	isNamed   bool          // the worker has sent a name
	leaseTime time.Duration // of its leases
	open      int           // polls that wait
	pushed    []*lease      // for the next poll
	bytes     int           // of pushed
	changed   chan struct{} // closed when a task was pushed or the stream has ended
	idle      *time.Timer   // ends the stream when the worker has sent nothing for leaseTime
}

// wake wakes the polls that wait.
func (g *polling) wake() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// add adds a lease to the answer of the next poll.
func (g *polling) add(l *lease) {
	g.pushed = append(g.pushed, l)
	g.bytes += len(l.pushText)
	g.wake()
}

// Polled is the answer to a poll. Its caller delivers it or passes it to GiveBack.
type Polled struct {
	Worker string
	Tasks  [][]byte // pushes without id and status
	leases []*lease
}

// Poll waits until tasks are pushed to a worker without a connection, at most for wait, and returns them. It uses Name, Node,
// Token, Actions, Queues, Slots and Version of the options. leaseTime is how long a lease lasts, from its push or from the
// last beat that named it.
//
// If ctx ends, Poll gives its tasks back and returns none. A caller that cannot deliver the tasks calls GiveBack. Poll
// refuses with overloaded, quiet or draining.
func (p *Pool) Poll(ctx context.Context, o Options, wait, leaseTime time.Duration) (Polled, *task.Error) {
	s, joined, refusal := p.openPoll(o, leaseTime)
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

// isFull reports whether a poll can get no more tasks now. The caller holds the mutex of the pool.
func (s *Stream) isFull() bool {
	if s.poll.bytes >= unsentMost {
		return true
	}
	if len(s.held) < s.Slots {
		return false
	}
	for _, l := range s.held {
		if !l.written { // it will be pushed in a moment
			return false
		}
	}
	return true
}

// GiveBack ends the attempts of a poll that were not delivered as Undelivered.
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
	p.end(back, Ending{Kind: Undelivered})
	if s != nil {
		p.freed(s)
	}
}

// openPoll returns the stream of a poll. joined reports whether it is new.
func (p *Pool) openPoll(o Options, leaseTime time.Duration) (s *Stream, joined bool, refusal *task.Error) {
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
		s.poll.leaseTime = leaseTime
		s.poll.idle.Reset(leaseTime)
		if refusal == nil {
			s.poll.open++
			s.reorder()
		}
	}
	p.mu.Unlock()
	p.end(back, Ending{Kind: Undelivered})
	return s, joined, refusal
}

// joinPolling adds a stream without a connection. It moves the leases of the worker's earlier stream to the new one, except
// those that no poll has returned yet: the caller gives back these. The caller holds mu.
func (p *Pool) joinPolling(o Options, earlier *Stream) (s *Stream, back []*lease) {
	g := &polling{isNamed: o.Name != "", changed: make(chan struct{})}
	s = p.newStream(o)
	close(s.writerEnded)
	s.poll = g
	g.idle = time.AfterFunc(time.Hour, func() { p.endIdle(s) })
	p.addStream(s)
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
	p.removeStream(earlier)
	earlier.closed = true
	earlier.poll.pushed, earlier.poll.bytes = nil, 0
	earlier.poll.idle.Stop()
	earlier.poll.wake()
	return s, back
}

// closePoll ends a poll and returns its answer. If the client has gone and another poll of the worker waits, the tasks are
// left to that one.
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
			polled.Tasks, polled.leases = append(polled.Tasks, l.pushText), append(polled.leases, l)
		}
		l.pushText = nil
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
	s.reorder()
	forgotten := !g.isNamed && g.open == 0 && len(s.held) == 0 && !s.closed
	if !s.closed {
		g.idle.Reset(g.leaseTime)
	}
	p.mu.Unlock()
	if forgotten { // a worker that sends no name cannot return to this stream
		p.endIdle(s)
	}
	return polled, refusal
}

// endIdle ends a stream without a connection whose worker polls no more and holds nothing.
func (p *Pool) endIdle(s *Stream) {
	p.mu.Lock()
	switch {
	case s.closed || p.pollers[s.identity()] != s:
		p.mu.Unlock()
		return
	case s.poll.open > 0 || len(s.held) > 0:
		s.poll.idle.Reset(s.poll.leaseTime)
		p.mu.Unlock()
		return
	}
	s.poll.idle.Stop()
	delete(p.pollers, s.identity())
	p.mu.Unlock()
	s.Close(Left)
}

// startLeaseTimer starts the timer of a lease of a worker without a connection. The caller holds the mutex of the pool.
func (s *Stream) startLeaseTimer(l *lease) {
	if s.poll == nil {
		return
	}
	l.leaseTimer = time.AfterFunc(s.poll.leaseTime, func() { s.pool.expireLease(l) })
}

// expireLease ends a lease that no beat has named in time.
func (p *Pool) expireLease(l *lease) {
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
// the worker has lost, and those that this process does not know.
func (p *Pool) Beat(token, name string, leases []string) (cancelling, lost, unknown []string) {
	p.mu.Lock()
	if s := p.pollers[identity(token, name)]; s != nil {
		s.poll.idle.Reset(s.poll.leaseTime)
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
			if l.stream != nil && l.stream.poll != nil { // the worker stops it without an answer
				freed = append(freed, l.stream)
				p.forget(l)
			}
		default:
			l.extend()
			if l.stopCode != "" {
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

// extend restarts the timer of a lease of a worker without a connection. The caller holds the mutex of the pool.
func (l *lease) extend() {
	if l.leaseTimer != nil && l.stream != nil && l.stream.poll != nil {
		l.leaseTimer.Reset(l.stream.poll.leaseTime)
	}
}

// Poller returns the stream of a worker without a connection, so that it can adopt leases. If the worker has none, Poller
// makes one that receives no tasks; the caller then calls CloseIfUnused. It refuses with overloaded.
func (p *Pool) Poller(node, token, name string, leaseTime time.Duration) (*Stream, *task.Error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.pollers[identity(token, name)]
	if s == nil {
		if len(p.pollers) >= pollersMost {
			return nil, refusePollers()
		}
		s, _ = p.joinPolling(Options{Node: node, Token: token, Name: name, Slots: 1}, nil)
		s.poll.leaseTime = leaseTime
		s.poll.idle.Reset(leaseTime)
	}
	return s, nil
}

// CloseIfUnused ends a stream that Poller has made, if it has adopted nothing.
func (s *Stream) CloseIfUnused() {
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
