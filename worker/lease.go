package worker

import (
	"time"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// Task is an attempt that is given to a worker.
type Task struct {
	Lease   string // unique for ever
	Action  string
	Timeout time.Duration
	Durable *task.Task // nil: a direct run
	Payload []byte     // raw JSON; the pool does not keep it after the push
	Ended   func(Ending)
	// Report receives what the worker says about its attempt; nil: nobody does. It must not block.
	Report func(percent float64, message string)
}

// Kind is how an attempt on a worker ended.
type Kind uint8

// The kinds.
const (
	Done Kind = iota + 1
	Failed
	Released  // the worker gave it back
	TimedOut  // its time is over
	Cancelled // it was asked to stop, and did not answer in time
	Gone      // its worker has gone; the cause says how
	Lost      // the store has given its task to another claim
	Unwritten // the worker went before the push was written
	Elsewhere // the node stops, and the worker names the lease to another one
)

// Ending is how an attempt ended.
type Ending struct {
	Kind       Kind
	Cause      Cause      // of Gone
	Data       []byte     // of Done: raw JSON; nil: null
	Blob       *task.Body // of Done: the data is in blob storage
	Upload     string     // the id that the data was uploaded under
	Error      string     // of Failed
	Permanent  bool       // of Failed: no other attempt is made
	RetryAfter time.Duration
	Delay      time.Duration // of Released
	Worker     string
	// Reply is called when the outcome is stored, with what became of the task; nil: nobody asks.
	Reply func(state task.State, t *task.Task, refusal *task.Error)
}

// lease is an attempt that a worker holds. The mutex of the pool guards its fields.
type lease struct {
	Task
	id      string
	token   string  // of the worker that holds it
	worker  string  // its name
	node    string  // to which it is connected
	stream  *Stream // nil while the worker is away, or a direct run waits for one
	written bool
	code    task.Code // it was asked to stop with this; "": it was not
	isOver  bool      // the attempt has ended, and the worker has not answered
	timer   *time.Timer
	text    []byte      // the push, until a poll takes it
	life    *time.Timer // ends the lease of a worker without a connection
}

func (l *lease) isDirect() bool { return l.Durable == nil }

func (l *lease) isSuspect() bool { return l.Durable != nil && l.Durable.Suspect }

// hold gives a slot of a stream to a lease. The caller holds the mutex of the pool.
func (s *Stream) hold(l *lease) {
	s.held[l.id] = l
	l.stream, l.token, l.worker, l.node = s, s.Token, s.Name, s.Node
	if l.isSuspect() {
		s.clearing = false // from now on it isolates the suspect
		if s.suspects++; s.suspects == 1 {
			s.suspectsSince = time.Now()
		}
	}
	s.fix()
}

// moveTo moves a lease to a stream of the worker that holds it. The caller holds the mutex of the pool.
func (l *lease) moveTo(s *Stream) {
	if l.stream != nil {
		l.stream.drop(l)
	}
	s.hold(l)
	if l.code != "" { // the line that asked it to stop may be lost
		s.say(wire.AppendStop(nil, s.ID, l.id, l.code))
	}
}

// drop frees the slot of a lease. The caller holds the mutex of the pool.
func (s *Stream) drop(l *lease) {
	if s.held[l.id] != l {
		return
	}
	delete(s.held, l.id)
	if l.isOver {
		s.over--
	}
	if l.isSuspect() {
		s.suspects--
	}
	l.stream = nil
	s.fix()
}

// forget removes a lease. The caller holds mu.
func (p *Pool) forget(l *lease) {
	if l.stream != nil {
		l.stream.drop(l)
	}
	if l.timer != nil {
		l.timer.Stop()
	}
	if l.life != nil {
		l.life.Stop()
	}
	if p.leases[l.id] == l {
		delete(p.leases, l.id)
	}
}

// end tells the owners of attempts how they ended.
func (p *Pool) end(list []*lease, ending Ending) {
	for _, l := range list {
		ending.Worker = l.worker
		if ending.Kind == Gone && l.node != "" { // a direct run that waits is no worker's
			p.mu.Lock()
			p.statsOf(l.node).Lost[ending.Cause]++
			p.mu.Unlock()
		}
		l.Ended(ending)
	}
}

// Push gives a durable task to the worker of the group that has the most free slots. entering is called with the worker's
// name when a slot is taken, and may return false: the task is not pushed then. Push returns false if no slot is free. A
// suspect is only given to a worker that holds no other tasks.
func (g *Group) Push(t Task, entering func(worker string) bool) bool {
	p := g.pool
	l := &lease{Task: t, id: t.Lease}
	p.mu.Lock()
	s := g.pick(l.isSuspect())
	if s == nil {
		p.mu.Unlock()
		return false
	}
	p.take(s, l)
	p.mu.Unlock()
	if !entering(s.Name) {
		p.mu.Lock()
		p.forget(l)
		p.mu.Unlock()
		p.freed(s)
		return true
	}
	p.deliver(s, l)
	return true
}

// pick returns the stream for the next task; nil if no slot is free. The caller holds the mutex of the pool.
func (g *Group) pick(suspect bool) *Stream {
	if suspect {
		for _, s := range g.ready {
			if s.takesSuspect() {
				return s
			}
		}
		return nil
	}
	if len(g.ready) == 0 || g.ready[0].free() == 0 {
		return nil
	}
	return g.ready[0]
}

// take gives a lease a slot of a stream. The caller holds mu.
func (p *Pool) take(s *Stream, l *lease) {
	p.pushes++
	s.pushed = p.pushes
	p.leases[l.id] = l
	s.hold(l)
}

// deliver writes the push of a lease that has its slot.
func (p *Pool) deliver(s *Stream, l *lease) {
	push := wire.Push{Lease: l.id, Task: l.Durable, Action: l.Action, Timeout: l.Timeout, Payload: l.Payload}
	var line []byte
	if s.poll != nil {
		l.text = wire.AppendPolled(nil, &push)
	} else {
		line = wire.AppendPush(nil, s.ID, &push)
	}
	p.mu.Lock()
	if s.closed || l.stream != s || s.rests() {
		p.forget(l)
		p.mu.Unlock()
		if l.isDirect() {
			p.run(l)
		} else {
			l.Ended(Ending{Kind: Unwritten, Worker: s.Name})
		}
		return
	}
	if !l.isDirect() {
		l.Payload = nil
	}
	l.written = true
	p.setTimer(l, l.Timeout)
	s.setLife(l)
	if s.poll != nil {
		s.poll.add(l)
	} else {
		s.say(line)
	}
	if l.code != "" { // it was asked to stop meanwhile
		l.stop(l.code)
		l.timer.Reset(stopGrace)
	}
	p.mu.Unlock()
}

// setTimer has the attempt end when its time is over. The caller holds mu.
func (p *Pool) setTimer(l *lease, rest time.Duration) {
	l.timer = time.AfterFunc(rest, func() { p.expire(l) })
}

// Adopt gives a stream a lease that another process had granted. rest is what is left of its time.
func (s *Stream) Adopt(t Task, rest time.Duration) bool {
	p := s.pool
	l := &lease{Task: t, id: t.Lease, written: true}
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.closed || p.leases[l.id] != nil {
		return false
	}
	p.leases[l.id] = l
	s.hold(l)
	p.statsOf(s.Node).Adopted++
	p.setTimer(l, max(rest, 0))
	s.setLife(l)
	return true
}

// expire is called when the time of an attempt is over, and when it has not answered after it was asked to stop.
func (p *Pool) expire(l *lease) {
	p.mu.Lock()
	if p.leases[l.id] != l || l.isOver {
		p.mu.Unlock()
		return
	}
	kind := TimedOut
	if l.code == "" {
		l.stop(task.TimedOut)
		if !l.isDirect() {
			l.timer.Reset(stopGrace)
			p.mu.Unlock()
			return
		}
	} else if l.code == cancelledCode {
		kind = Cancelled
	}
	p.finishOver(l)
	p.mu.Unlock()
	l.Ended(Ending{Kind: kind, Worker: l.worker})
}

// cancelledCode is the code of the line that asks a worker to stop an attempt whose task was cancelled, and lostCode that
// of one whose lease is lost.
const (
	cancelledCode task.Code = "cancelled"
	lostCode      task.Code = "lost"
)

// stop asks the worker to stop an attempt. The caller holds the mutex of the pool.
func (l *lease) stop(code task.Code) {
	l.code = code
	if l.stream != nil && l.written {
		l.stream.say(wire.AppendStop(nil, l.stream.ID, l.id, code))
	}
}

// finishOver notes that an attempt has ended whose worker has not answered: the slot stays occupied. The caller holds mu.
func (p *Pool) finishOver(l *lease) {
	l.timer.Stop()
	if l.stream == nil {
		p.forget(l)
		return
	}
	l.isOver = true
	s := l.stream
	if s.over++; s.over >= s.Slots {
		s.full = time.Now()
	}
}

// Cancel asks the worker to stop an attempt, whose task was cancelled. If it does not answer in time, the attempt ends as
// Cancelled.
func (p *Pool) Cancel(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.leases[id]; l != nil {
		l.cancel()
	}
}

// cancel is Pool.Cancel. The caller holds the mutex of the pool.
func (l *lease) cancel() {
	if l.isOver || l.code != "" {
		return
	}
	l.stop(cancelledCode)
	if l.timer != nil {
		l.timer.Reset(stopGrace)
	}
}

// Lose ends an attempt as Lost, and tells its worker. It returns false if the pool does not have it.
func (p *Pool) Lose(id string) bool {
	p.mu.Lock()
	l := p.leases[id]
	if l == nil || l.isOver || !l.written {
		p.mu.Unlock()
		return false
	}
	l.stop(lostCode)
	p.finishOver(l)
	p.mu.Unlock()
	l.Ended(Ending{Kind: Lost, Worker: l.worker})
	return true
}

// Forget ends an attempt as Lost without a word to its worker, which has named the lease to another node.
func (p *Pool) Forget(id string) {
	p.mu.Lock()
	l := p.leases[id]
	if l == nil {
		p.mu.Unlock()
		return
	}
	over := l.isOver
	p.forget(l)
	p.mu.Unlock()
	if !over {
		l.Ended(Ending{Kind: Lost, Worker: l.worker})
	}
}

// RefuseUnknown refuses a lease that is not one of a durable task, and that no worker of this process holds.
func RefuseUnknown(lease string) *task.Error {
	return task.RefuseField(task.NotFound, "lease", "there is no lease %s; the run that it was for is over", lease)
}

// Verdict is what Finish found.
type Verdict uint8

// The verdicts.
const (
	Taken   Verdict = iota // the outcome is the attempt's
	Unknown                // no worker of this process holds the lease, or its attempt is over
	Foreign                // a worker with another token holds the lease
)

// Finish ends an attempt with the outcome that its worker sent, and frees its slot.
func (p *Pool) Finish(id []byte, token string, ending Ending) Verdict {
	p.mu.Lock()
	l := p.leases[string(id)]
	if l == nil || !l.written {
		p.mu.Unlock()
		return Unknown
	}
	if l.token != token {
		p.mu.Unlock()
		return Foreign
	}
	if l.code == task.TimedOut && ending.Kind != Done {
		ending.Kind = TimedOut // whatever the worker makes of it
	}
	s, over := l.stream, l.isOver
	p.forget(l)
	p.mu.Unlock()
	if !over {
		ending.Worker = l.worker
		l.Ended(ending)
	}
	if s != nil {
		p.freed(s)
	}
	if over {
		return Unknown
	}
	return Taken
}

// Report passes on what a worker says about an attempt. It returns false if no worker of this process with this token
// holds the lease.
func (p *Pool) Report(id []byte, token string, percent float64, message string) bool {
	p.mu.Lock()
	l := p.leases[string(id)]
	found := l != nil && !l.isOver && l.token == token
	if found {
		l.extend()
	}
	p.mu.Unlock()
	if found && l.Report != nil {
		l.Report(percent, message)
	}
	return found
}

// freed gives a free slot of a stream to a direct run that waits, or tells the engine of it.
func (p *Pool) freed(s *Stream) {
	p.dispatch(s)
	p.notify(s.Node, false)
}
