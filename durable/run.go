package durable

import (
	"errors"
	"time"
	"unicode/utf8"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

const (
	// backoffBase and backoffMost bound the window in which another attempt begins: it
	// doubles with each failure.
	backoffBase = time.Second
	backoffMost = 15 * time.Minute
	// errorMost bounds the text of an error in the row and its history, in bytes.
	errorMost = 1 << 10
)

// start gives an attempt to the executor. When that has no place it goes back to the store.
func (e *Engine) start(h *held) {
	t := &h.task
	attempt := executor.Attempt{
		Task: executor.Task{
			ID: []byte(t.ID), Action: []byte(t.Action), Payload: t.Payload.Inline, Timeout: t.Timeout,
		},
		Number:    t.Attempt,
		MaxResult: task.InlineBytes,
		Report:    func(percent float64, message string) { e.report(h, percent, message) },
	}
	h.task.Payload.Inline = nil // the executor has a copy
	if t.Cancelling {
		e.stopAttempt(h, stopCancelling)
	}
	if !e.source.TryAttempt(attempt, func(ending executor.Ending) { e.ended(h, ending) }) {
		e.abandon(h)
	}
}

// stopAttempt ends the context of an attempt.
func (e *Engine) stopAttempt(h *held, reason stopReason) {
	if e.hands.stop(h, reason) {
		e.source.CancelTask([]byte(h.task.ID), h.task.Attempt)
	}
}

// abandon gives a task back though its function may still run; what that comes to is dropped.
func (e *Engine) abandon(h *held) {
	if _, first := e.hands.end(h); first {
		e.records.put(h, store.Outcome{ID: h.task.ID, Attempt: h.task.Attempt, Change: task.Release})
	}
}

// ended is called when an attempt has ended.
func (e *Engine) ended(h *held, ending executor.Ending) {
	reason, first := e.hands.end(h)
	switch {
	case !first:
	case reason == stopLost:
		e.counts.dropped.Add(1)
	default:
		e.records.put(h, e.outcome(&h.task, reason, ending))
	}
	if h.task.Suspect {
		e.suspects.Store(e.config.Lone)
		poke(e.wake)
	}
	if e.limits(h.task.Queue) {
		e.more.Store(true)
	}
	if e.more.Load() {
		poke(e.wake)
	}
}

// outcome says what shall be recorded. A success counts whatever else was asked for.
func (e *Engine) outcome(t *task.Task, reason stopReason, ending executor.Ending) store.Outcome {
	o := store.Outcome{ID: t.ID, Attempt: t.Attempt}
	if ending.Outcome == executor.Done {
		o.Change, o.Result.Inline = task.Succeed, ending.Result
		return o
	}
	interrupted := ending.Outcome == executor.Cancelled ||
		(reason != notStopped && ending.Outcome == executor.Failed)
	switch {
	case reason == stopCancelling:
		o.Change = task.Cancel
		return o
	case interrupted: // by a drain, by the lease, or by the executor's own end: no failure
		o.Change = task.Release
		return o
	}
	var large *executor.TooLargeError
	o.Change, o.Code, o.Error = task.Again, task.ActionFailed, cut(ending.Err.Error())
	switch {
	case ending.Outcome == executor.TimedOut:
		o.Code = task.TimedOut
	case errors.As(ending.Err, &large):
		o.Change, o.Code = task.Fail, task.ResultTooLarge
	case actions.IsPermanent(ending.Err):
		o.Change = task.Fail
	}
	if o.Change == task.Again {
		o.RunAt = e.config.Now().Add(e.backoff(t.Failures))
	}
	return o
}

// backoff is how long a task waits for its next attempt after so many failures before this
// one: anything up to a bound that doubles, so that what failed together does not come back together.
func (e *Engine) backoff(failures int) time.Duration {
	window := backoffMost
	if failures < 10 {
		window = min(backoffBase<<failures, backoffMost)
	}
	return time.Duration(e.config.Jitter() * float64(window))
}

// cut shortens an error's text to what a row may hold.
func cut(text string) string {
	if len(text) <= errorMost {
		return text
	}
	n := errorMost
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + "…"
}
