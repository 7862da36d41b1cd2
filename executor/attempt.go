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

// Outcome is how an attempt ended, for statistics and logs.
type Outcome uint8

// The outcomes.
const (
	Done Outcome = iota // the action succeeded
	Failed
	Panicked
	TimedOut
	Cancelled
	outcomeCount
	// NotEntered is the outcome of an Attempt whose action was not entered; it is in no statistics.
	NotEntered
)

// String returns the outcome as it stands in logs and metrics.
func (o Outcome) String() string {
	return [...]string{"done", "failed", "panicked", "timed_out", "cancelled", outcomeCount: "", NotEntered: "not_entered"}[o]
}

// errGoexit is the failure of an action that ended its goroutine.
var errGoexit = errors.New("the action ended its goroutine instead of returning")

// attempt is one run of one task.
type attempt struct {
	e       *Executor
	source  *Source
	deliver func(Task, []byte)
	task    Task
	entry   *actions.Entry
	known   *known
	limit   *pool.Limit // of the action, when the attempt was given to the pool; nil: none
	call    actions.Call
	ctx     *callContext
	began   int64       // by Executor.now
	timer   *time.Timer // ends the attempt at its timeout
	unwatch func() bool // ends the watch for the executor's own end
	durable *durable    // what only an Attempt has

	answered atomic.Bool // the result has been given back, or is about to be

	mu       sync.Mutex // guards the two below
	returned bool       // the function has
	stuck    bool       // it was counted as stuck
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

// perform calls the action and appends the result object to dst, whatever happens: an
// error, a panic and a result that is too large become results too. When the action
// ends its goroutine, lost is called with that failure, and perform does not return.
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

// produce calls the action and appends the result object to dst. All that is the
// action's own code, its error's text included, is called in here.
func (a *attempt) produce(dst []byte) ([]byte, Outcome) {
	result, err := a.invoke(append(dst, successPrefix...))
	if err == nil {
		err = a.checkResult(result)
	}
	if err != nil {
		return a.fail(dst[:0], err)
	}
	if len(result) == len(successPrefix) { // no member: no comma
		result = result[:len(result)-1]
	}
	return append(result, '}'), Done
}

const (
	// successPrefix begins the result of an action that succeeded.
	successPrefix = `{"ok":true,`
	// maxErrorText bounds what an action's error can put into a line, in bytes.
	maxErrorText = 4 << 10
)

var nullPayload = [...]byte{'n', 'u', 'l', 'l'}

// invoke calls the action in whichever form it has.
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
		return dst, fmt.Errorf("the action's result is no JSON: %w", err)
	}
	return append(append(dst, `"data":`...), bytes.TrimRight(text.Bytes(), "\n")...), nil
}

// context is what the action is given: one that never ends, if it does not look at it.
func (a *attempt) context() context.Context {
	if a.ctx == nil {
		return context.Background()
	}
	return a.ctx
}

// checkResult refuses what would not fit on a line.
func (a *attempt) checkResult(result []byte) error {
	if most := a.maxResult(); len(result) >= most {
		return &TooLargeError{Bytes: len(result) + 1, Most: most}
	}
	if bytes.IndexByte(result, '\n') >= 0 {
		return errors.New("the action wrote a line break into its result")
	}
	if !utf8.Valid(result) {
		return errors.New("the action wrote bytes that are no UTF-8 into its result")
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
	return appendFailure(dst, "cancelled"), Cancelled
}

func (a *attempt) appendTimedOut(dst []byte) []byte { return appendFailure(dst, a.timedOut()) }

// timedOut says that the attempt's time is over.
func (a *attempt) timedOut() string { return "timed out after " + formatSeconds(a.timeout()) }

// formatSeconds writes a time as people write a timeout: 2s, 0.5s.
func formatSeconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s"
}

// appendFailure appends the result of an action that did not succeed.
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

// leaveLane makes an attempt that outgrew its lane stand on its own: from now on its
// timeout is watched and its connection can cancel it.
func (a *attempt) leaveLane() {
	a.e.running.Add(1)
	a.known.outlived()
	a.source.add(a)
	a.e.pool.Outgrow()
	a.watch(a.timeout() - time.Duration(a.e.now()-a.began))
}

// watch ends the attempt when its time is over, and when the executor closes.
func (a *attempt) watch(rest time.Duration) {
	a.unwatch = context.AfterFunc(a.e.stopped, func() { a.ctx.end(endedByCancel) })
	a.timer = time.AfterFunc(max(rest, 0), a.expire)
}

// expire ends the attempt at its timeout: the context ends, the reply goes out, and a
// function that does not return soon is counted as stuck. The reply is taken first:
// what the function makes of the end of its context is not told.
func (a *attempt) expire() {
	first := a.answered.CompareAndSwap(false, true)
	a.ctx.end(endedByDeadline)
	time.AfterFunc(stuckGrace, a.markStuck)
	if first {
		a.answer(a.appendTimedOut(nil), TimedOut)
	}
}

// markStuck replaces the slot of a function that has not returned. Its task was
// answered, so Close need not wait for it.
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
	logger.Warn("action ignores the end of its time; its slot is replaced", "action", a.entry.Name, "timeout_s", a.timeout().Seconds(), "stuck", a.e.Stuck())
	a.e.running.Done()
}

// settle ends an attempt outside of a lane whose function has returned: leave gives its
// permit back first, since delivering may have to wait for the client.
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

// answer counts the outcome and gives the result back.
func (a *attempt) answer(result []byte, outcome Outcome) {
	took := a.e.now() - a.began
	a.e.sample.see(a.task, a.entry.Name, outcome, took)
	a.known.count(outcome, took) // after see, so that a summary has it
	if a.durable != nil {
		a.end(result, outcome)
		return
	}
	a.deliver(a.task, result)
}
