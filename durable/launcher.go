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
	"github.com/posta-tasks/posta/internal/wait"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

const (
	// launchAgain is how soon a full executor is tried again.
	launchAgain = 50 * time.Millisecond
	// errorMost is the largest error text in the row and its history, in bytes.
	errorMost = 1 << 10
)

// launcher runs claimed tasks with the executor, and ends their attempts.
type launcher struct {
	*core
	source     *executor.Source
	prefetch   *prefetch
	bodies     bodies
	recorder   *recorder
	claimer    *claimer
	dispatcher *dispatcher

	wake wait.Signal // a waiting attempt may have a slot
}

func newLauncher(c *core, bodies bodies, recorder *recorder) *launcher {
	l := &launcher{core: c, source: c.config.Executor.NewSource(), bodies: bodies, recorder: recorder, wake: wait.NewSignal()}
	l.prefetch = newPrefetch(c.config.Slots, l.wake.Set)
	return l
}

// Run launches waiting attempts as slots become free, and releases those that wait too long, until ctx ends.
func (l *launcher) Run(ctx context.Context) {
	timer := time.NewTimer(prefetchPatience)
	defer timer.Stop()
	for {
		select {
		case <-l.wake:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		l.launchNext(ctx)
		for _, a := range l.prefetch.Late(prefetchPatience) {
			l.abandon(a)
		}
		if l.prefetch.Len() > 0 {
			timer.Reset(prefetchPatience)
		}
	}
}

// add adds attempts of tasks that were just claimed.
func (l *launcher) add(list []*attempt) {
	l.addTo(l.prefetch, list)
	if l.prefetch.Len() > 0 {
		l.wake.Set()
	}
}

// addTo adds attempts to a prefetch, which ends each of them if it expires there.
func (l *launcher) addTo(ahead *prefetch, list []*attempt) {
	ahead.Put(list)
	for _, a := range list {
		if !a.Task.Expires.IsZero() {
			l.attempts.AtExpiry(a, func() { l.giveUp(a) })
		}
	}
}

// launchNext launches attempts as long as there are slots.
func (l *launcher) launchNext(ctx context.Context) {
	for a := l.prefetch.Next(); a != nil; a = l.prefetch.Next() {
		l.launch(ctx, a)
	}
}

// launch launches an attempt, after its payload has been read if that is not in the row.
func (l *launcher) launch(ctx context.Context, a *attempt) {
	if a.Task.Payload.IsBlob() && !l.streams(&a.Task) {
		l.goroutines.Go(func() { l.load(ctx, a) })
		return
	}
	payload := a.Task.Payload.Inline
	a.Task.Payload.Inline = nil // the executor has a copy
	l.launchWith(ctx, a, payload)
}

// load reads the payload of an attempt and launches it. It runs on its own goroutine.
func (l *launcher) load(ctx context.Context, a *attempt) {
	payload, err := l.bodies.ReadPayload(ctx, &a.Task)
	fail.Point("run.loaded")
	switch {
	case ctx.Err() != nil:
		l.abandon(a)
	case err != nil:
		l.finish(a, executor.Ending{Outcome: executor.Failed, Err: err})
	default:
		l.launchWith(ctx, a, payload)
	}
}

// streams reports whether the action of a task reads its payload as a stream from blob storage.
func (l *launcher) streams(t *task.Task) bool {
	return l.config.Blobs != nil && l.config.Streams != nil && l.config.Streams(t.Action)
}

// launchWith passes an attempt to the executor, or waits until the executor has room.
func (l *launcher) launchWith(ctx context.Context, a *attempt, payload []byte) {
	t := &a.Task
	run := executor.Attempt{
		Task:      executor.Task{ID: []byte(t.ID), Action: []byte(t.Action), Payload: payload, Timeout: t.Timeout},
		Number:    t.Attempt,
		Fence:     t.Fence,
		MaxResult: l.bodies.Most(),
		Enter:     func(definition string) bool { return l.enter(a, definition) },
		Lease: func() string {
			claim := claimText(t.ID, t.Fence)
			return claim + l.sign(claim, anyHolder)
		},
		Report: func(percent float64, message string) { l.attempts.Report(a, progressOf(percent, message)) },
	}
	if t.Payload.IsBlob() && payload == nil {
		run.Open = func(ctx context.Context) (io.ReadCloser, error) { return l.bodies.OpenPayload(ctx, t) }
	}
	if l.tryLaunch(a, run) {
		return
	}
	l.goroutines.Go(func() {
		for !l.tryLaunch(a, run) {
			if !wait.For(ctx, launchAgain) || l.attempts.IsStopped(a) {
				l.abandon(a)
				return
			}
		}
	})
}

func (l *launcher) tryLaunch(a *attempt, run executor.Attempt) bool {
	if !l.source.TryAttempt(run, func(ending executor.Ending) { l.finish(a, ending) }) {
		return false
	}
	fail.Point("run.launched")
	if l.attempts.IsStopped(a) { // it was stopped before the executor knew it
		l.source.CancelTask(run.ID, run.Fence)
	}
	return true
}

// enter reports whether the action of an attempt that has a slot, with this definition, may be entered now.
func (l *launcher) enter(a *attempt, definition string) bool {
	fail.Point("run.slot")
	if !l.attempts.Enter(a, definition) {
		return false
	}
	l.byQueue.entered(&a.Task, l.config.Now())
	return true
}

// stop ends an attempt whose action was not entered. Otherwise it ends the context of the action.
func (l *launcher) stop(a *attempt, reason stopReason) {
	if l.attempts.Stop(a, reason) && !l.giveUp(a) {
		l.interrupt(a, reason)
	}
}

// interrupt ends the context of an action that was entered.
func (l *launcher) interrupt(a *attempt, reason stopReason) {
	if a.ahead != nil {
		l.dispatcher.interrupt(a, reason)
		return
	}
	l.source.CancelTask([]byte(a.Task.ID), a.Task.Fence)
}

// lose stops an attempt whose lease the store has given to another claim. If its outcome waits to be recorded, the
// recorder will find out too.
func (l *launcher) lose(a *attempt) {
	if l.attempts.Lose(a) {
		l.counts.lost.Add(1)
		if a.ahead == nil {
			l.config.Logger.Warn("lease is lost", "task", a.Task.ID, "attempt", a.Task.Attempt, "action", a.Task.Action)
		}
		l.interrupt(a, stopLost)
	}
}

// giveUp ends an attempt whose action was not entered. It returns false if it was entered, or if the attempt had ended.
func (l *launcher) giveUp(a *attempt) bool {
	reason, first := l.attempts.EndUnentered(a)
	if !first {
		return false
	}
	if reason != stopLost {
		l.recorder.put(a, l.attempts.Outcome(a, reason))
	}
	l.free(a)
	return true
}

// abandon releases a task even if its action still runs. The result of that action is dropped.
func (l *launcher) abandon(a *attempt) {
	reason, first := l.attempts.End(a)
	if !first {
		return
	}
	if reason != stopLost {
		o := l.attempts.Outcome(a, reason)
		if !o.Unentered {
			o.Change = task.Release // its action may still succeed, and the client that cancelled it was answered
		}
		l.recorder.put(a, o)
	}
	l.free(a)
}

// finish ends an attempt whose action has returned or was not entered, and passes its outcome to the recorder.
func (l *launcher) finish(a *attempt, ending executor.Ending) {
	fail.Point("run.ended")
	if ending.Outcome != executor.NotEntered && !l.attempts.EnsureEntered(a) { // for example, its payload could not be read
		ending.Outcome = executor.NotEntered
	}
	reason, first := l.attempts.End(a)
	switch {
	case !first: // it was abandoned before
		return
	case reason == stopLost:
		l.counts.dropped.Add(1)
	case ending.Outcome == executor.NotEntered:
		l.recorder.put(a, l.attempts.Outcome(a, reason))
	default:
		l.recorder.put(a, l.outcome(&a.Task, reason, ending))
	}
	l.free(a)
}

// free frees the slot of an ended attempt.
func (l *launcher) free(a *attempt) {
	if a.ahead != nil {
		a.ahead.Leave(a)
		return
	}
	l.prefetch.Leave(a)
	l.claimer.slotFreed(&a.Task)
}

// outcome returns the outcome of an attempt whose action was entered. A success counts even if the attempt had to
// stop.
func (l *launcher) outcome(t *task.Task, reason stopReason, ending executor.Ending) store.Outcome {
	o := store.Outcome{ID: t.ID, Fence: t.Fence}
	if ending.Outcome == executor.Done {
		result, err := l.saveResult(t, ending.Result)
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
	case interrupted: // by a drain, the lease, or the end of the executor: not a failure
		o.Change = task.Release
		return o
	}
	l.failure(t, &o, ending)
	return o
}

// failure sets the outcome of a failed attempt.
func (l *launcher) failure(t *task.Task, o *store.Outcome, ending executor.Ending) {
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
		o.Delay = t.Wait(t.Failures, l.config.Jitter())
	}
}

// saveResult moves a result that is too large for the row into blob storage.
func (l *launcher) saveResult(t *task.Task, result []byte) (task.Body, error) {
	if len(result) <= task.InlineBytes {
		return task.Body{Inline: result}, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	return l.bodies.PutResult(ctx, t, result)
}

// saveUpload makes the result of a task from data that its worker has uploaded.
func (l *launcher) saveUpload(t *task.Task, upload string, data task.Body) (task.Body, error) {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	return l.bodies.CopyResult(ctx, t, upload, data)
}

// cut shortens an error to the size that a row may contain. It leaves out the middle: the beginning says how an
// attempt ended, and the end of the output of a program says why.
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
