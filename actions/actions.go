// Package actions is what a node can run: a registry of named functions, and the built-in
// ones, one per file. An action gets a context, which ends at the attempt's timeout, and a
// Call with the payload as the raw JSON that was sent.
//
// The result that a client sees is {"ok":true,"data":…} for a Func, {"ok":true,…} with the
// members that the action wrote for an AppendFunc, and {"ok":false,"error":…} if either
// returns an error.
//
// Actions can be tested without a server. The executor takes care of marshalling, timeouts
// and panics.
package actions

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"time"
)

// Call is one call of an action.
type Call struct {
	// Action is the name under which the task was sent.
	Action string
	// Payload is the JSON text of the payload as it was sent. It is never empty: a missing
	// payload is null. It is valid until the action returns. An action that keeps it must
	// copy it, and no action may write to it.
	Payload json.RawMessage
	// Task is the id of a durable task and Attempt the number of the attempt, from 1.
	// Together they identify this attempt for ever. A direct task has neither.
	Task    string
	Attempt int
	// MaxResult is how many bytes the result may have; 0 if the caller does not say. An
	// action that collects output should stop there and return a TooLargeError.
	MaxResult int

	// OnLease returns what Lease returns; nil: there is no lease.
	OnLease func() string
	// OnReport receives what Report reports; nil: nobody does.
	OnReport func(percent float64, message string)
	// OnOpen opens a payload that is not in Payload; nil: it is in Payload.
	OnOpen Opener
}

// Lease returns the lease of a durable task's attempt, under which another program can send its outcome (POST
// /v1/work/{lease}/done). The context of the action ends then, and what the action returns is dropped. A direct task has
// no lease: "".
func (c *Call) Lease() string {
	if c.OnLease == nil {
		return ""
	}
	return c.OnLease()
}

// Opener opens a payload as a stream; the caller closes it.
type Opener func(ctx context.Context) (io.ReadCloser, error)

// Open returns the payload as a stream, wherever it is stored. The caller closes it before
// the action returns. Reading fails when ctx ends. An action with Action.Streams reads its
// payload only this way.
func (c *Call) Open(ctx context.Context) (io.ReadCloser, error) {
	if c.OnOpen == nil {
		return io.NopCloser(bytes.NewReader(c.Payload)), nil
	}
	return c.OnOpen(ctx)
}

// Report reports the progress of a durable task, from 0 to 100 percent, and in a few words
// what it does. Watchers of the task see the latest report, at most ten times a second.
// Report returns at once. It does nothing if nobody listens or the call is nil.
func (c *Call) Report(percent float64, message string) {
	if c != nil && c.OnReport != nil {
		c.OnReport(percent, message)
	}
}

// Func is an action. Its return value becomes the result's "data", an error its "error". It
// must return soon after ctx has ended, and must be safe for concurrent use. A panic is
// caught, reported to the client as a failure, and logged with its stack.
type Func func(ctx context.Context, call *Call) (any, error)

// AppendFunc is an action that writes its own result: it appends the members that follow
// "ok":true in the result object, such as `"data":"HOLA"`, to dst and returns it. The
// built-in actions have this form, since it needs no allocation and allows members other
// than "data".
type AppendFunc func(ctx context.Context, call *Call, dst []byte) ([]byte, error)

// Action is a named function. Exactly one of Run and Append is set.
type Action struct {
	// Name is how clients call it: 1 to 128 bytes of UTF-8.
	Name   string
	Run    Func
	Append AppendFunc
	// Slow declares that the action can wait or compute for longer than a millisecond. It
	// then takes a slot of the pool at once. The executor detects an undeclared slow action
	// after a few runs.
	Slow bool
	// Quick declares that the action returns within microseconds and ignores its context,
	// which then never ends. Such a task allocates nothing.
	Quick bool
	// Streams declares that the action reads its payload with Call.Open. A payload in blob
	// storage is then not read into memory, and Call.Payload is null.
	Streams bool

	// Slots limits how many attempts of the action run at once on a node; 0 means that only
	// the pool's slots limit them. Attempts beyond it wait, and block no other action.
	Slots int

	// Definition identifies the version of an action that was not written in Go, such as a hash of its definition. The history
	// of a durable task has it for each attempt.
	Definition string

	// Timeout is the longest time for one attempt. A task that asks for more gets this; 0
	// means that the task's own timeout decides.
	Timeout time.Duration
}

// New returns an Action with a name and a function, which is what most programs need. Set
// Slow on it if it is slow.
func New(name string, run Func) Action {
	return Action{Name: name, Run: run}
}

// Builtin returns the demonstration actions: echo, upper, sleep and fib. Each call returns
// new ones, which share nothing with others.
func Builtin() []Action {
	return []Action{echo(), upper(), sleep(), fib()}
}
