package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/task"
)

// enqueueFlags are the flags of posta enqueue.
type enqueueFlags struct {
	endFlags
	options     client.EnqueueOptions
	meta        labelsFlag
	file        string
	connections int
	wait        bool
}

func newEnqueue(out *terminal.Outside) *cobra.Command {
	f := &enqueueFlags{}
	cmd := &cobra.Command{
		Use:     "enqueue ACTION [PAYLOAD] | -f FILE [flags]",
		GroupID: groupSend,
		Short:   "Enqueue a durable task, which runs later, or a file of tasks",
		Long: `Enqueues a durable task and prints its id. From then on no crash loses the task. With
--wait the command waits until the task is finished and prints the result, like
` + "`posta run`" + `; the exit code is 1 if the task failed or was cancelled. Ctrl-C only ends the
waiting.

` + payloadHelp + `

With -f it sends a file of tasks, one on each line in the format of the line protocol,
over several connections, many at a time. It prints the reply lines as they arrive; match
them by id. A task without an id gets the number of its line. The flags set what a line
leaves out. Memory use does not depend on the length of the file. A node may restart
meanwhile: if it is killed, lines with a key are sent again, and the other lines without
a reply are reported, since they may have been accepted. If stdout is a terminal, it
shows the progress instead of the replies. Lines that cannot be sent and tasks that were
refused are reported on stderr with the number of their line. The exit code is 0 if
every task was accepted.`,
		Example: `  posta enqueue upper hola
  posta enqueue upper hola --wait
  posta enqueue mail @letter.json --queue mail --key letter-7 --meta customer=ana
  posta enqueue report --delay 1h --max-attempts 3 --timeout 10m
  posta enqueue report --run-at 2026-12-31T23:00:00-03:00 --priority low
  seq 1000000 | sed 's/.*/{"action":"fib","payload":25}/' | posta enqueue -f - --queue sums`,
		Args: func(cmd *cobra.Command, args []string) error {
			if f.file != "" && len(args) > 0 {
				return misuse("the lines of FILE name their actions; leave out ACTION, or -f", "-f and ACTION exclude each other")
			}
			if f.file != "" {
				return arguments(0, 0)(cmd, args)
			}
			return arguments(1, 2)(cmd, args)
		},
	}
	f.addTo(cmd)
	cmd.SetFlagErrorFunc(dashedPayload)
	to := addTarget(out, cmd)
	completeFrom(cmd, to)
	cmd.ValidArgsFunction = asking(to, 0, actionsOf)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f.options.Meta = f.meta
		if err := f.check(); err != nil {
			return err
		}
		if err := f.checkZeros(cmd.Flags().Changed); err != nil {
			return err
		}
		if f.file != "" {
			return streamFile(cmd.Context(), streamConfig{
				Out: out, To: to, File: f.file, Connections: f.connections, Durable: true, Defaults: f.options,
			})
		}
		return enqueueOne(cmd.Context(), out, to, f, args)
	}
	return cmd
}

// addTo defines the flags.
func (f *enqueueFlags) addTo(cmd *cobra.Command) {
	flags, o := cmd.Flags(), &f.options
	flags.StringVarP(&o.Queue, "queue", "q", "", "the `name` of the queue: a-z, 0-9, '.', '_' and '-'")
	flags.StringVar(&o.Priority, "priority", "", "high, normal or low (default normal)")
	flags.Var((*secondsFlag)(&o.Delay), "delay", "the `time` from now until the task may start")
	flags.Var((*momentFlag)(&o.RunAt), "run-at", "the `time` at which it may start, such as 2026-01-31T08:00:00Z")
	flags.Var((*secondsFlag)(&o.Expires), "expires", "the `time` from now after which the task fails if it has not started (default never)")
	flags.Var((*secondsFlag)(&o.Timeout), "timeout", "the longest `time` of an attempt, at most 24h (default that of the node: 1m)")
	flags.IntVar(&o.MaxAttempts, "max-attempts", 0, "the `number` of attempts that may fail, 1 to 1000 (default that of the node: 12)")
	flags.Var((*secondsFlag)(&o.Backoff), "backoff", "the `time` before the second attempt; each further one waits three times as long (default that of the node: 5s)")
	flags.Var((*secondsFlag)(&o.BackoffMax), "backoff-max", "the longest `time` before an attempt (default that of the node: 1h)")
	flags.StringVar(&o.Key, "key", "", "a unique `name` for the task in its queue: a second enqueue with the same key returns the first task")
	flags.Var((*secondsFlag)(&o.Keep), "keep", "how long the task and its result are kept after it is done or cancelled, a `time` (default that of the node: 24h)")
	flags.Var((*secondsFlag)(&o.KeepFailed), "keep-failed", "how long the task is kept after it has failed, a `time` (default that of the node: 7d)")
	flags.Var(&f.meta, "meta", "a label `NAME=VALUE`, may be repeated: kept with the task and searchable")
	flags.BoolVarP(&f.wait, "wait", "w", false, "wait until the task is finished, and print the result")
	flags.StringVarP(&f.file, "file", "f", "", "send the tasks in `FILE`, one a line; - is stdin")
	flags.IntVarP(&f.connections, "connections", "c", 4, "`number` of connections for -f")
	f.endFlags.addTo(cmd)
	for _, name := range []string{"delay", "expires", "timeout", "backoff", "backoff-max", "keep", "keep-failed"} {
		flags.Lookup(name).DefValue = "" // the help shows no default; 0 would be one
	}
}

// check refuses flags that contradict each other.
func (f *enqueueFlags) check() error {
	o := &f.options
	switch {
	case o.Delay != 0 && !o.RunAt.IsZero():
		return misuse("--delay counts from now, --run-at is a time", "--delay and --run-at exclude each other")
	case o.Priority != "" && !slices.Contains([]string{"high", "normal", "low"}, o.Priority):
		return misuse("high, normal and low are allowed", "--priority is %q", o.Priority)
	case f.file != "" && (f.wait || f.raw || f.json):
		return misuse("-f prints the reply lines, which say that a task was accepted", "--wait, --raw and --json are not for -f")
	case f.file != "" && o.Key != "":
		return misuse("a line says its own: \"key\":\"…\"", "--key is one name, and cannot be that of all tasks in a file")
	case f.raw && !f.wait:
		return misuse("add --wait, or leave out --raw", "--raw is for the result, which only --wait prints")
	}
	return checkTimes([]boundedTime{
		{"delay", o.Delay, task.MaxSpan}, {"expires", o.Expires, task.MaxSpan}, {"timeout", o.Timeout, task.MaxEnqueueTimeout},
		{"backoff", o.Backoff, task.MaxBackoff}, {"backoff-max", o.BackoffMax, task.MaxBackoff},
		{"keep", o.Keep, task.MaxSpan}, {"keep-failed", o.KeepFailed, task.MaxSpan},
	})
}

// checkZeros handles an explicit 0, unlike a flag that was left out: it is kept if it means something, and refused
// otherwise.
func (f *enqueueFlags) checkZeros(said func(flag string) bool) error {
	o := &f.options
	if said("max-attempts") && (o.MaxAttempts < 1 || o.MaxAttempts > task.MaxAttempts) {
		return misuse(fmt.Sprintf("1 to %d are allowed; 1 is never tried again", task.MaxAttempts), "--max-attempts is %d", o.MaxAttempts)
	}
	if said("key") && o.Key == "" {
		return misuse("name the task, or leave out --key", "--key is empty")
	}
	for flag, span := range map[string]time.Duration{"expires": o.Expires, "timeout": o.Timeout} {
		if said(flag) && span == 0 {
			return misuse("say a time of more than 0, such as 90 or 1m30s", "--%s is 0", flag)
		}
	}
	spans := map[string]*time.Duration{
		"delay": &o.Delay, "backoff": &o.Backoff, "backoff-max": &o.BackoffMax, "keep": &o.Keep, "keep-failed": &o.KeepFailed,
	}
	for flag, span := range spans {
		if said(flag) && *span == 0 {
			*span = task.Zero
		}
	}
	return nil
}

// boundedTime is the value of a flag and its maximum.
type boundedTime struct {
	flag        string
	value, most time.Duration
}

// checkTimes refuses times that are negative or above their maximum.
func checkTimes(times []boundedTime) error {
	for _, t := range times {
		switch {
		case t.value < 0:
			return misuse("say for example 90 or 1m30s", "--%s is %s, and cannot be negative", t.flag, t.value)
		case t.value > t.most:
			return misuse("at most "+terminal.Span(t.most)+" are allowed", "--%s is %s", t.flag, terminal.Span(t.value))
		}
	}
	return nil
}

// enqueueOne enqueues the task of the command line.
func enqueueOne(ctx context.Context, out *terminal.Outside, to *target, f *enqueueFlags, args []string) error {
	var payload json.RawMessage
	if len(args) > 1 {
		var err error
		if payload, err = readPayload(out, args[1]); err != nil {
			return err
		}
	}
	if !f.wait {
		c, err := to.Client(1, -1)
		if err != nil {
			return err
		}
		defer c.Close()
		accepted, err := c.Enqueue(ctx, args[0], payload, f.options)
		if err != nil {
			return to.Unserved(err)
		}
		return f.printAccepted(out, accepted)
	}
	c, err := to.Patient(ctx, 1)
	if err != nil {
		return err
	}
	defer c.Close()
	hintPaused(ctx, out, c, cmp.Or(f.options.Queue, task.DefaultQueue))
	id := ""
	final, err := c.EnqueueWait(ctx, args[0], payload, f.options, func(a client.Accepted) {
		id = a.Task
		f.announce(out, a)
	})
	if err != nil {
		return stillThere(out, id, to.Unserved(err))
	}
	ended := end{task: final.Task, state: final.State, result: final.Result, reason: final.Error, code: final.Code}
	return f.printEnd(out, ended.lookUp(ctx, c), final)
}

// printAccepted prints the id of the task, and more for people.
func (f *enqueueFlags) printAccepted(out *terminal.Outside, a client.Accepted) error {
	if f.json {
		return json.NewEncoder(out.Results()).Encode(a)
	}
	f.announce(out, a)
	_, err := fmt.Fprintln(out.Stdout, terminal.Printable(a.Task))
	return err
}

// announce reports an accepted task on stderr: a warning always, the rest only to a terminal.
func (f *enqueueFlags) announce(out *terminal.Outside, a client.Accepted) {
	if f.json && f.wait {
		_ = json.NewEncoder(out.Results()).Encode(a)
	}
	if a.Warning != "" {
		out.Talk("posta: warning: %s", terminal.Cut(a.Warning, 300))
	}
	if !out.TalksToTerminal() {
		return
	}
	text := fmt.Sprintf("posta: task %s is %s", a.Task, a.State)
	if !a.RunAt.IsZero() {
		text += " for " + a.RunAt.Local().Format(terminal.Time)
	}
	if a.Duplicate {
		text += ": the key had it already"
	}
	out.Talk("%s", text)
}

// stillThere explains that an accepted task continues although this command has given up.
func stillThere(out *terminal.Outside, task string, err error) error {
	if task != "" {
		out.Talk("posta: hint: the task goes on; `%s wait %s` waits for it", out.Self(), task)
	}
	return err
}

// dashedPayload explains an unknown flag, since it may be meant as a payload.
func dashedPayload(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) && nearestFlag(cmd, unknown.GetSpecifiedName()) == "" {
		return misuse(fmt.Sprintf("a PAYLOAD that begins with - comes after --: %s echo -- -1; see `%s --help`", cmd.CommandPath(), cmd.CommandPath()), "%w", err)
	}
	return flagError(cmd, err)
}
