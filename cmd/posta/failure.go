package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/posta-tasks/posta/task"
)

// The exit codes; `posta help exit-codes` explains them.
const (
	exitOK          = 0
	exitFailed      = 1  // a task failed or was refused
	exitUsage       = 2  // the command line is wrong
	exitUnreachable = 3  // nobody answers at the address
	exitAddress     = 4  // a server cannot listen on its address
	exitConfig      = 78 // a server refuses its configuration (EX_CONFIG of sysexits.h)
)

// failure is an error with what the user is told beside it.
type failure struct {
	code int
	err  error  // nil when all has been said already
	hint string // the limit, the allowed values or the command to try
}

func (f *failure) Error() string {
	if f.err == nil {
		return fmt.Sprintf("exit code %d", f.code)
	}
	return f.err.Error()
}

func (f *failure) Unwrap() error { return f.err }

// fail makes a failure with a formatted message.
func fail(code int, hint, format string, args ...any) *failure {
	return &failure{code: code, err: fmt.Errorf(format, args...), hint: hint}
}

// misuse is a failure of the command line.
func misuse(hint, format string, args ...any) *failure {
	return fail(exitUsage, hint, format, args...)
}

// told ends with an exit code when the reason stands on stderr already.
func told(code int) *failure { return &failure{code: code} }

// explain tells the user about err, on stderr, and gives the exit code.
func (o *outside) explain(ctx context.Context, err error) int {
	if err == nil {
		return exitOK
	}
	var stop signalled
	if errors.As(context.Cause(ctx), &stop) && (errors.Is(err, context.Canceled) || errors.As(err, &stop)) {
		o.talk("posta: error: %s", stop)
		return stop.exitCode()
	}
	f := classify(err)
	if f.err != nil {
		o.talk("posta: error: %s", f.err)
	}
	if f.hint != "" {
		o.talk("posta: hint: %s", f.hint)
	}
	return f.code
}

// classify finds the exit code and the hint of an error that came without.
func classify(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	var refusal *task.Error
	if errors.As(err, &refusal) {
		return &failure{code: exitFailed, err: err, hint: refusalHint(refusal)}
	}
	var broken *net.OpError
	if errors.As(err, &broken) {
		return &failure{code: exitUnreachable, err: err, hint: "is it running? `posta up` starts a balancer and three nodes; --to or POSTA_TO says where"}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &failure{code: exitUnreachable, err: err, hint: "no answer in time; --timeout says how long to wait"}
	}
	return &failure{code: exitFailed, err: err}
}

// refusalHint says what helps against a refusal.
func refusalHint(refusal *task.Error) string {
	switch refusal.Code {
	case task.Unauthenticated:
		return "put the token into the environment variable POSTA_TOKEN"
	case task.Draining, task.Overloaded, task.Unavailable:
		if refusal.RetryAfter > 0 {
			return fmt.Sprintf("try again in %s", refusal.RetryAfter)
		}
		return "try again in a moment"
	case task.LineTooLong, task.PayloadTooLarge:
		return "a line holds at most 1 MiB, unless the node was started with another --max-line"
	}
	return ""
}

// listenFailure explains why a server cannot start on an address; flag names the
// flag that chose it.
func listenFailure(err error, flag string) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fail(exitAddress, "another program listens there, perhaps another posta; choose another address with "+flag, "%w", err)
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EACCES):
		return fail(exitAddress, "choose an address of this machine, and a port that you may open, with "+flag, "%w", err)
	}
	return fail(exitConfig, "", "%w", err)
}
