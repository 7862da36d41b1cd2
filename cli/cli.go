// Package cli is the command line of Posta: every verb, its flags and its help.
//
// One verb is one file. A verb's file has its help, its flags and what it does; it
// builds the parts of Posta from top to bottom and hands them everything that comes
// from outside the process. This is the only package that reads flags and the
// environment, and that names the drivers of stores, brokers and blob storage.
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

// run runs one command line and returns the exit code. The end of ctx is the
// wish to stop: servers drain, the other verbs give up.
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

// explain writes err for the user to stderr, and returns the exit code.
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

// ownVariables returns the values of the environment variables that are ours.
func ownVariables(out *terminal.Outside) []string {
	var values []string
	for _, entry := range out.Env {
		if name, value, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "POSTA_") {
			values = append(values, value)
		}
	}
	return values
}

// untilSignal returns a context that ends at the first SIGINT or SIGTERM. The second
// one ends the process at once, with 128 and the number of the signal.
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

// signalled is why the context of run ended.
type signalled struct{ signal syscall.Signal }

func (s signalled) Error() string { return "stopped by " + s.signal.String() }

// exitCode is what a shell shows for a process that the signal ended.
func (s signalled) exitCode() int { return 128 + int(s.signal) }
