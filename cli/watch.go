package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/client"
)

func newWatch(out *terminal.Outside) *cobra.Command {
	after, asJSON := 0, false
	cmd := &cobra.Command{
		Use:     "watch TASK",
		GroupID: groupLook,
		Short:   "Follow a durable task until it ends",
		Long: `Prints a line for each past and future entry in the history of a durable task, and the
progress that its action reports, until the task is finished. On a terminal the progress
is a bar below the lines; in a pipe or a file it is lines, too. The command survives a
restart of the node. The exit code is 1 if the task failed or was cancelled.`,
		Example: `  posta watch 01JE4Z5Q8W3V9K2M7N6P0R1S2T
  posta watch $(posta enqueue sleep 3)
  posta watch 01JE4Z5Q8W3V9K2M7N6P0R1S2T --after 3 --json`,
		Args: arguments(1, 1),
	}
	cmd.Flags().IntVar(&after, "after", 0, "leave out the history up to the entry with this `number`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	to := addTarget(out, cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := to.Patient(cmd.Context(), 1)
		if err != nil {
			return err
		}
		defer c.Close()
		hintPausedTask(cmd.Context(), out, c, args[0])
		w := &watcher{out: out, client: c, asJSON: asJSON, bar: terminal.NewProgress(out, asJSON || !out.ResultsToTerminal())}
		w.bar.Watch(w.line)
		err = w.follow(cmd.Context(), to, c.Watch(cmd.Context(), args[0], after))
		w.bar.Stop()
		return err
	}
	return cmd
}

// watcher shows the events of one task.
type watcher struct {
	out      *terminal.Outside
	client   *client.Client // looks a failed task up; nil: none does
	asJSON   bool
	bar      *terminal.Progress
	progress atomic.Pointer[client.Progress] // the latest; nil: the task does not run
}

// line returns the progress bar, or "" if there is no progress.
func (w *watcher) line() string {
	p := w.progress.Load()
	if p == nil {
		return ""
	}
	return terminal.Bar(p.Percent/100) + " " + terminal.Cut(p.Message, 200)
}

// follow prints each event, and returns the failure of the task.
func (w *watcher) follow(ctx context.Context, to *target, events func(func(client.Event, error) bool)) error {
	for e, err := range events {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return to.Unserved(err)
		}
		w.progress.Store(e.Progress)
		if err := w.print(&e); err != nil {
			return err
		}
		if e.IsLast() {
			ended := end{task: e.Task, state: e.State, result: e.Result, reason: e.Error, code: e.Code}
			if w.client != nil {
				ended = ended.lookUp(ctx, w.client)
			}
			return ended.fault(w.out)
		}
	}
	return nil
}

// print prints the line of an event. If there is a progress bar, it shows progress there instead.
func (w *watcher) print(e *client.Event) (err error) {
	if w.asJSON {
		return json.NewEncoder(w.out.Results()).Encode(e)
	}
	if e.Progress != nil && w.bar.Drawn() {
		return nil
	}
	w.bar.Above(func() {
		_, err = fmt.Fprintln(w.out.Stdout, eventText(e, time.Now(), w.out.ResultPaint()))
	})
	return err
}
