// Package cli is the command line of Posta: every verb, its flags and its help.
//
// Each verb has one file with its help, its flags and what it does. It builds the parts of Posta from top to
// bottom, and passes them everything that comes from outside the process. Only this package reads flags and the
// environment, and only this package names the drivers of stores, brokers and blob storage.
package cli

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/cli/terminal"
)

// Main runs the command line of this process and ends the process with its exit
// code. The nodes that it starts run the actions of list.
func Main(list ...actions.Action) {
	ctx := untilSignal(context.Background())
	os.Exit(run(ctx, &terminal.Outside{
		Name:   os.Args[0],
		Args:   os.Args[1:],
		Stdin:  os.Stdin,
		Stdout: os.Stdout,
		Stderr: os.Stderr,
		Env:    os.Environ(),
	}, list...))
}

// run runs one command line and returns the exit code. When ctx ends, servers drain and the other verbs give up.
func run(ctx context.Context, out *terminal.Outside, list ...actions.Action) int {
	root := newRoot(out, list...)
	root.SetArgs(out.Args)
	root.SetIn(out.Stdin)
	root.SetOut(out.Stdout)
	root.SetErr(out.Stderr)
	err := root.ExecuteContext(ctx)
	code := explain(ctx, out, err)
	out.Flush()
	return code
}

// explain writes err to stderr for the user, and returns the exit code.
func explain(ctx context.Context, out *terminal.Outside, err error) int {
	if err == nil {
		return exitOK
	}
	var stop signalled
	if errors.As(context.Cause(ctx), &stop) && (errors.Is(err, context.Canceled) || errors.As(err, &stop)) {
		out.Talk("posta: error: %s", stop)
		return stop.exitCode()
	}
	f := classify(err)
	words := append(ownVariables(out), out.Args...)
	if f.Err != nil {
		out.Talk("posta: error: %s", withoutSecrets(f.Err.Error(), words))
	}
	if f.Hint != "" {
		out.Talk("posta: hint: %s", withoutSecrets(f.Hint, words))
	}
	return f.Code
}

// ownVariables returns the values of the environment variables of Posta.
func ownVariables(out *terminal.Outside) []string {
	var values []string
	for _, entry := range out.Env {
		if name, value, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "POSTA_") {
			values = append(values, value)
		}
	}
	return values
}

// untilSignal returns a context that ends at the first SIGINT or SIGTERM. The second one ends the process at once,
// with the exit code 128 plus the number of the signal.
func untilSignal(parent context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		first := <-signals
		cancel(signalled{first.(syscall.Signal)})
		second := <-signals
		os.Exit(signalled{second.(syscall.Signal)}.exitCode())
	}()
	return ctx
}

// signalled is the cause of the context of run after a signal.
type signalled struct{ signal syscall.Signal }

func (s signalled) Error() string { return "stopped by " + s.signal.String() }

// exitCode returns the exit code of a process that the signal ended.
func (s signalled) exitCode() int { return 128 + int(s.signal) }
