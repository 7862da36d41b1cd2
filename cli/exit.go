package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/posta-tasks/posta/task"
)

// The exit codes. `posta help exit-codes` explains them.
const (
	exitOK          = 0
	exitFailed      = 1  // a task failed, was cancelled or was refused
	exitUsage       = 2  // the command line is wrong
	exitUnreachable = 3  // no node answers at the address
	exitAddress     = 4  // a server cannot listen on its address
	exitUnfinished  = 5  // a durable task was not finished in time
	exitConfig      = 78 // a server refuses its configuration (EX_CONFIG of sysexits.h)
)

// failure is an error with an exit code and a hint for the user.
type failure struct {
	Code int    // exit code of the process
	Err  error  // nil if the reason was printed already
	Hint string // the limit, the allowed values or the command to try
}

// Error returns the message, or the exit code if the reason was printed already.
func (f *failure) Error() string {
	if f.Err == nil {
		return fmt.Sprintf("exit code %d", f.Code)
	}
	return f.Err.Error()
}

// Unwrap returns Err.
func (f *failure) Unwrap() error { return f.Err }

// fail returns a failure with a formatted message.
func fail(code int, hint, format string, args ...any) *failure {
	return &failure{Code: code, Err: fmt.Errorf(format, args...), Hint: hint}
}

// misuse returns a failure because of a wrong command line.
func misuse(hint, format string, args ...any) *failure {
	return fail(exitUsage, hint, format, args...)
}

// alreadyPrinted returns a failure whose reason was printed already.
func alreadyPrinted(code int) *failure { return &failure{Code: code} }

// classify returns the exit code and the hint for an error that has none.
func classify(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	var refusal *task.Error
	if errors.As(err, &refusal) {
		return &failure{Code: exitFailed, Err: err, Hint: refusalHint(refusal)}
	}
	var broken *net.OpError
	if errors.As(err, &broken) {
		return &failure{Code: exitUnreachable, Err: err, Hint: "is it running? `posta up` starts a balancer and three nodes; --to or POSTA_TO says where"}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &failure{Code: exitUnreachable, Err: err, Hint: "no answer in time; --timeout says how long to wait"}
	}
	return &failure{Code: exitFailed, Err: err}
}

// refusalHint returns what to do after a refusal.
func refusalHint(refusal *task.Error) string {
	switch refusal.Code {
	case task.Unauthenticated:
		if strings.Contains(refusal.Message, "not known") {
			return "POSTA_TOKEN holds a token that is none of the node's --token-file, which is read when the node starts"
		}
		return "put the token into the environment variable POSTA_TOKEN"
	case task.Unavailable:
		return unavailableHint(refusal)
	case task.Draining, task.Overloaded:
		if refusal.RetryAfter > 0 {
			return fmt.Sprintf("try again in %s", refusal.RetryAfter)
		}
		return "try again in a moment"
	case task.NotFound:
		if refusal.Field == "queue" {
			return "`posta queues` lists the queues"
		}
		return "`posta list` shows the tasks that there are; a finished one is kept for a day, or as long as its --keep said"
	case task.Conflict:
		return "one that is finished can be retried, one that is not can be cancelled; `posta get TASK` says where it stands"
	case task.KeyConflict:
		return keyHint(refusal)
	case task.UnknownOutcome:
		return unknownHint(refusal)
	case task.LineTooLong:
		return "a line holds at most 1 MiB, unless the node was started with another --max-line; larger payloads go over HTTP, PUT /v1/blobs"
	case task.PayloadTooLarge:
		if refusal.Limit == fmt.Sprintf("%d bytes", task.InlineBytes) {
			return "the node has no storage for larger ones: start `posta node` with --blobs; `posta up` has it in --data"
		}
	}
	return ""
}

// keyHint returns how to use a key again that belongs to another task.
func keyHint(refusal *task.Error) string {
	id := cmp.Or(refusal.Task, "TASK")
	return "`posta get " + id + "` shows the task that has the key; `posta cancel " + id +
		"` frees it if that task is not finished, otherwise it is free when the task is no longer kept"
}

// unavailableHint returns what to do if a part is unavailable. It has an answer only for a node without a store.
func unavailableHint(refusal *task.Error) string {
	switch {
	case strings.Contains(refusal.Message, "no store"), strings.Contains(refusal.Message, "needs a store"):
		return "durable tasks need a store: `posta up` has one, and `posta node` has with --store"
	case refusal.Field == "blobs":
		return "start `posta node` with --blobs, which stores payloads and results of more than 64 KiB"
	case refusal.RetryAfter > 0:
		return fmt.Sprintf("try again in %s", refusal.RetryAfter)
	}
	return "try again in a moment; `posta doctor` says what is away"
}

// unknownHint returns how to find out whether a change was made. Only the refusal of an enqueue contains the id of
// its task.
func unknownHint(refusal *task.Error) string {
	if refusal.Task != "" {
		return "`posta get " + refusal.Task + "` says whether it was made; an enqueue with --key may be sent again"
	}
	return "it may have been made: `posta list` and `posta queues` show how it stands"
}
