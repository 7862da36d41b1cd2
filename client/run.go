package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// Request is one task to be run at once.
type Request struct {
	// Action is the name of the action, 1 to 128 bytes.
	Action string
	// Payload is the payload as JSON; nil is null. It is copied before Do, or the
	// yield of a stream's tasks, waits for anything.
	Payload json.RawMessage
	// Timeout bounds the attempt on the server, at most an hour; 0: the server's
	// own default. A task that takes longer is an ActionError.
	Timeout time.Duration
	// Resend allows the task to be sent again when its connection ended after it
	// was written, though it may have run: for actions that may run twice.
	Resend bool
}

// NewRequest makes a Request with any payload that encoding/json can marshal.
func NewRequest(action string, payload any) (Request, error) {
	raw, err := marshal(nil, payload)
	return Request{Action: action, Payload: raw}, err
}

// Run has an action run now and waits for its result. The payload is anything that
// encoding/json can marshal; nil is null.
//
// The error is an *ActionError when the action ran and failed (the Result then holds
// what it said), a *task.Error when the task was refused, and one of code
// unknown_outcome when the connection ended, or ctx did, after the task was written:
// it may or may not have run. When ctx ends, others that share the connection are not
// disturbed, and errors.Is finds the context's error. The package comment says what is
// sent again.
func (c *Client) Run(ctx context.Context, action string, payload any) (Result, error) {
	w := c.waiter()
	raw, err := marshal(w.scratch[:0], payload)
	if err != nil {
		return Result{}, err
	}
	if _, own := payload.(string); own {
		w.scratch = raw
	}
	return c.run(ctx, w, &Request{Action: action, Payload: raw})
}

// RunRaw is Run with a payload that is JSON already; nil is null.
func (c *Client) RunRaw(ctx context.Context, action string, payload json.RawMessage) (Result, error) {
	return c.run(ctx, c.waiter(), &Request{Action: action, Payload: payload})
}

// Do is Run with all that a Request can say.
func (c *Client) Do(ctx context.Context, request Request) (Result, error) {
	return c.run(ctx, c.waiter(), &request)
}

func (c *Client) run(ctx context.Context, w *waiter, request *Request) (Result, error) {
	if err := c.runLine(&w.call, request); err != nil {
		return Result{}, err
	}
	return c.exchange(ctx, w)
}

// Ping asks a server whether it answers.
func (c *Client) Ping(ctx context.Context) error {
	_, err := c.ask(ctx, wire.OpPing)
	return err
}

// Info says what a node is and can do.
type Info struct {
	Node     string          `json:"node"`
	Version  string          `json:"version"`
	Protocol int             `json:"protocol"`
	Actions  []string        `json:"actions"`
	Slots    int             `json:"slots"`
	Limits   json.RawMessage `json:"limits"` // an object, as the node sent it
	Draining bool            `json:"draining"`
}

// Info asks the node at the other end of one connection what it is.
func (c *Client) Info(ctx context.Context) (Info, error) {
	var info Info
	result, err := c.ask(ctx, wire.OpInfo)
	if err == nil {
		err = result.Decode(&info)
	}
	return info, err
}

// ask sends an op without fields, which is harmless to repeat.
func (c *Client) ask(ctx context.Context, op wire.Op) (Result, error) {
	w := c.waiter()
	w.call.action, w.call.repeat = op.String(), true
	w.call.beginLine(op)
	if err := w.call.endLine(c.cfg.LineBytes); err != nil {
		return Result{}, err
	}
	return c.exchange(ctx, w)
}

// waiter is a call whose owner waits for it.
type waiter struct {
	call
	back    chan struct{} // holds one
	scratch []byte
}

// Settled wakes the one who waits.
func (w *waiter) Settled() { w.back <- struct{}{} }

// waiter gives one that is ready for use.
func (c *Client) waiter() *waiter {
	w, _ := c.waiters.Get().(*waiter)
	if w == nil {
		w = &waiter{back: make(chan struct{}, 1)}
		w.Owner = w
	}
	w.call.reset()
	return w
}

// exchange sends the call, again where that is allowed, and waits for its outcome.
// The waiter cannot be used afterwards.
func (c *Client) exchange(ctx context.Context, w *waiter) (Result, error) {
	k := &w.call
	if err := ctx.Err(); err != nil {
		return Result{}, fmt.Errorf("not sent: %w", err)
	}
	for {
		c.links.Submit(&k.Call)
		select {
		case <-w.back:
		case <-ctx.Done():
			if handedOn, ours := c.links.Abandon(&k.Call); ours {
				return Result{}, k.gaveUp(ctx, handedOn)
			}
			<-w.back
		}
		pause, again := k.again()
		if !again {
			break
		}
		if err := c.sleep(ctx, pause); err != nil {
			return Result{}, stopped(err, k)
		}
	}
	result, err := k.outcome()
	c.waiters.Put(w)
	return result, err
}

// gaveUp is the error of a call whose context ended before its reply.
func (k *call) gaveUp(ctx context.Context, handedOn bool) error {
	if handedOn && k.reads {
		return fmt.Errorf("no reply in time: %w", ctx.Err())
	}
	if handedOn {
		return unknownOutcome("the caller gave up after the request was handed to a connection", ctx.Err())
	}
	return fmt.Errorf("no connection had room in time: %w", ctx.Err())
}

// sleep pauses. It returns at once with the reason when the pause would outlast ctx,
// so that the caller hears what the server said while it still listens.
func (c *Client) sleep(ctx context.Context, pause time.Duration) error {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= pause {
		return context.DeadlineExceeded
	}
	if pause <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.links.Closed():
		return ErrClosed
	}
}

// stopped is the error of a call that would have been sent again, had there been time.
func stopped(reason error, k *call) error {
	if _, last := k.outcome(); last != nil {
		return fmt.Errorf("%w (no time to try again: %w)", last, reason)
	}
	return fmt.Errorf("not sent: %w", reason)
}

// marshal gives a payload as JSON, in dst if it is a string. HTML is not escaped:
// payloads are seen as they were meant.
func marshal(dst []byte, payload any) (json.RawMessage, error) {
	switch value := payload.(type) {
	case nil:
		return nil, nil
	case string:
		return wire.AppendString(dst, value), nil
	case json.RawMessage:
		return value, nil
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(payload); err != nil {
		return nil, fmt.Errorf("marshal the payload: %w", errors.Join(task.RefuseField(task.InvalidRequest, "payload", "the payload cannot be JSON"), err))
	}
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), nil
}
