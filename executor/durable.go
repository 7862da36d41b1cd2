package executor

import (
	"errors"

	"github.com/posta-tasks/posta/actions"
)

// Attempt is one attempt of a durable task.
type Attempt struct {
	Task
	Number    int                                   // which attempt it is, from 1
	Fence     int                                   // which claim of the task it is for; a number may be that of several
	MaxResult int                                   // bytes of its result; 0: as for other tasks
	Report    func(percent float64, message string) // what the action says about itself; it must not block
	Open      actions.Opener                        // of a payload that is not in Payload
	// Enter is called in the attempt's slot when its action is about to be entered; false keeps it from that, and the
	// Outcome is NotEntered. nil: it always is.
	Enter func() bool
}

// Ending is how an Attempt ended.
type Ending struct {
	Result  []byte // the whole result object
	Outcome Outcome
	Err     error // nil if the outcome is Done; of actions' own errors the text, and whether it is Permanent or says RetryAfter
}

// TooLargeError is the failure of an attempt whose result is larger than allowed.
type TooLargeError = actions.TooLargeError

// durable is what an attempt has when it is an Attempt.
type durable struct {
	fence     int
	maxResult int
	enter     func() bool // nil: always
	ended     func(Ending)
	err       error // of the action; read by nobody before its function has returned
}

// TryAttempt arranges for an attempt of a durable task to run in a slot; ended is called
// once when it ends, on some goroutine. As TryStart it copies the task and never blocks: it gives
// false, and does nothing, when as many tasks wait as may. CancelTask can end it. One whose
// action was taken away is not entered.
func (s *Source) TryAttempt(t Attempt, ended func(Ending)) bool {
	a, weight := s.attempt(t.Task, nil)
	if a == nil {
		ended(Ending{Outcome: NotEntered})
		return true
	}
	a.durable, a.ctx = &durable{fence: t.Fence, maxResult: t.MaxResult, enter: t.Enter, ended: ended}, &callContext{e: s.e} // it can be ended before it begins
	a.call.Task, a.call.Attempt, a.call.OnReport, a.call.OnOpen = string(t.ID), t.Number, t.Report, t.Open
	s.add(a)
	s.e.running.Add(1)
	if s.queue.TryGo(weight, a.limit, a.run) {
		return true
	}
	s.e.running.Done()
	s.remove(a)
	return false
}

// CancelTask ends the context of the Attempt for a claim; one that still waits will end when its turn
// comes. It does nothing when the attempt has ended.
func (s *Source) CancelTask(id []byte, fence int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for a := range s.running {
		if a.durable != nil && a.durable.fence == fence && a.call.Task == string(id) {
			a.ctx.end(endedByCancel)
		}
	}
}

// Free is how many slots are neither taken nor waited for at this moment. What waits for its
// action's own slots waits for none of these.
func (e *Executor) Free() int {
	s := e.pool.Stats()
	return max(0, s.Slots-s.Busy-(s.Waiting-s.Aside))
}

// mayEnter reports whether an attempt that has its slot shall be run.
func (a *attempt) mayEnter() bool {
	d := a.durable
	return d == nil || a.ctx.Err() == nil && a.known.held(a.e.now()) == 0 && (d.enter == nil || d.enter())
}

// leaveUnentered ends an attempt whose action is not entered after all.
func (a *attempt) leaveUnentered() {
	a.e.pool.LeaveSlot(a.limit)
	a.source.remove(a)
	a.ctx.end(endedByCancel)
	a.durable.ended(Ending{Outcome: NotEntered})
	a.e.running.Done()
}

// maxResult is how many bytes the attempt's result may have.
func (a *attempt) maxResult() int {
	if a.durable != nil && a.durable.maxResult > 0 {
		return a.durable.maxResult
	}
	return a.e.config.MaxResult
}

// failed keeps of an action's error its text and its marks for the Ending: its methods are the
// action's own code, which nobody calls who is not guarded against its panics.
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

// end tells how a durable attempt ended.
func (a *attempt) end(result []byte, outcome Outcome) {
	ending := Ending{Result: result, Outcome: outcome}
	switch outcome {
	case Done:
	case TimedOut:
		ending.Err = errors.New(a.timedOut())
	case Cancelled:
		ending.Err = errors.New("cancelled")
	default:
		ending.Err = a.durable.err
	}
	a.durable.ended(ending)
}
