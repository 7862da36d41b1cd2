// Package actions holds what a node can do: a registry of named functions, and
// the built-in ones, a file each. An action is given a context, which ends at the
// attempt's timeout, and a Call with the payload as the raw JSON that was sent.
//
// The result that a client sees is {"ok":true,"data":…} for a Func,
// {"ok":true,…} with whatever members an AppendFunc writes, and
// {"ok":false,"error":…} when either returns an error.
//
// The room imports nothing of Posta's, so that a program's own actions can be
// tested without a server. Marshalling, time limits and panics are left to the
// executor.
package actions

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
)

// Call is what an action is asked to do.
type Call struct {
	// Action is the name under which the task was sent.
	Action string
	// Payload is the JSON text of the payload as it was sent, never empty: a
	// payload that was left out is null. It is valid only until the action
	// returns; an action that keeps it must copy it, and none may write to it.
	Payload json.RawMessage
	// Task is the id of a durable task, and Attempt says how often it was started, from 1:
	// together they name this run for ever. A task that is answered at once has neither.
	Task    string
	Attempt int
	// OnReport is where Report goes; nil: nowhere.
	OnReport func(percent float64, message string)
	// OnOpen is what Open asks for a payload that is not in Payload; nil: it is there.
	OnOpen Opener
}

// Opener opens a payload as a stream; the caller closes it.
type Opener func(ctx context.Context) (io.ReadCloser, error)

// Open gives the payload as a stream, wherever it is; the caller closes it before the action
// returns. Reading fails when ctx ends. An action that sets Action.Streams reads its payload
// only so.
func (c *Call) Open(ctx context.Context) (io.ReadCloser, error) {
	if c.OnOpen == nil {
		return io.NopCloser(bytes.NewReader(c.Payload)), nil
	}
	return c.OnOpen(ctx)
}

// Report says how far a durable task is, from 0 to 100 percent, and in a few words what it
// does. Whoever watches the task sees the newest report, ten times a second at most. It
// returns at once; where nobody listens, or the call is nil, it does nothing.
func (c *Call) Report(percent float64, message string) {
	if c != nil && c.OnReport != nil {
		c.OnReport(percent, message)
	}
}

// Func is an action. What it returns is marshalled as the result's "data"; an
// error becomes the result's "error". It must return soon after ctx has ended,
// and may be called from many goroutines at once. A panic is caught, told to the
// client as a failure, and logged with its stack.
type Func func(ctx context.Context, call *Call) (any, error)

// AppendFunc is an action that writes its result itself: it appends the members
// that follow "ok":true in the result object, say `"data":"HOLA"`, to dst and
// returns it. It is the form of the built-in actions, since it needs no
// allocation and lets a result have other members than "data".
type AppendFunc func(ctx context.Context, call *Call, dst []byte) ([]byte, error)

// Action is a named function. Exactly one of Run and Append is set.
type Action struct {
	// Name is how clients call it: 1 to 128 bytes of UTF-8.
	Name   string
	Run    Func
	Append AppendFunc
	// Slow declares that the action waits, or can compute, for longer than a
	// millisecond: it then takes a slot of the pool at once. An action that
	// is slow without saying so is found out after a few runs.
	Slow bool
	// Quick declares that the action returns within microseconds and takes no
	// notice of its context, which then never ends. Such a task allocates nothing.
	Quick bool
	// Streams declares that the action reads its payload with Call.Open. A payload that
	// is in blob storage is then not read into memory: Call.Payload is null in its place.
	Streams bool
}

// New names a function as an action. It is the short way to write what most
// programs register; a slow one sets Slow on the Action that it gets.
func New(name string, run Func) Action {
	return Action{Name: name, Run: run}
}

// Builtin lists the demonstration actions: echo, upper, sleep and fib. Each call
// gives new ones, which share nothing with those of another call.
func Builtin() []Action {
	return []Action{echo(), upper(), sleep(), fib()}
}
