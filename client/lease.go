package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

const (
	// progressInterval is the least time between two progress lines of a task. A node passes on ten a second.
	progressInterval = 100 * time.Millisecond
	// timeoutGrace is how long after its timeout a worker ends an attempt by itself, if no node has done it.
	timeoutGrace = 5 * time.Second
	// maxFailure is the largest size of an error or a progress message that is sent, in bytes.
	maxFailure = 4 << 10
)

// lease is a task that the worker holds.
type lease struct {
	id      string
	run     *workerRun
	entry   *actions.Entry // nil: the worker has no such action
	call    actions.Call
	href    string // the location of the payload; "" if call has it
	timeout time.Duration
	ctx     context.Context         // nil for a quick action
	cancel  context.CancelCauseFunc // nil for a quick action
	expiry  *time.Timer             // ends ctx if no node asks for it

	// The mutex of the run guards the fields below.
	outcome  []byte    // the line with the outcome; nil while the action runs
	sentOn   *workLink // the connection on which the outcome was sent and has no answer
	refusals int       // how often a node could not store the outcome
	timer    *time.Timer
	progress []byte // the newest progress that is not sent
}

// isDirect reports whether the lease is that of a direct run.
func (h *lease) isDirect() bool { return h.call.Task == "" }

// stop ends the context of the action.
func (h *lease) stop(cause error) {
	if h.cancel != nil {
		h.cancel(cause)
	}
}

// stopTimers stops the timers. The caller holds mu.
func (h *lease) stopTimers() {
	if h.timer != nil {
		h.timer.Stop()
		h.timer = nil
	}
	if h.expiry != nil {
		h.expiry.Stop()
	}
	h.progress = nil
}

// clearDue records that the outcome has its answer, or will get none. The caller holds mu.
func (h *lease) clearDue() {
	if h.sentOn != nil {
		h.sentOn.due--
		h.sentOn = nil
	}
}

// isResult reports whether the outcome is a result. The caller holds mu.
func (h *lease) isResult() bool { return bytes.HasPrefix(h.outcome, doneStart) }

// replaceResult replaces a result that the node refuses by a failure. It returns false if the outcome is not a result. The
// caller holds mu.
func (h *lease) replaceResult(text string) bool {
	if !h.isResult() {
		return false
	}
	h.outcome = appendFail(nil, h.id, text, actions.Permanent(errors.New(text)))
	return true
}

// attemptContext is the context of an action. It has the deadline of the attempt, although a node ends it.
type attemptContext struct {
	context.Context
	deadline time.Time
}

// Deadline returns when the timeout of the attempt ends.
func (c *attemptContext) Deadline() (time.Time, bool) { return c.deadline, true }

// Err returns context.DeadlineExceeded at the timeout, as in a node.
func (c *attemptContext) Err() error {
	err := c.Context.Err()
	if err != nil && errors.Is(context.Cause(c.Context), ErrTimedOut) {
		return context.DeadlineExceeded
	}
	return err
}

// start starts the attempt that a node has pushed. A quick action runs on the calling goroutine, the one that reads.
func (r *workerRun) start(n *wire.NodeLine) {
	h := &lease{run: r, id: string(n.Lease), entry: r.registry.Lookup(n.Action), href: n.Href, timeout: n.Timeout}
	h.call.Action = string(n.Action)
	if h.call.Task = string(n.Task); strings.HasPrefix(h.id, h.call.Task) {
		h.call.Task = h.id[:len(h.call.Task)]
	}
	h.call.Attempt = n.Attempt
	quick := h.entry != nil && h.entry.Quick && h.href == ""
	if h.call.Payload = n.Payload; !quick {
		h.call.Payload = bytes.Clone(n.Payload)
		h.makeContext()
	}
	if h.call.Payload == nil {
		h.call.Payload = json.RawMessage("null")
	}
	r.mu.Lock()
	if r.held[h.id] != nil {
		r.mu.Unlock()
		h.stop(nil)
		return
	}
	r.held[h.id] = h
	refuses := r.stopping || r.quiet
	if refuses {
		r.settle(h, appendRelease(nil, h.id))
	}
	r.mu.Unlock()
	switch {
	case refuses:
	case quick:
		h.execute()
	default:
		r.running.Go(h.execute)
	}
}

// makeContext makes the context of an attempt.
func (h *lease) makeContext() {
	limit := h.timeout + timeoutGrace
	if h.entry != nil && h.entry.Timeout > 0 && h.entry.Timeout < h.timeout {
		h.timeout = h.entry.Timeout
		limit = h.timeout
	}
	inner, cancel := context.WithCancelCause(h.run.base)
	h.ctx, h.cancel = &attemptContext{inner, time.Now().Add(h.timeout)}, cancel
	h.expiry = time.AfterFunc(limit, func() { cancel(ErrTimedOut) })
	if !h.isDirect() {
		h.call.OnReport = h.report
	}
	if h.href != "" {
		h.call.OnOpen = h.run.bodies.opener(h.href)
	}
}

// cancelAttempt ends the context of an attempt that a node asks to stop.
func (r *workerRun) cancelAttempt(n *wire.NodeLine) {
	var cause error
	switch n.Code {
	case task.Code("cancelled"):
		cause = ErrCancelled
	case task.Code("timed_out"):
		cause = ErrTimedOut
	case task.Code("lost"):
		cause = ErrLeaseLost
	default:
		return
	}
	r.mu.Lock()
	h := r.held[string(n.Lease)]
	r.mu.Unlock()
	if h != nil {
		h.stop(cause)
	}
}

// execute runs the action and settles its outcome.
func (h *lease) execute() {
	outcome, returned := []byte(nil), false
	defer func() {
		if !returned {
			outcome = h.panicLine(recover())
		}
		h.run.mu.Lock()
		defer h.run.mu.Unlock()
		h.run.settle(h, outcome)
	}()
	outcome = h.perform()
	returned = true
}

// panicLine returns the outcome of an action that has panicked or called runtime.Goexit.
func (h *lease) panicLine(cause any) []byte {
	text := "the action ended its goroutine instead of returning"
	if cause != nil {
		text = fmt.Sprintf("action %s panicked: %v", h.call.Action, cause)
	}
	h.run.Logger.Error("action panicked", "action", h.call.Action, "task", h.call.Task, "attempt", h.call.Attempt,
		"panic", text, "stack", string(debug.Stack()))
	return appendFail(nil, h.id, text, nil)
}

// perform runs the action and returns its outcome.
func (h *lease) perform() []byte {
	line, err := h.produce()
	if err == nil {
		return line
	}
	text := err.Error()
	if h.ctx != nil && h.ctx.Err() != nil && isEnd(err) {
		text = h.reason()
	}
	h.run.Logger.Warn("action failed", "action", h.call.Action, "task", h.call.Task, "attempt", h.call.Attempt, "error", text)
	return appendFail(nil, h.id, text, err)
}

// isEnd reports whether an error only says that the context has ended.
func isEnd(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// reason returns the error text of an attempt whose context has ended.
func (h *lease) reason() string {
	cause := context.Cause(h.ctx)
	if errors.Is(cause, ErrTimedOut) {
		return "timed out after " + strconv.FormatFloat(h.timeout.Seconds(), 'f', -1, 64) + "s"
	}
	return cause.Error()
}

// produce runs the action and returns the line that sends its result.
func (h *lease) produce() ([]byte, error) {
	if h.entry == nil {
		return nil, fmt.Errorf("this worker has no action %s", h.call.Action)
	}
	ctx := h.ctx
	if ctx == nil {
		ctx = h.run.base
	}
	if slots := h.run.limits[h.entry.Name]; slots != nil {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if h.href != "" && !h.entry.Streams {
		payload, err := h.run.bodies.read(ctx, h.href)
		if err != nil {
			return nil, err
		}
		h.call.Payload = payload
	}
	if h.isDirect() {
		h.call.MaxResult = task.DefaultLine
	}
	if h.entry.Append != nil {
		return h.runAppend(ctx)
	}
	value, err := h.entry.Run(ctx, &h.call)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	text.Write(h.doneLine(128))
	text.WriteString(dataMember)
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, actions.Permanent(fmt.Errorf("the result of the action is not JSON: %w", err))
	}
	return h.resultLine(ctx, append(bytes.TrimRight(text.Bytes(), "\n"), '}', '\n'))
}

const dataMember = `"data":`

// doneStart is the beginning of each line with a result.
var doneStart = []byte(`{"op":"done","lease":`)

// doneLine returns the beginning of the line that sends a result, up to the comma before "data".
func (h *lease) doneLine(size int) []byte {
	line := make([]byte, 0, len(doneStart)+len(h.id)+size)
	return append(task.AppendString(append(line, doneStart...), h.id), ',')
}

// runAppend runs an action that appends the members of its result. If it appends only the member "data", the result is the
// value of that. Otherwise the result is the object of all members.
func (h *lease) runAppend(ctx context.Context) ([]byte, error) {
	line := h.doneLine(len(h.call.Payload) + 32)
	start := len(line)
	line, err := h.entry.Append(ctx, &h.call, line)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(line[start:], []byte(dataMember)) {
		if whole, err := h.resultLine(ctx, append(line, '}', '\n')); err == nil || wire.Valid(line[start+len(dataMember):]) == nil {
			return whole, err
		}
	}
	members := bytes.Clone(line[start:])
	line = append(append(line[:start], dataMember...), '{')
	return h.resultLine(ctx, append(append(line, members...), '}', '}', '\n'))
}

// resultLine returns the line of a result after checking that a node will accept it. It uploads a result that is too large
// for a line.
func (h *lease) resultLine(ctx context.Context, line []byte) ([]byte, error) {
	if err := wire.Valid(line[:len(line)-1]); err != nil {
		return nil, actions.Permanent(fmt.Errorf("the result of the action is not JSON that the protocol allows: %w", err))
	}
	if len(line) <= task.DefaultLine {
		return line, nil
	}
	from := len(doneStart) + len(task.AppendString(nil, h.id)) + 1 + len(dataMember)
	data := line[from : len(line)-2]
	if h.isDirect() {
		return nil, &actions.TooLargeError{Bytes: len(data), Most: task.DefaultLine}
	}
	blob, err := h.run.bodies.put(ctx, data)
	if err != nil {
		return nil, err
	}
	line = append(h.doneLine(len(blob)+32), `"data_blob":`...)
	return append(append(line, blob...), '}', '\n'), nil
}

// appendFail appends the line of a failed attempt. err says whether and when to try again; it may be nil.
func appendFail(dst []byte, id, text string, err error) []byte {
	dst = task.AppendString(append(dst, `{"op":"fail","lease":`...), id)
	dst = task.AppendString(append(dst, `,"error":`...), cut(text))
	var tooLarge *actions.TooLargeError
	if actions.IsPermanent(err) || errors.As(err, &tooLarge) {
		dst = append(dst, `,"retry":false`...)
	} else if delay, ok := actions.RetryDelay(err); ok {
		delay = min(delay, task.MaxBackoff)
		dst = strconv.AppendFloat(append(dst, `,"retry_after":`...), delay.Seconds(), 'f', -1, 64)
	}
	return append(dst, '}', '\n')
}

// appendRelease appends the line that releases a task.
func appendRelease(dst []byte, id string) []byte {
	return append(task.AppendString(append(dst, `{"op":"release","lease":`...), id), '}', '\n')
}

// cut shortens a text to maxFailure bytes.
func cut(text string) string {
	text = task.CleanText(text)
	n := maxFailure
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + "…"
}

// report sends the progress of an attempt, at once or at the end of the current interval. Only the newest is sent then.
func (h *lease) report(percent float64, message string) {
	if math.IsNaN(percent) {
		percent = 0
	}
	line := task.AppendString([]byte(`{"id":"progress","op":"progress","lease":`), h.id)
	line = strconv.AppendFloat(append(line, `,"percent":`...), min(max(percent, 0), 100), 'f', -1, 64)
	if message != "" {
		line = task.AppendString(append(line, `,"message":`...), cut(message))
	}
	h.run.mu.Lock()
	defer h.run.mu.Unlock()
	h.progress = append(line, '}', '\n')
	if h.timer == nil {
		h.sendProgress()
	}
}

// sendProgress sends the newest progress and starts an interval. The caller holds mu.
func (h *lease) sendProgress() {
	r := h.run
	h.timer = nil
	if h.outcome != nil || h.progress == nil || r.held[h.id] != h || r.ended {
		return
	}
	if r.link != nil && r.link.open {
		r.link.queueLine(h.progress)
	}
	h.progress = nil
	h.timer = time.AfterFunc(progressInterval, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if h.outcome == nil {
			h.sendProgress()
		}
	})
}
