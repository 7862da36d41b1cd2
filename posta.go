package posta

import (
	"context"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/cli"
)

// Main runs the program posta with the given actions, and ends the process. It reads
// the command line and the environment, and handles SIGINT and SIGTERM. Its nodes run
// these actions and no others; without any, they run the built-in ones (see [Builtin]).
//
// Call Main last in the main function, since it does not return.
func Main(list ...actions.Action) { cli.Main(list...) }

// Builtin returns the demonstration actions echo, upper, sleep and fib, for programs
// that want them beside their own:
//
//	posta.Main(append(posta.Builtin(), posta.Action("resize", resize))...)
func Builtin() []actions.Action { return actions.Builtin() }

// Action returns an action that runs a function. Clients call it by name, which has 1
// to 128 bytes of UTF-8 and no control characters.
//
// The payload is decoded into an In with encoding/json. If it does not fit, or has a
// field that In does not have, the attempt fails without running the function, the
// error names the field, and the task is not retried. A missing payload is null, which
// leaves In at its zero value. What the function returns is encoded as the "data" of
// the result.
//
// The function may run several times at once. It must return soon after ctx ends: at
// the task's timeout, when the task is cancelled, or when the node stops. A panic fails
// the attempt, and the node logs it.
//
// The result has the fields Slow, Quick and Streams, which a program may set; see
// [actions.Action].
func Action[In, Out any](name string, run func(ctx context.Context, in In) (Out, error)) actions.Action {
	return actions.New(name, func(ctx context.Context, call *actions.Call) (any, error) {
		var in In
		if err := decode(call.Payload, &in); err != nil {
			return nil, Permanent(err)
		}
		return run(withCall(ctx, call), in)
	})
}

// Permanent marks an error that another attempt would not fix, such as a payload that
// makes no sense. The durable task then fails at once, even if it has attempts left.
// The text of the error stays the same; nil stays nil.
func Permanent(err error) error { return actions.Permanent(err) }

// RetryAfter marks an error with the time after which another attempt may help. If the
// durable task has attempts left, the next one starts after this time instead of the
// task's backoff, and after 24 hours at most. The attempt counts as failed. The text of
// the error stays the same; nil stays nil.
func RetryAfter(err error, delay time.Duration) error { return actions.RetryAfter(err, delay) }

// Task identifies the attempt that an action's function runs.
type Task struct {
	Action string // the name under which the task was sent
	// ID is the id of a durable task, and Attempt the number of the attempt, from 1.
	// Together they identify this attempt for ever. A direct task has neither.
	ID      string
	Attempt int
}

// TaskFrom returns the task for which a function runs. ctx is the context that the
// function got, or one derived from it. With any other context the Task is empty.
func TaskFrom(ctx context.Context) Task {
	r, _ := ctx.Value(runKey{}).(running)
	return r.Task
}

// Progress reports the progress of a durable task, from 0 to 100 percent, and in a few
// words what the function does. Watchers of the task see the latest report, at most ten
// times a second. ctx is the context that the function got, or one derived from it.
// Progress returns at once. It does nothing for a direct task.
func Progress(ctx context.Context, percent float64, message string) {
	if r, _ := ctx.Value(runKey{}).(running); r.report != nil {
		r.report(percent, message)
	}
}

// runKey is the key of a running in a context.
type runKey struct{}

// running is what a function can ask about the attempt that it runs.
type running struct {
	Task
	report func(percent float64, message string) // nil for a direct task
}

func withCall(ctx context.Context, call *actions.Call) context.Context {
	return context.WithValue(ctx, runKey{}, running{
		Task:   Task{Action: call.Action, ID: call.Task, Attempt: call.Attempt},
		report: call.OnReport,
	})
}
