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
	// progressPause is the time between two lines about the progress of a task: a node passes on ten a second.
	progressPause = 100 * time.Millisecond
	// timeoutSlack is how long a worker waits for a node to end an attempt whose time is over: then nobody will.
	timeoutSlack = 5 * time.Second
	// maxFailure is how many bytes of an action's error are sent, and of a progress message.
	maxFailure = 4 << 10
)

// lease is a task that the worker holds.
type lease struct {
	id      string
	run     *working
	entry   *actions.Entry // nil: the worker has no such action
	call    actions.Call
	href    string // where the payload is; "" if it is in the call
	timeout time.Duration
	ctx     context.Context         // nil for a quick action
	cancel  context.CancelCauseFunc // nil for a quick action
	expiry  *time.Timer             // ends ctx if no node does

	// The mutex of the run guards what follows.
	outcome  []byte    // the line that says how it ended; nil while it runs
	sentOn   *workLink // where the outcome was sent and has no answer
	refusals int       // how often a node had no time for the outcome
	timer    *time.Timer
	progress []byte // the newest progress that is not sent
}

// isDirect reports whether the task is not stored.
func (h *lease) isDirect() bool { return h.call.Task == "" }

// stop ends the context of the action.
func (h *lease) stop(cause error) {
	if h.cancel != nil {
		h.cancel(cause)
	}
}

// stopTimers stops the timers. mu is held.
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

// isNotDue notes that no answer to the outcome is due. mu is held.
func (h *lease) isNotDue() {
	if h.sentOn != nil {
		h.sentOn.due--
		h.sentOn = nil
	}
}

// replace turns a result that the node does not take into a failure. It returns false if the outcome is no result. mu is
// held.
func (h *lease) replace(text string) bool {
	if !bytes.HasPrefix(h.outcome, doneStart) {
		return false
	}
	h.outcome = appendFail(nil, h.id, text, actions.Permanent(errors.New(text)))
	return true
}

// attemptContext is the context of an action.
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

// push begins a task.
func (r *working) push(n *wire.NodeLine) {
	h := &lease{run: r, id: string(n.Lease), entry: r.registry.Lookup(n.Action), href: n.Href, timeout: n.Timeout}
	h.call.Action = string(n.Action)
	if h.call.Task = string(n.Task); strings.HasPrefix(h.id, h.call.Task) {
		h.call.Task = h.id[:len(h.call.Task)]
	}
	h.call.Attempt = n.Attempt
	quick := h.entry != nil && h.entry.Quick && h.href == ""
	if h.call.Payload = n.Payload; !quick {
		h.call.Payload = bytes.Clone(n.Payload)
		h.begin()
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

// begin makes the context of an attempt.
func (h *lease) begin() {
	limit := h.timeout + timeoutSlack
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

// cancelled ends the context of an attempt that a node asks to stop.
func (r *working) cancelled(n *wire.NodeLine) {
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

// execute runs the action and keeps the outcome.
func (h *lease) execute() {
	outcome, returned := []byte(nil), false
	defer func() {
		if !returned {
			outcome = h.panicked(recover())
		}
		h.run.mu.Lock()
		defer h.run.mu.Unlock()
		h.run.settle(h, outcome)
	}()
	outcome = h.perform()
	returned = true
}

// panicked returns the outcome of an action that has panicked, or has ended its goroutine.
func (h *lease) panicked(cause any) []byte {
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

// isEnd reports whether an error says no more than that the context has ended.
func isEnd(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// reason returns why the context has ended.
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
	if places := h.run.limits[h.entry.Name]; places != nil {
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
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
		return h.appended(ctx)
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
	return h.checked(ctx, append(bytes.TrimRight(text.Bytes(), "\n"), '}', '\n'))
}

const dataMember = `"data":`

// doneStart begins the line of each result.
var doneStart = []byte(`{"op":"done","lease":`)

// doneLine returns the beginning of the line that sends a result, up to the comma before "data".
func (h *lease) doneLine(size int) []byte {
	line := make([]byte, 0, len(doneStart)+len(h.id)+size)
	return append(task.AppendString(append(line, doneStart...), h.id), ',')
}

// appended runs an action that writes its own result. Its data is what follows, if it writes nothing else; otherwise all
// that it writes makes an object, which is the data.
func (h *lease) appended(ctx context.Context) ([]byte, error) {
	line := h.doneLine(len(h.call.Payload) + 32)
	start := len(line)
	line, err := h.entry.Append(ctx, &h.call, line)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(line[start:], []byte(dataMember)) {
		if whole, err := h.checked(ctx, append(line, '}', '\n')); err == nil || wire.Valid(line[start+len(dataMember):]) == nil {
			return whole, err
		}
	}
	members := bytes.Clone(line[start:])
	line = append(append(line[:start], dataMember...), '{')
	return h.checked(ctx, append(append(line, members...), '}', '}', '\n'))
}

// checked returns the line of a result if a node will accept it. A result that does not fit into a line is uploaded.
func (h *lease) checked(ctx context.Context, line []byte) ([]byte, error) {
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

// appendFail appends the line that says why an attempt failed. err has the marks of the failure, and may be nil.
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

func appendRelease(dst []byte, id string) []byte {
	return append(task.AppendString(append(dst, `{"op":"release","lease":`...), id), '}', '\n')
}

// cut returns the beginning of a text that is too long.
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

// report sends progress at once, or the newest of it after a pause.
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

// sendProgress sends the newest progress, and no other for a while. mu is held.
func (h *lease) sendProgress() {
	r := h.run
	h.timer = nil
	if h.outcome != nil || h.progress == nil || r.held[h.id] != h || r.over {
		return
	}
	if r.link != nil && r.link.working {
		r.link.say(h.progress)
	}
	h.progress = nil
	h.timer = time.AfterFunc(progressPause, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if h.outcome == nil {
			h.sendProgress()
		}
	})
}
