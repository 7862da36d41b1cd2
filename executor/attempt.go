package executor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/pool"
	"github.com/posta-tasks/posta/task"
)

// Outcome is how an attempt ended. Statistics and logs use it.
type Outcome uint8

// The outcomes.
const (
	Done Outcome = iota // the action succeeded
	Failed
	Panicked
	TimedOut
	Cancelled
	outcomeCount
	// NotEntered is the outcome of an Attempt whose action was not entered. Statistics do not count it.
	NotEntered
)

// String returns the outcome as logs and metrics write it.
func (o Outcome) String() string {
	return [...]string{"done", "failed", "panicked", "timed_out", "cancelled", outcomeCount: "", NotEntered: "not_entered"}[o]
}

// errGoexit is the failure of an action that called runtime.Goexit.
var errGoexit = errors.New("the action ended its goroutine instead of returning")

// attempt is one run of one task.
type attempt struct {
	e       *Executor
	source  *Source
	deliver func(Task, []byte)
	task    Task
	entry   *actions.Entry
	known   *known
	limit   *pool.Limit // the limit of the action when the attempt was given to the pool; nil: none
	call    actions.Call
	ctx     *callContext
	began   int64       // by Executor.now
	timer   *time.Timer // ends the attempt at its timeout
	unwatch func() bool // stops waiting for the end of the executor
	durable *durable    // nil unless the attempt is an Attempt

	answered atomic.Bool // the result was delivered, or is about to be

	mu       sync.Mutex // guards the fields below
	returned bool       // the function has returned
	stuck    bool       // the attempt is counted as stuck
}

// timeout is how long the attempt may run.
func (a *attempt) timeout() time.Duration {
	timeout := a.task.Timeout
	if timeout <= 0 {
		timeout = a.e.config.TaskTimeout
	}
	if most := a.entry.Timeout; most > 0 {
		return min(timeout, most)
	}
	return timeout
}

// perform calls the action and appends the result object to dst. An error, a panic and a result that is too large
// become results too. If the action calls runtime.Goexit, perform calls lost with that failure and does not return.
func (a *attempt) perform(dst []byte, lost func([]byte, Outcome)) (result []byte, outcome Outcome) {
	returned := false
	defer func() {
		if returned {
			return
		}
		cause := recover()
		if cause == nil {
			a.durable.failed(nil, errGoexit.Error())
			lost(appendFailure(dst[:0], errGoexit.Error()), Panicked)
			return
		}
		a.e.config.Logger.Error("action panicked", "action", a.entry.Name, "panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
		text := fmt.Sprintf("action %s panicked: %v", a.entry.Name, cause)
		a.durable.failed(nil, text)
		result, outcome = appendFailure(dst[:0], text), Panicked
	}()
	a.call.Action = a.entry.Name
	a.call.Payload, a.call.MaxResult = a.task.Payload, a.maxResult()
	if a.call.Payload == nil {
		a.call.Payload = nullPayload[:]
	}
	result, outcome = a.produce(dst)
	returned = true
	return result, outcome
}

// produce calls the action and appends the result object to dst. All code of the action runs in it, including the
// method Error of its error.
func (a *attempt) produce(dst []byte) ([]byte, Outcome) {
	result, err := a.invoke(append(dst, successPrefix...))
	if err == nil {
		err = a.checkResult(result)
	}
	if err != nil {
		return a.fail(dst[:0], err)
	}
	if len(result) == len(successPrefix) { // the object has no other member, so it needs no comma
		result = result[:len(result)-1]
	}
	return append(result, '}'), Done
}

const (
	// successPrefix begins the result of an action that succeeded.
	successPrefix = `{"ok":true,`
	// maxErrorText is how many bytes of an action's error are sent.
	maxErrorText = 4 << 10
)

var nullPayload = [...]byte{'n', 'u', 'l', 'l'}

// invoke calls the function of the action that is set.
func (a *attempt) invoke(dst []byte) ([]byte, error) {
	if a.entry.Append != nil {
		return a.entry.Append(a.context(), &a.call, dst)
	}
	value, err := a.entry.Run(a.context(), &a.call)
	if err != nil {
		return dst, err
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return dst, fmt.Errorf("the result of the action is not JSON: %w", err)
	}
	return append(append(dst, `"data":`...), bytes.TrimRight(text.Bytes(), "\n")...), nil
}

// context returns the context for the action. An action that is Quick gets one that never ends.
func (a *attempt) context() context.Context {
	if a.ctx == nil {
		return context.Background()
	}
	return a.ctx
}

// checkResult refuses a result that does not fit on a line.
func (a *attempt) checkResult(result []byte) error {
	if most := a.maxResult(); len(result) >= most {
		return &TooLargeError{Bytes: len(result) + 1, Most: most}
	}
	if bytes.IndexByte(result, '\n') >= 0 {
		return errors.New("the action wrote a line break into its result")
	}
	if !utf8.Valid(result) {
		return errors.New("the action wrote bytes that are not UTF-8 into its result")
	}
	if len(result) < len(successPrefix) || string(result[:len(successPrefix)]) != successPrefix {
		return errors.New("the action did not append its result to what it was given")
	}
	return nil
}

// fail appends the result of an action that returned an error.
func (a *attempt) fail(dst []byte, err error) ([]byte, Outcome) {
	switch cause := a.ctx.Err(); {
	case cause == nil || !errors.Is(err, cause):
		text := err.Error()
		a.durable.failed(err, text)
		if wait := actions.SlowDownTime(err); wait > 0 {
			a.e.hold(a.known, wait)
		}
		return appendFailure(dst, text), Failed
	case errors.Is(cause, context.DeadlineExceeded):
		return a.appendTimedOut(dst), TimedOut
	}
	return appendFailure(dst, cancelledText), Cancelled
}

func (a *attempt) appendTimedOut(dst []byte) []byte { return appendFailure(dst, a.timedOut()) }

// timedOut returns the error of an attempt that ran into its timeout.
func (a *attempt) timedOut() string { return TimedOutText(a.timeout()) }

// TimedOutText returns the error of an attempt that ran into its timeout, such as "timed out after 0.5s".
func TimedOutText(timeout time.Duration) string {
	return "timed out after " + strconv.FormatFloat(timeout.Seconds(), 'f', -1, 64) + "s"
}

// appendFailure appends the result of an action that failed.
func appendFailure(dst []byte, text string) []byte {
	if n := maxErrorText; len(text) > n {
		for n > 0 && !utf8.RuneStart(text[n]) {
			n--
		}
		text = text[:n] + "…"
	}
	dst = append(dst, `{"ok":false,"error":`...)
	return append(task.AppendString(dst, text), '}')
}

// leaveLane makes the attempt independent of its lane: from now on its timeout is watched, and its connection can
// cancel it.
func (a *attempt) leaveLane() {
	a.e.running.Add(1)
	a.known.outlived()
	a.source.add(a)
	a.e.pool.Outgrow()
	a.watch(a.timeout() - time.Duration(a.e.now()-a.began))
}

// watch ends the attempt at its timeout, and when the executor closes.
func (a *attempt) watch(rest time.Duration) {
	a.unwatch = context.AfterFunc(a.e.stopped, func() { a.ctx.end(endedByCancel) })
	a.timer = time.AfterFunc(max(rest, 0), a.expire)
}

// expire ends the attempt at its timeout. It ends the context and sends the reply, and counts the function as stuck
// if it does not return soon. expire takes the right to answer before it ends the context, so that a result that
// the function returns because of that is ignored.
func (a *attempt) expire() {
	first := a.answered.CompareAndSwap(false, true)
	a.ctx.end(endedByDeadline)
	time.AfterFunc(stuckGrace, a.markStuck)
	if first {
		a.answer(a.appendTimedOut(nil), TimedOut)
	}
}

// markStuck replaces the slot of a function that has not returned. Its task was answered, so Close does not wait
// for it.
func (a *attempt) markStuck() {
	a.mu.Lock()
	if a.returned {
		a.mu.Unlock()
		return
	}
	a.stuck = true
	a.mu.Unlock()
	a.e.pool.Stuck()
	a.e.stuck.add(1)
	logger := a.e.config.Logger
	if a.durable != nil {
		logger = logger.With("task", a.call.Task, "attempt", a.call.Attempt)
	}
	logger.Warn("action runs on after its timeout; its slot is replaced", "action", a.entry.Name, "timeout_s", a.timeout().Seconds(), "stuck", a.e.Stuck())
	a.e.running.Done()
}

// settle ends an attempt whose function has returned outside of a lane. It calls leave, which returns the permit,
// before it delivers the result, since delivering may wait for the client.
func (a *attempt) settle(result []byte, outcome Outcome, leave func()) {
	a.timer.Stop()
	a.unwatch()
	a.mu.Lock()
	a.returned = true
	wasStuck := a.stuck
	a.mu.Unlock()
	if wasStuck {
		a.e.pool.Unstuck()
		a.e.stuck.add(-1)
	}
	leave()
	a.source.remove(a)
	a.ctx.end(endedByCancel)
	if a.answered.CompareAndSwap(false, true) {
		a.answer(result, outcome)
	}
	if !wasStuck {
		a.e.running.Done()
	}
}

// answer counts the outcome and delivers the result.
func (a *attempt) answer(result []byte, outcome Outcome) {
	took := a.e.now() - a.began
	a.e.sample.see(a.task, a.entry.Name, outcome, took)
	a.known.count(outcome, took) // after see, so that a summary includes it
	if a.durable != nil {
		a.end(result, outcome)
		return
	}
	a.deliver(a.task, result)
}
