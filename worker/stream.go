package worker

import (
	"bytes"
	"container/heap"
	"fmt"
	"slices"
	"time"

	"github.com/posta-tasks/posta/internal/wait"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// Options are what a work request says.
type Options struct {
	ID         []byte // raw JSON of the request's id, which its pushes have; nil when absent
	Name       string // "": the pool makes one
	Node       string
	Token      string   // the name of the token that the worker has presented
	Actions    []string // needed
	Queues     []string // nil: every queue
	Slots      int
	Version    string
	Hold       []string // the leases that the worker still holds; nil: it does not say
	Grace      time.Duration
	Idempotent []string // actions whose direct runs may be sent to another worker when this one has gone
	// Send writes lines to the worker. It is called on one goroutine at a time, and may block. It must not keep them.
	Send func(lines []byte)
	// Idle is called when nothing more is pushed, since the node stops or an operator asked the worker to stop, and the
	// worker holds nothing any more. It may be called more than once, on any goroutine; nil: nobody asks.
	Idle func()
}

// Stream is a worker on its connection: a work request that has not ended. Leave or Close ends it.
type Stream struct {
	Options
	pool  *Pool
	group *Group
	place int // in the group's heap; negative: it has left the group
	since time.Time

	held   map[string]*lease
	over   int       // of held: attempts that are over, whose worker has not answered
	full   time.Time // since when all slots are over
	pushed uint64    // when it was pushed to last, as a number of pushes
	ending task.Code // why nothing more is pushed; "": it is

	clearing      bool // it receives nothing, so that it can receive a suspect when it holds nothing
	suspects      int
	suspectsSince time.Time

	unsent      []byte // lines for the writer
	sending     int    // bytes that the writer has
	wake        wait.Signal
	closed      bool
	poll        *polling      // nil: the worker has a connection
	writerEnded chan struct{} // closed when the writer has ended
}

// Join adds a worker. held are the leases of its Hold that it has again. unknown are those that are not of this process:
// the caller asks the store for them, and calls Adopt or else reports them as lost. No task is pushed before Open.
func (p *Pool) Join(o Options) (s *Stream, held, unknown []string) {
	o.normalize()
	p.mu.Lock()
	s = p.newStream(o)
	s.ending = notOpen
	p.join(s)
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
	forgotten := p.comeBack(s)
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

// notOpen is the ending of a stream that has not begun.
const notOpen task.Code = "not_open"

func sorted(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

// Open writes the first line, and has tasks pushed after it.
func (s *Stream) Open(first []byte) {
	s.pool.mu.Lock()
	s.say(first)
	if s.ending == notOpen {
		s.ending = ""
	}
	s.fix()
	s.pool.mu.Unlock()
	s.pool.dispatch(s)
	s.pool.notify(s.Node, true)
}

// Refuse writes the first and last line of a stream that cannot begin. Its connection remains, and so do its leases.
func (s *Stream) Refuse(line []byte) {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	s.say(line)
}

// SetSlots sets how many leases the worker may hold; 0 means that nothing more is pushed.
func (s *Stream) SetSlots(n int) {
	s.pool.mu.Lock()
	s.Slots = n
	s.fix()
	s.pool.mu.Unlock()
	s.pool.dispatch(s)
	s.pool.notify(s.Node, false)
}

// free returns how many tasks may be pushed to the worker. The caller holds the mutex of the pool.
func (s *Stream) free() int {
	if s.ending != "" || s.closed || s.clearing || s.rests() || s.unread() >= unsentMost || s.isolates() {
		return 0
	}
	return max(0, s.Slots-len(s.held))
}

// rests reports whether the worker has no connection, and does not poll now.
func (s *Stream) rests() bool { return s.poll != nil && s.poll.open == 0 }

// unread returns how many bytes wait for the worker.
func (s *Stream) unread() int {
	if s.poll != nil {
		return s.poll.bytes
	}
	return len(s.unsent) + s.sending
}

// isolates reports whether the worker holds suspects with which it has not lived for long: then it receives nothing else.
func (s *Stream) isolates() bool { return s.suspects > 0 && s.suspectsAllowed() < s.Slots }

// suspectsAllowed returns how many suspects the worker may hold by now.
func (s *Stream) suspectsAllowed() int {
	if s.suspects == 0 {
		return 1
	}
	return task.SuspectsAllowed(time.Since(s.suspectsSince))
}

// takesSuspect reports whether one more suspect may be pushed: beside nothing but other suspects.
func (s *Stream) takesSuspect() bool {
	return s.ending == "" && !s.closed && !s.rests() && len(s.held) == s.suspects && s.suspects < min(s.Slots, s.suspectsAllowed())
}

// isStuck reports whether attempts that are over have had all slots for a while.
func (s *Stream) isStuck() bool {
	return s.over > 0 && s.over >= s.Slots && time.Since(s.full) >= stuckAfter
}

// fix restores the order of the group's heap after the stream's free slots have changed. The caller holds the mutex of the
// pool.
func (s *Stream) fix() {
	if s.place < 0 {
		return
	}
	heap.Fix(&s.group.ready, s.place)
	if s.ending != "" && s.ending != notOpen && len(s.held) == 0 && s.Idle != nil {
		go s.Idle()
	}
}

// say has a line written, if the worker has a connection. The caller holds the mutex of the pool.
func (s *Stream) say(line []byte) {
	switch {
	case s.closed:
	case s.poll != nil: // it asks with polls and beats
		s.poll.wake()
	default:
		s.unsent = append(s.unsent, line...)
		s.wake.Set()
	}
}

// write writes the stream's lines until it is closed. Lines that wait are written together.
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
				s.fix()
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
	Died      Cause = "died"      // its connection has ended, and it has not come back
	Forgotten Cause = "forgotten" // it came back without naming the lease
	Silent    Cause = "silent"    // the network has shown no sign of life; nobody suspects the task
	Left      Cause = "left"      // it has given back what it held
)

// Close ends the stream, since its connection has ended. Silent means that the network, and not the worker, may have gone.
func (s *Stream) Close(cause Cause) { s.end(cause, nil) }

// Leave ends the stream at the worker's wish: what it holds goes back. last makes the last line from the number of leases
// that went back.
func (s *Stream) Leave(last func(released int) []byte) { s.end(Left, last) }

// end ends the stream.
func (s *Stream) end(cause Cause, last func(int) []byte) {
	p := s.pool
	p.mu.Lock()
	if s.closed {
		p.mu.Unlock()
		return
	}
	p.part(s)
	var now, again, elsewhere []*lease
	wait := &absence{key: s.identity(), node: s.Node, group: s.group, cause: cause}
	for _, l := range s.held {
		switch {
		case l.isOver || !l.written: // the pusher of one that is not written will see that the stream is closed
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
		s.say(last(len(now)))
	}
	s.closed = true
	for _, l := range wait.leases {
		l.stream = nil
	}
	if len(wait.leases) > 0 {
		p.await(wait, s.Grace)
	} else if cause == Died && len(now) > 0 {
		s.group.died = time.Now()
	}
	waiting := p.unserved(s.Actions)
	p.mu.Unlock()
	s.wake.Set()
	kind := Gone
	if cause == Left {
		kind = Released
	}
	p.end(now, Ending{Kind: kind, Cause: cause})
	p.end(elsewhere, Ending{Kind: Elsewhere})
	for _, l := range again {
		p.run(l)
	}
	p.end(waiting, Ending{Kind: Gone, Cause: Left})
	p.notify(s.Node, true)
	if last != nil {
		<-s.writerEnded
	}
}

// identity identifies a worker: a name belongs to a token, so that a client with another token cannot speak for the worker.
func identity(token, name string) string { return token + "\x00" + name }

func (o *Options) identity() string { return identity(o.Token, o.Name) }

// absence is a worker without a connection that may come back.
type absence struct {
	key, node string
	group     *Group
	cause     Cause
	leases    []*lease
	timer     *time.Timer
}

// await waits for a worker to come back. The caller holds mu.
func (p *Pool) await(a *absence, grace time.Duration) {
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
		gone := p.takeAbsent(a)
		if a.cause == Died && len(gone) > 0 {
			a.group.died = time.Now()
		}
		p.mu.Unlock()
		p.end(gone, Ending{Kind: Gone, Cause: a.cause})
	})
}

// takeAbsent removes the leases that still wait for their worker. The caller holds mu.
func (p *Pool) takeAbsent(a *absence) (gone []*lease) {
	for _, l := range a.leases {
		if l.stream == nil && p.leases[l.id] == l {
			p.forget(l)
			gone = append(gone, l)
		}
	}
	a.leases = nil
	return gone
}

// comeBack ends the absence of a worker, and returns the leases that it has forgotten. The caller holds mu.
func (p *Pool) comeBack(s *Stream) []*lease {
	a := p.absent[s.identity()]
	if a == nil || a.node != s.Node && len(s.Hold) == 0 {
		return nil
	}
	a.timer.Stop()
	delete(p.absent, s.identity())
	gone := p.takeAbsent(a)
	if len(gone) > 0 {
		s.group.died = time.Now()
	}
	return gone
}

// appendRefusal returns the last line of a stream that ends with an error.
func appendRefusal(id []byte, refusal *task.Error) []byte {
	return wire.AppendError(nil, bytes.Clone(id), refusal)
}
