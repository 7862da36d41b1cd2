package durable

import (
	"context"
	"errors"
	"io"
	"time"
	"unicode/utf8"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

const (
	// launchAgain is how soon an executor that had no place is asked again.
	launchAgain = 50 * time.Millisecond
	// errorMost bounds the text of an error in the row and its history, in bytes.
	errorMost = 1 << 10
)

// start begins an attempt, after its payload has been read if that is no part of the row.
func (e *Engine) start(ctx context.Context, h *attempt) {
	if h.Task.Payload.IsBlob() && !e.streams(&h.Task) {
		e.parts.Go(func() { e.load(ctx, h) })
		return
	}
	payload := h.Task.Payload.Inline
	h.Task.Payload.Inline = nil // the executor has a copy
	e.launch(ctx, h, payload)
}

// launch gives an attempt to the executor, or waits until that has a place.
func (e *Engine) launch(ctx context.Context, h *attempt, payload []byte) {
	t := &h.Task
	attempt := executor.Attempt{
		Task:      executor.Task{ID: []byte(t.ID), Action: []byte(t.Action), Payload: payload, Timeout: t.Timeout},
		Number:    t.Attempt,
		Fence:     t.Fence,
		MaxResult: e.bodies.Most(),
		Enter:     func() bool { return e.enter(h) },
		Report:    func(percent float64, message string) { e.report(h, percent, message) },
	}
	if t.Payload.IsBlob() && payload == nil {
		attempt.Open = func(ctx context.Context) (io.ReadCloser, error) { return e.bodies.OpenPayload(ctx, t) }
	}
	if !e.tryLaunch(h, attempt) {
		e.parts.Go(func() {
			for !e.tryLaunch(h, attempt) {
				if !pause(ctx, launchAgain) || e.hands.IsStopped(h) {
					e.abandon(h)
					return
				}
			}
		})
	}
}

func (e *Engine) tryLaunch(h *attempt, attempt executor.Attempt) bool {
	if !e.source.TryAttempt(attempt, func(ending executor.Ending) { e.ended(h, ending) }) {
		return false
	}
	fail.Point("run.launched")
	if e.hands.IsStopped(h) { // before the executor knew it
		e.source.CancelTask(attempt.ID, attempt.Fence)
	}
	return true
}

// stopAttempt ends the context of an attempt.
func (e *Engine) stopAttempt(h *attempt, reason stopReason) {
	if e.hands.Stop(h, reason) && !e.giveUp(h) {
		e.source.CancelTask([]byte(h.Task.ID), h.Task.Fence)
	}
}

// abandon gives a task back though its function may still run; what that comes to is dropped.
func (e *Engine) abandon(h *attempt) {
	reason, first := e.hands.End(h)
	if first && reason != stopLost {
		o := e.hands.Outcome(h, reason)
		if !o.Unentered {
			o.Change = task.Release // its action may still succeed, and whoever asked for its end is told
		}
		e.records.put(h, o)
	}
	if first {
		e.freed(h)
	}
}

// enter tells whether the action of an attempt, which has its slot, may be entered now.
func (e *Engine) enter(h *attempt) bool {
	fail.Point("run.slot")
	if !e.hands.Enter(h) {
		return false
	}
	e.byQueue.entered(&h.Task, e.config.Now())
	poke(e.marks)
	return true
}

// ended is called when an attempt has ended.
func (e *Engine) ended(h *attempt, ending executor.Ending) {
	fail.Point("run.ended")
	if ending.Outcome != executor.NotEntered && !e.hands.Began(h) { // its payload could not be read, say
		ending.Outcome = executor.NotEntered
	}
	reason, first := e.hands.End(h)
	switch {
	case !first: // it was abandoned
		return
	case reason == stopLost:
		e.counts.dropped.Add(1)
	case ending.Outcome == executor.NotEntered:
		e.records.put(h, e.hands.Outcome(h, reason))
	default:
		e.records.put(h, e.outcome(&h.Task, reason, ending))
	}
	e.freed(h)
}

// freed has the engine claim again if there is something for the slot that an attempt left.
func (e *Engine) freed(h *attempt) {
	e.ahead.Leave(h)
	limited := e.limits(h.Task.Queue) || e.limitsAction(h.Task.Action)
	if limited && (e.mailbox == nil || e.left.Load()) {
		e.more.Store(true)
	}
	if e.mailbox != nil {
		e.tellRoom(limited)
	}
	if e.more.Load() || e.hasMail() || e.suspects.Load() {
		poke(e.wake)
	}
}

// outcome says what shall be recorded. A success counts whatever else was asked for.
func (e *Engine) outcome(t *task.Task, reason stopReason, ending executor.Ending) store.Outcome {
	o := store.Outcome{ID: t.ID, Fence: t.Fence}
	if ending.Outcome == executor.Done {
		result, err := e.saveResult(t, ending.Result)
		if err == nil {
			o.Change, o.Result = task.Succeed, result
			return o
		}
		ending.Outcome, ending.Err = executor.Failed, err
	}
	interrupted := ending.Outcome == executor.Cancelled ||
		(reason != notStopped && ending.Outcome == executor.Failed)
	switch {
	case reason == stopCancelled:
		o.Change = task.Cancel
		return o
	case interrupted: // by a drain, by the lease, or by the executor's own end: no failure
		o.Change = task.Release
		return o
	}
	e.failure(t, &o, ending)
	return o
}

// failure says what shall be recorded of an attempt that failed.
func (e *Engine) failure(t *task.Task, o *store.Outcome, ending executor.Ending) {
	var large *executor.TooLargeError
	var body *bodyError
	o.Change, o.Code, o.Error = task.Again, task.ActionFailed, cut(task.CleanText(ending.Err.Error()))
	switch {
	case ending.Outcome == executor.TimedOut:
		o.Code = task.TimedOut
	case errors.As(ending.Err, &large):
		o.Change, o.Code = task.Fail, task.ResultTooLarge
	case errors.As(ending.Err, &body):
		o.Code = task.BlobUnavailable
		if body.Final {
			o.Change = task.Fail
		}
	case actions.IsPermanent(ending.Err):
		o.Change = task.Fail
	}
	if o.Change != task.Again {
		return
	}
	if delay, said := actions.RetryDelay(ending.Err); said {
		o.Delay = min(delay, task.MaxBackoff)
	} else {
		o.Delay = t.Wait(t.Failures, e.config.Jitter())
	}
}

// cut shortens an error's text to what a row may hold. It leaves out the middle: the beginning says how an attempt
// ended, and the end of what a program wrote says why.
func cut(text string) string {
	const gap, head = "…", errorMost / 4
	if len(text) <= errorMost {
		return text
	}
	begin, end := head, len(text)-(errorMost-head)
	for begin > 0 && !utf8.RuneStart(text[begin]) {
		begin--
	}
	for end < len(text) && !utf8.RuneStart(text[end]) {
		end++
	}
	return text[:begin] + gap + text[end:]
}
