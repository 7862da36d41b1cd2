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

// Request is one task that runs at once.
type Request struct {
	// Action is the name of the action, 1 to 128 bytes.
	Action string
	// Payload is the payload as JSON; nil is null. Do copies it before it blocks, and so
	// does a stream before the yield of its tasks blocks.
	Payload json.RawMessage
	// Timeout limits the attempt on the server, at most an hour; 0 means the server's
	// default. A task that takes longer fails with an ActionError.
	Timeout time.Duration
	// Resend allows the task to be sent again if its connection ended after it was
	// written. Set it only if the action may run twice.
	Resend bool
	// PassedOn says that a node passes the task on for a client of its own: the server runs it itself or refuses it. The
	// task is sent once, whatever the refusal, and is cancelled when the context of Do ends. "" for every other caller.
	PassedOn task.PassedOn
}

// NewRequest returns a Request with any payload that encoding/json can marshal.
func NewRequest(action string, payload any) (Request, error) {
	raw, err := marshal(nil, payload)
	return Request{Action: action, Payload: raw}, err
}

// Run runs an action now and waits for its result. The payload is anything that
// encoding/json can marshal; nil is null.
//
// The error is an *ActionError if the action ran and failed (the Result is then what
// the action returned), and a *task.Error if the task was refused. If the connection or ctx
// ended after the task was written, the task may or may not have run, and the error's code
// is unknown_outcome. When ctx ends, errors.Is finds its error, and other requests on the
// connection are not affected. The package comment lists what is sent again.
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

// RunRaw is Run with a payload that is already JSON; nil is null.
func (c *Client) RunRaw(ctx context.Context, action string, payload json.RawMessage) (Result, error) {
	return c.run(ctx, c.waiter(), &Request{Action: action, Payload: payload})
}

// Do is Run with all fields of a Request.
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

// runOutcome returns the outcome of a task of a stream.
func runOutcome(k *call) (Result, error) {
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

// runLine writes the line of a task.
func (c *Client) runLine(k *call, r *Request) error {
	k.about, k.repeat, k.passedOn = r.Action, r.Resend || c.cfg.Resend, r.PassedOn != ""
	k.begin(wire.OpRun)
	k.text("action", r.Action)
	k.seconds("timeout", r.Timeout)
	if err := k.payload(r.Payload); err != nil {
		return err
	}
	if r.PassedOn != "" { // the node has checked the request of its client
		k.text("passed_on", string(r.PassedOn))
		return c.endLine(k)
	}
	if plain(r.Payload) && r.Timeout == 0 && r.Action != "" && len(r.Action) <= task.MaxAction {
		return c.endLine(k)
	}
	return c.endCheckedLine(k)
}

// plain reports whether a payload needs no check: there is none, or it is an ASCII string
// without escapes.
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

// Ping checks that a server answers.
func (c *Client) Ping(ctx context.Context) error {
	_, err := c.ask(ctx, wire.OpPing)
	return err
}

// Info describes a node.
type Info struct {
	Node     string          `json:"node"`
	Version  string          `json:"version"`
	Protocol int             `json:"protocol"`
	Actions  []string        `json:"actions"`
	Slots    int             `json:"slots"`
	Limits   json.RawMessage `json:"limits"` // an object, as the node sent it
	Draining bool            `json:"draining"`
	Time     time.Time       `json:"time"` // the node's clock; zero if the node does not send it
}

// Info returns the Info of the node at the other end of one connection.
func (c *Client) Info(ctx context.Context) (Info, error) {
	var info Info
	result, err := c.ask(ctx, wire.OpInfo)
	if err == nil {
		err = result.Decode(&info)
	}
	return info, err
}

// ask sends an op without fields. Sending it twice does no harm.
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

// marshal returns a payload as JSON, appended to dst if it is a string. It does not escape
// HTML.
func marshal(dst []byte, payload any) (json.RawMessage, error) {
	switch value := payload.(type) {
	case nil:
		return nil, nil
	case string:
		return task.AppendString(dst, value), nil
	case json.RawMessage:
		return value, nil
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(payload); err != nil {
		return nil, fmt.Errorf("marshal the payload: %w", errors.Join(task.RefuseField(task.InvalidRequest, "payload", "the payload cannot be marshalled to JSON"), err))
	}
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), nil
}
