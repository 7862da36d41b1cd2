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
	raw, err := c.exchange(ctx, w)
	return resultOf(request.Action, raw, err)
}

// ran reads what came back of a task of a stream.
func ran(k *call) (Result, error) {
	raw, err := k.outcome()
	return resultOf(k.about, raw, err)
}

func resultOf(action string, raw []byte, err error) (Result, error) {
	if err != nil {
		return Result{}, err
	}
	if ok, message := wire.Succeeded(raw); !ok {
		return Result{raw}, &ActionError{Action: action, Message: message}
	}
	return Result{raw}, nil
}

// runLine renders the line of a task.
func (c *Client) runLine(k *call, r *Request) error {
	k.about, k.repeat = r.Action, r.Resend || c.cfg.Resend
	k.begin(wire.OpRun)
	k.text("action", r.Action)
	k.seconds("timeout", r.Timeout)
	if err := k.payload(r.Payload); err != nil {
		return err
	}
	if plain(r.Payload) && r.Timeout == 0 && r.Action != "" && len(r.Action) <= task.MaxAction {
		return c.endLine(k)
	}
	return c.endCheckedLine(k)
}

// plain tells payloads that need no check: none, and strings of ASCII without escapes.
func plain(payload []byte) bool {
	if len(payload) == 0 {
		return payload == nil
	}
	if len(payload) < 2 || payload[0] != '"' || payload[len(payload)-1] != '"' {
		return false
	}
	for _, c := range payload[1 : len(payload)-1] {
		if c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
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
	Time     time.Time       `json:"time"` // the node's clock; zero of a node that does not tell it
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
	w.repeat = true
	w.begin(op)
	if err := c.endLine(&w.call); err != nil {
		return Result{}, err
	}
	raw, err := c.exchange(ctx, w)
	return resultOf(op.String(), raw, err)
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
