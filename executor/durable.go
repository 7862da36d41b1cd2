package executor

import (
	"errors"

	"github.com/posta-tasks/posta/actions"
)

// Attempt is one attempt of a durable task.
type Attempt struct {
	Task
	Number    int                                   // the number of the attempt, from 1
	Fence     int                                   // the claim that the attempt belongs to; claims of the same attempt have different fences
	MaxResult int                                   // maximal size of the result in bytes; 0: Config.MaxResult
	Report    func(percent float64, message string) // receives the progress that the action reports; it must not block
	Lease     func() string                         // returns the lease under which another program can send the outcome
	Open      actions.Opener                        // opens a payload that is not in Payload
	// Enter is called in the slot, immediately before the action is entered. If it returns false, the action is not
	// entered and the Outcome is NotEntered. It receives the Definition of the action. nil: always true.
	Enter func(definition string) bool
}

// Ending is the end of an Attempt.
type Ending struct {
	Result  []byte // the whole result object
	Outcome Outcome
	Err     error // nil if the outcome is Done. An error of the action is reduced to its text and its marks Permanent and RetryAfter
}

// TooLargeError is the error of an attempt whose result is larger than allowed.
type TooLargeError = actions.TooLargeError

// durable has the fields of an attempt that only an Attempt needs.
type durable struct {
	fence     int
	maxResult int
	enter     func(definition string) bool // nil: always
	ended     func(Ending)
	err       error // of the action; it may be read once the function has returned
}

// TryAttempt runs an attempt of a durable task in a slot, and calls ended once when the attempt has ended, on any
// goroutine. Like TryStart it copies the task and never blocks: if too many tasks wait already, it does nothing and
// returns false. CancelTask ends the attempt. If the action does not exist any more, it is not entered.
func (s *Source) TryAttempt(t Attempt, ended func(Ending)) bool {
	a, weight := s.attempt(t.Task, nil)
	if a == nil {
		ended(Ending{Outcome: NotEntered})
		return true
	}
	a.durable, a.ctx = &durable{fence: t.Fence, maxResult: t.MaxResult, enter: t.Enter, ended: ended}, &callContext{e: s.e} // CancelTask may end it before it begins
	a.call.Task, a.call.Attempt, a.call.OnLease, a.call.OnReport, a.call.OnOpen = string(t.ID), t.Number, t.Lease, t.Report, t.Open
	s.add(a)
	s.e.running.Add(1)
	if s.queue.TryGo(weight, a.limit, a.run) {
		return true
	}
	s.e.running.Done()
	s.remove(a)
	return false
}

// CancelTask ends the context of the Attempt for a claim. An attempt that waits for a slot ends when it gets one.
// CancelTask does nothing if the attempt has ended.
func (s *Source) CancelTask(id []byte, fence int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for a := range s.running {
		if a.durable != nil && a.durable.fence == fence && a.call.Task == string(id) {
			a.ctx.end(endedByCancel)
		}
	}
}

// Free returns the number of slots that are free and that no task waits for. A task that waits for a slot of its
// own action does not count.
func (e *Executor) Free() int {
	s := e.pool.Stats()
	return max(0, s.Slots-s.Busy-(s.Waiting-s.Aside))
}

// mayEnter reports whether an attempt that has its slot may enter its action.
func (a *attempt) mayEnter() bool {
	d := a.durable
	return d == nil || a.ctx.Err() == nil && a.known.held(a.e.now()) == 0 && (d.enter == nil || d.enter(a.entry.Definition))
}

// leaveUnentered ends an attempt whose action is not entered.
func (a *attempt) leaveUnentered() {
	a.e.pool.LeaveSlot(a.limit)
	a.source.remove(a)
	a.ctx.end(endedByCancel)
	a.durable.ended(Ending{Outcome: NotEntered})
	a.e.running.Done()
}

// maxResult returns the maximal size of the result in bytes.
func (a *attempt) maxResult() int {
	if a.durable != nil && a.durable.maxResult > 0 {
		return a.durable.maxResult
	}
	return a.e.config.MaxResult
}

// failed keeps the text and the marks of an error of an action for the Ending. It does not keep the error itself,
// since its methods are code of the action, which could panic outside of the attempt.
func (d *durable) failed(err error, text string) {
	if d == nil {
		return
	}
	var large *TooLargeError
	if d.err = errors.New(text); errors.As(err, &large) {
		d.err = large
	} else if actions.IsPermanent(err) {
		d.err = actions.Permanent(d.err)
	} else if delay, said := actions.RetryDelay(err); said {
		d.err = actions.RetryAfter(d.err, delay)
	}
}

// end reports the end of a durable attempt.
func (a *attempt) end(result []byte, outcome Outcome) {
	ending := Ending{Result: result, Outcome: outcome}
	switch outcome {
	case Done:
	case TimedOut:
		ending.Err = errors.New(a.timedOut())
	case Cancelled:
		ending.Err = errors.New(cancelledText)
	default:
		ending.Err = a.durable.err
	}
	a.durable.ended(ending)
}
