package worker

import (
	"bytes"
	"container/heap"
	"fmt"
	"slices"
	"time"

	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/internal/wait"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// Options are the fields of a work request.
type Options struct {
	ID         []byte // raw JSON of the request's id, which each push repeats; nil when absent
	Name       string // "": the pool makes one
	Node       string
	Token      string   // the name of the worker's token
	Actions    []string // required
	Queues     []string // nil: every queue
	Slots      int
	Version    string
	Hold       []string // the leases that the worker still holds; nil: not sent
	Grace      time.Duration
	Idempotent []string // actions whose direct runs may be sent to another worker if this one goes
	// Send writes lines to the worker. It is called on one goroutine at a time and may block. It must not keep the slice.
	Send func(lines []byte)
	// Idle is called when Quiet or Drain has stopped the pushes and the worker holds no lease. It may be called more than
	// once, on any goroutine; nil: not called.
	Idle func()
}

// Stream is an open work request of a worker. The caller ends it with Leave or Close. Its methods are safe for concurrent
// use.
type Stream struct {
	Options
	pool  *Pool
	group *Group
	place int // in the group's heap; negative: it has left the group
	since time.Time

	held   map[string]*lease
	over   int       // leases in held whose attempts are over and have no answer
	full   time.Time // since when the attempts in all slots are over
	pushed uint64    // the number of the last push, counted over the pool
	ending task.Code // why nothing more is pushed; "": tasks are pushed

	clearing      bool // gets no tasks, so that it can receive a suspect when it holds nothing
	suspects      int
	suspectsSince time.Time

	unsent      []byte // lines for the writer
	sending     int    // bytes that the writer has
	wake        wait.Signal
	closed      bool
	poll        *polling      // nil: the worker has a connection
	writerEnded chan struct{} // closed when the writer has ended
}

// Join adds a worker. held has the leases of o.Hold that the worker keeps. unknown has those that this process does not know:
// the caller looks for them in the store, and calls Adopt for each that is valid. All others are lost. No task is pushed
// before Open. The caller ends the stream.
func (p *Pool) Join(o Options) (s *Stream, held, unknown []string) {
	o.normalize()
	p.mu.Lock()
	s = p.newStream(o)
	s.ending = notOpen
	p.addStream(s)
	for _, id := range o.Hold {
		switch l := p.leases[id]; {
		case l == nil:
			unknown = append(unknown, id)
		case l.isOver || l.token != o.Token || l.isDirect():
		default:
			l.moveTo(s)
			p.statsOf(s.Node).Adopted++
			held = append(held, id)
		}
	}
	forgotten := p.endAbsence(s)
	p.mu.Unlock()
	go s.write()
	p.end(forgotten, Ending{Kind: Gone, Cause: Forgotten})
	return s, held, unknown
}

// newStream returns a stream that has no group yet. The caller holds mu.
func (p *Pool) newStream(o Options) *Stream {
	if o.Name == "" {
		p.named++
		o.Name = fmt.Sprintf("%s-c%d", o.Node, p.named)
	}
	return &Stream{Options: o, pool: p, held: map[string]*lease{}, since: time.Now(), wake: wait.NewSignal(), writerEnded: make(chan struct{})}
}

// notOpen is the ending of a stream before Open.
const notOpen task.Code = "not_open"

func sorted(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

// Open sends the first line and starts the pushes.
func (s *Stream) Open(first []byte) {
	s.pool.mu.Lock()
	s.queueLine(first)
	if s.ending == notOpen {
		s.ending = ""
	}
	s.reorder()
	s.pool.mu.Unlock()
	s.pool.dispatch(s)
	s.pool.notify(s.Node, true)
}

// Refuse sends the only line of a stream that cannot begin. Its connection stays open, and its leases stay valid.
func (s *Stream) Refuse(line []byte) {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	s.queueLine(line)
}

// SetSlots sets how many leases the worker may hold; 0 stops the pushes.
func (s *Stream) SetSlots(n int) {
	s.pool.mu.Lock()
	s.Slots = n
	s.reorder()
	s.pool.mu.Unlock()
	s.pool.dispatch(s)
	s.pool.notify(s.Node, false)
}

// free returns how many tasks may be pushed to the worker. The caller holds the mutex of the pool.
func (s *Stream) free() int {
	if s.ending != "" || s.closed || s.clearing || s.isBetweenPolls() || s.unread() >= unsentMost || s.isolates() {
		return 0
	}
	return max(0, s.Slots-len(s.held))
}

// isBetweenPolls reports whether the worker has no connection and does not poll now.
func (s *Stream) isBetweenPolls() bool { return s.poll != nil && s.poll.open == 0 }

// unread returns how many bytes the worker has not read yet, as far as is known.
func (s *Stream) unread() int {
	if s.poll != nil {
		return s.poll.bytes
	}
	return len(s.unsent) + s.sending
}

// isolates reports whether the worker holds suspects that have not run for long without harm. It receives nothing else then.
func (s *Stream) isolates() bool { return s.suspects > 0 && s.suspectsAllowed() < s.Slots }

// suspectsAllowed returns how many suspects the worker may hold now.
func (s *Stream) suspectsAllowed() int {
	if s.suspects == 0 {
		return 1
	}
	return task.SuspectsAllowed(time.Since(s.suspectsSince))
}

// canTakeSuspect reports whether one more suspect may be pushed. The worker must hold nothing but suspects.
func (s *Stream) canTakeSuspect() bool {
	return s.ending == "" && !s.closed && !s.isBetweenPolls() && len(s.held) == s.suspects && s.suspects < min(s.Slots, s.suspectsAllowed())
}

// isStuck reports whether the attempts in all slots have been over for stuckAfter.
func (s *Stream) isStuck() bool {
	return s.over > 0 && s.over >= s.Slots && time.Since(s.full) >= stuckAfter
}

// reorder restores the order of the group's heap after the free slots of the stream have changed. It also calls Idle when
// that is due. The caller holds the mutex of the pool.
func (s *Stream) reorder() {
	if s.place < 0 {
		return
	}
	heap.Fix(&s.group.ready, s.place)
	if s.ending != "" && s.ending != notOpen && len(s.held) == 0 && s.Idle != nil {
		go s.Idle()
	}
}

// queueLine queues a line for the writer. A worker without a connection gets no lines: it learns of a change by its next poll
// or beat. The caller holds the mutex of the pool.
func (s *Stream) queueLine(line []byte) {
	switch {
	case s.closed:
	case s.poll != nil:
		s.poll.wake()
	default:
		hadRoom := s.unread() < unsentMost
		s.unsent = append(s.unsent, line...)
		s.wake.Set()
		if hadRoom && s.unread() >= unsentMost {
			s.reorder()
		}
	}
}

// write sends the queued lines until the stream is closed. It sends all waiting lines with one call.
func (s *Stream) write() {
	defer close(s.writerEnded)
	var lines []byte
	for range s.wake {
		for {
			s.pool.mu.Lock()
			blocked := s.unread() >= unsentMost
			s.sending = 0
			lines, s.unsent = s.unsent, lines[:0]
			s.sending = len(lines)
			ended := s.closed && len(lines) == 0
			if blocked {
				s.reorder()
			}
			s.pool.mu.Unlock()
			if blocked {
				s.pool.notify(s.Node, false)
			}
			if ended {
				return
			}
			if len(lines) == 0 {
				break
			}
			s.Send(lines)
			fail.Point("push.written")
			if cap(lines) > unsentMost {
				lines = nil
			}
		}
	}
}

// Cause is why a worker has gone while it held attempts.
type Cause string

// The causes.
const (
	Died      Cause = "died"      // its connection has ended, and it has not connected again
	Forgotten Cause = "forgotten" // it has connected again without naming the lease
	Silent    Cause = "silent"    // its network is silent; the task does not become a suspect
	Left      Cause = "left"      // it has left and released its leases
)

// Close ends the stream because its connection has ended: with Died, or with Silent if the network may have failed and not
// the worker.
func (s *Stream) Close(cause Cause) { s.end(cause, nil) }

// Leave ends the stream because the worker has asked for it. It releases the leases that the worker holds, and sends the line
// that last makes from their number. It returns when that line is written.
func (s *Stream) Leave(last func(released int) []byte) { s.end(Left, last) }

// end ends the stream. last makes the last line from the number of released leases; nil: there is no last line.
func (s *Stream) end(cause Cause, last func(int) []byte) {
	p := s.pool
	p.mu.Lock()
	if s.closed {
		p.mu.Unlock()
		return
	}
	p.removeStream(s)
	var now, again, elsewhere []*lease
	wait := &absence{key: s.identity(), node: s.Node, group: s.group, cause: cause}
	for _, l := range s.held {
		switch {
		case l.isOver || !l.written: // the goroutine in deliver will see that the stream is closed
			p.forget(l)
		case l.isDirect() && slices.Contains(s.Idempotent, l.Action):
			again = append(again, l)
		case !l.isDirect() && cause != Left && s.ending == task.Draining && s.Grace > 0:
			elsewhere = append(elsewhere, l)
		case l.isDirect() || cause == Left || s.Grace <= 0:
			now = append(now, l)
		default:
			wait.leases = append(wait.leases, l)
		}
	}
	for _, l := range slices.Concat(now, again, elsewhere) {
		p.forget(l)
	}
	if last != nil {
		s.queueLine(last(len(now)))
	}
	s.closed = true
	for _, l := range wait.leases {
		l.stream = nil
	}
	if len(wait.leases) > 0 {
		p.startGrace(wait, s.Grace)
	} else if cause == Died && len(now) > 0 {
		s.group.died = time.Now()
	}
	waiting := p.takeUnserved(s.Actions)
	p.mu.Unlock()
	s.wake.Set()
	kind := Gone
	if cause == Left {
		kind = Released
	}
	p.end(now, Ending{Kind: kind, Cause: cause})
	p.end(elsewhere, Ending{Kind: Moved})
	for _, l := range again {
		p.run(l)
	}
	p.end(waiting, Ending{Kind: Gone, Cause: Left})
	p.notify(s.Node, true)
	if last != nil {
		<-s.writerEnded
	}
}

// identity identifies a worker by its token and its name, so that a client with another token cannot act for the worker.
func identity(token, name string) string { return token + "\x00" + name }

func (o *Options) identity() string { return identity(o.Token, o.Name) }

// absence is a worker that has lost its connection and may connect again.
type absence struct {
	key, node string
	group     *Group
	cause     Cause
	leases    []*lease
	timer     *time.Timer
}

// startGrace gives an absent worker the time grace to connect again. The caller holds mu.
func (p *Pool) startGrace(a *absence, grace time.Duration) {
	if earlier := p.absent[a.key]; earlier != nil { // two streams of one worker
		earlier.timer.Stop()
		a.leases = append(a.leases, earlier.leases...)
	}
	p.absent[a.key] = a
	a.timer = time.AfterFunc(grace, func() {
		p.mu.Lock()
		if p.absent[a.key] == a {
			delete(p.absent, a.key)
		}
		gone := p.takeAbandoned(a)
		if a.cause == Died && len(gone) > 0 {
			a.group.died = time.Now()
		}
		p.mu.Unlock()
		p.end(gone, Ending{Kind: Gone, Cause: a.cause})
	})
}

// takeAbandoned removes and returns the leases of an absent worker that it has not named again. The caller holds mu.
func (p *Pool) takeAbandoned(a *absence) (gone []*lease) {
	for _, l := range a.leases {
		if l.stream == nil && p.leases[l.id] == l {
			p.forget(l)
			gone = append(gone, l)
		}
	}
	a.leases = nil
	return gone
}

// endAbsence ends the absence of a worker that has connected again. It returns the leases that the worker has not named. The
// caller holds mu.
func (p *Pool) endAbsence(s *Stream) []*lease {
	a := p.absent[s.identity()]
	if a == nil || a.node != s.Node && len(s.Hold) == 0 {
		return nil
	}
	a.timer.Stop()
	delete(p.absent, s.identity())
	gone := p.takeAbandoned(a)
	if len(gone) > 0 {
		s.group.died = time.Now()
	}
	return gone
}

// appendRefusal returns the last line of a stream that ends with an error.
func appendRefusal(id []byte, refusal *task.Error) []byte {
	return wire.AppendError(nil, bytes.Clone(id), refusal)
}
