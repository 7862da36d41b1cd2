package worker

import (
	"time"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// Task is an attempt for a worker to run.
type Task struct {
	Lease string // unique for ever
	// Sign returns what completes Lease when a worker of a holder receives the task; nil: it is complete.
	Sign    func(holder string) string
	Action  string
	Timeout time.Duration
	Durable *task.Task // nil: a direct run
	Payload []byte     // raw JSON; of a durable task, the pool does not keep it after the push
	// Ended is called once when the attempt has ended, on any goroutine. It must not block.
	Ended func(Ending)
	// Report receives the progress of the attempt; nil: it is dropped. It must not block.
	Report func(percent float64, message string)
}

// Kind is how an attempt on a worker ended.
type Kind uint8

// The kinds.
const (
	Done Kind = iota + 1
	Failed
	Released    // the worker released it
	TimedOut    // its timeout is over
	Cancelled   // it was cancelled, and its worker did not answer in time
	Gone        // its worker has gone; Cause says how
	Lost        // the store has given its task to another claim
	Undelivered // the worker went before the push was written
	Moved       // the node stops, and the worker takes the lease to another one
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
	// Reply is called once when the store has answered, with the new state of the task or with a refusal; nil: the worker
	// expects no answer.
	Reply func(state task.State, t *task.Task, refusal *task.Error)
}

// lease is an attempt that a worker holds. The mutex of the pool guards its fields.
type lease struct {
	Task
	id         string
	token      string  // of the worker that holds it
	worker     string  // its name
	node       string  // to which it is connected
	stream     *Stream // nil while the worker is away, or a direct run waits for one
	written    bool
	stopCode   task.Code // why the worker was asked to stop; "": it was not asked
	isOver     bool      // the attempt has ended, but its worker has not answered
	timer      *time.Timer
	pushText   []byte      // the push, until a poll takes it
	leaseTimer *time.Timer // ends the lease of a worker without a connection
}

func (l *lease) isDirect() bool { return l.Durable == nil }

func (l *lease) isSuspect() bool { return l.Durable != nil && l.Durable.Suspect }

// hold puts a lease into a slot of a stream. The caller holds the mutex of the pool.
func (s *Stream) hold(l *lease) {
	s.held[l.id] = l
	l.stream, l.token, l.worker, l.node = s, s.Token, s.Name, s.Node
	if l.isSuspect() {
		s.clearing = false // from now on it isolates the suspect
		if s.place >= 0 {
			s.group.suspects++
		}
		if s.suspects++; s.suspects == 1 {
			s.suspectsSince = time.Now()
		}
	}
	s.reorder()
}

// moveTo moves a lease to a stream of the worker that holds it. The caller holds the mutex of the pool.
func (l *lease) moveTo(s *Stream) {
	if l.stream != nil {
		l.stream.drop(l)
	}
	s.hold(l)
	if l.stopCode != "" { // the worker may not have received the request to stop
		s.queueLine(wire.AppendStop(nil, s.ID, l.id, l.stopCode))
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
		if s.place >= 0 {
			s.group.suspects--
		}
	}
	l.stream = nil
	s.reorder()
}

// forget removes a lease. The caller holds mu.
func (p *Pool) forget(l *lease) {
	if l.stream != nil {
		l.stream.drop(l)
	}
	if l.timer != nil {
		l.timer.Stop()
	}
	if l.leaseTimer != nil {
		l.leaseTimer.Stop()
	}
	if p.leases[l.id] == l {
		delete(p.leases, l.id)
	}
}

// end reports the ending of attempts to their owners.
func (p *Pool) end(list []*lease, ending Ending) {
	for _, l := range list {
		ending.Worker = l.worker
		if ending.Kind == Gone && l.node != "" { // a waiting direct run has no worker
			p.mu.Lock()
			p.statsOf(l.node).Lost[ending.Cause]++
			p.mu.Unlock()
		}
		l.Ended(ending)
	}
}

// Push sends a durable task to the worker of the group that has the most free slots. A suspect is only sent to a worker that
// holds nothing but suspects. Push returns false if no worker can receive the task. Otherwise it takes a slot and calls
// entering with the name of the worker and the lease. If entering returns false, the task is not sent, and t.Ended is not
// called.
func (g *Group) Push(t Task, entering func(worker, lease string) bool) bool {
	p := g.pool
	l := &lease{Task: t, id: t.Lease}
	p.mu.Lock()
	s := g.pick(l.isSuspect())
	if s == nil {
		p.mu.Unlock()
		return false
	}
	if t.Sign != nil {
		l.id += t.Sign(s.Token)
	}
	p.assign(s, l)
	p.mu.Unlock()
	if !entering(s.Name, l.id) {
		p.mu.Lock()
		p.forget(l)
		p.mu.Unlock()
		p.freed(s)
		return true
	}
	p.deliver(s, l)
	return true
}

// pick returns the stream for the next task, or nil if no slot is free. The caller holds the mutex of the pool.
func (g *Group) pick(suspect bool) *Stream {
	if suspect {
		for _, s := range g.ready {
			if s.canTakeSuspect() {
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

// assign adds a lease to the pool and puts it into a slot of a stream. The caller holds mu.
func (p *Pool) assign(s *Stream, l *lease) {
	p.pushes++
	s.pushed = p.pushes
	p.leases[l.id] = l
	s.hold(l)
}

// deliver sends the push of a lease that has its slot.
func (p *Pool) deliver(s *Stream, l *lease) {
	push := wire.Push{Lease: l.id, Task: l.Durable, Action: l.Action, Timeout: l.Timeout, Payload: l.Payload}
	var line []byte
	if s.poll != nil {
		l.pushText = wire.AppendPolled(nil, &push)
	} else {
		line = wire.AppendPush(nil, s.ID, &push)
	}
	p.mu.Lock()
	if s.closed || l.stream != s || s.isBetweenPolls() {
		p.forget(l)
		p.mu.Unlock()
		if l.isDirect() {
			p.run(l)
		} else {
			l.Ended(Ending{Kind: Undelivered, Worker: s.Name})
		}
		return
	}
	if !l.isDirect() {
		l.Payload = nil
	}
	l.written = true
	p.startTimer(l, l.Timeout)
	s.startLeaseTimer(l)
	if s.poll != nil {
		s.poll.add(l)
	} else {
		s.queueLine(line)
	}
	if l.stopCode != "" { // it was cancelled meanwhile
		l.stop(l.stopCode)
		l.timer.Reset(stopGrace)
	}
	p.mu.Unlock()
}

// startTimer starts the timer that ends an attempt at its timeout, after rest. The caller holds mu.
func (p *Pool) startTimer(l *lease, rest time.Duration) {
	l.timer = time.AfterFunc(rest, func() { p.timerEnded(l) })
}

// Adopt adds a lease that another node granted to a stream. rest is the time until its timeout. Adopt returns false, and
// t.Ended is not called, if the stream has ended or the pool has the lease already.
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
	p.startTimer(l, max(rest, 0))
	s.startLeaseTimer(l)
	return true
}

// timerEnded is called at the timeout of an attempt, and again if its worker does not answer a request to stop in time.
func (p *Pool) timerEnded(l *lease) {
	p.mu.Lock()
	if p.leases[l.id] != l || l.isOver {
		p.mu.Unlock()
		return
	}
	kind := TimedOut
	if l.stopCode == "" {
		l.stop(task.TimedOut)
		if !l.isDirect() {
			l.timer.Reset(stopGrace)
			p.mu.Unlock()
			return
		}
	} else if l.stopCode == codeCancelled {
		kind = Cancelled
	}
	p.markOver(l)
	p.mu.Unlock()
	l.Ended(Ending{Kind: kind, Worker: l.worker})
}

// codeCancelled and codeLost are the codes of the line that asks a worker to stop an attempt: its task was cancelled, or its
// lease is lost.
const (
	codeCancelled task.Code = "cancelled"
	codeLost      task.Code = "lost"
)

// stop asks the worker to stop an attempt. The caller holds the mutex of the pool.
func (l *lease) stop(code task.Code) {
	l.stopCode = code
	if l.stream != nil && l.written {
		l.stream.queueLine(wire.AppendStop(nil, l.stream.ID, l.id, code))
	}
}

// markOver marks an attempt that has ended without an answer of its worker. It keeps its slot until the worker answers. The
// caller holds mu.
func (p *Pool) markOver(l *lease) {
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

// Cancel asks the worker of an attempt to stop it, because its task was cancelled. If the worker does not answer within 5
// seconds, the attempt ends as Cancelled.
func (p *Pool) Cancel(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.leases[id]; l != nil {
		l.cancel()
	}
}

// cancel is Pool.Cancel. The caller holds the mutex of the pool.
func (l *lease) cancel() {
	if l.isOver || l.stopCode != "" {
		return
	}
	l.stop(codeCancelled)
	if l.timer != nil {
		l.timer.Reset(stopGrace)
	}
}

// Lose ends an attempt as Lost, and asks its worker to stop. It returns false if no worker of the pool has the attempt.
func (p *Pool) Lose(id string) bool {
	p.mu.Lock()
	l := p.leases[id]
	if l == nil || l.isOver || !l.written {
		p.mu.Unlock()
		return false
	}
	l.stop(codeLost)
	p.markOver(l)
	p.mu.Unlock()
	l.Ended(Ending{Kind: Lost, Worker: l.worker})
	return true
}

// Forget ends an attempt as Lost. It sends nothing to the worker, which has taken the lease to another node.
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

// RefuseForeign returns the refusal of a lease that another client holds.
func RefuseForeign(lease string) *task.Error {
	return task.RefuseField(task.Forbidden, "lease", "lease %s belongs to another token", lease)
}

// RefuseUnknown returns the refusal of a lease that belongs to no durable task and that no worker of this process holds.
func RefuseUnknown(lease string) *task.Error {
	return task.RefuseField(task.NotFound, "lease", "there is no lease %s; the run that it was for is over", lease)
}

// Verdict is the result of Finish.
type Verdict uint8

// The verdicts.
const (
	Accepted Verdict = iota // the attempt has ended with the outcome
	Unknown                 // no worker of this process holds the lease, or its attempt was over before
	Foreign                 // a worker with another token holds the lease
)

// Finish ends an attempt with the outcome that its worker sent, and frees its slot. Only if it returns Accepted, ending is
// passed to the owner of the attempt.
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
	if l.stopCode == task.TimedOut && ending.Kind != Done {
		ending.Kind = TimedOut // only a result can still count
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
	return Accepted
}

// Report passes the progress of an attempt to its owner. It returns false if no worker of this process with this token holds
// the lease.
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

// freed is called when a slot of a stream is free: it pushes a waiting direct run, and wakes the engine.
func (p *Pool) freed(s *Stream) {
	p.dispatch(s)
	p.notify(s.Node, false)
}
