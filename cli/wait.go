package cli

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/task"
)

// waitFlags are the flags of posta wait.
type waitFlags struct {
	endFlags
	timeout time.Duration
}

func newWait(out *terminal.Outside) *cobra.Command {
	f := &waitFlags{}
	cmd := &cobra.Command{
		Use:     "wait TASK",
		GroupID: groupLook,
		Short:   "Wait for the end of a durable task and print its result",
		Long: `Waits until a durable task is finished and prints its result, the object with "ok".
It survives a restart of the node. The exit code is 1 if the task failed or was
cancelled, and 5 if it was not finished within --timeout.`,
		Example: `  posta wait 01JE4Z5Q8W3V9K2M7N6P0R1S2T
  posta wait 01JE4Z5Q8W3V9K2M7N6P0R1S2T --timeout 30s --json
  posta wait $(posta enqueue upper hola) --raw`,
		Args: arguments(1, 1),
	}
	cmd.Flags().Var((*secondsFlag)(&f.timeout), "timeout", "the longest `time` to wait; 0 means no limit")
	f.addTo(cmd)
	to := addTarget(out, cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkTimes([]boundedTime{{"timeout", f.timeout, task.MaxSpan}}); err != nil {
			return err
		}
		return wait(cmd.Context(), out, to, f, args[0])
	}
	return cmd
}

// wait waits for one task.
func wait(ctx context.Context, out *terminal.Outside, to *target, f *waitFlags, id string) error {
	c, err := to.Patient(ctx, 1)
	if err != nil {
		return err
	}
	defer c.Close()
	limited := ctx
	if f.timeout > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, f.timeout)
		defer cancel()
	}
	hintPausedTask(limited, out, c, id)
	r, err := c.Wait(limited, id)
	if err != nil && errors.Is(limited.Err(), context.DeadlineExceeded) {
		return fail(exitUnfinished, "it goes on; `"+out.Self()+" watch "+id+"` shows what it does", "task %s is not finished after %s", id, f.timeout)
	}
	if err != nil {
		return to.Unserved(err)
	}
	return f.printEnd(out, endOf(&r), r)
}

// hintPausedTask is hintPaused for the queue of a task that is not finished.
func hintPausedTask(ctx context.Context, out *terminal.Outside, c *client.Client, id string) {
	if r, err := c.Get(ctx, id); err == nil && !r.State.Final() {
		hintPaused(ctx, out, c, r.Queue)
	}
}

// hintPaused says on stderr that a queue is paused, since its tasks wait until it is resumed. A failure is left to what
// the caller does next.
func hintPaused(ctx context.Context, out *terminal.Outside, c *client.Client, queue string) {
	queues, err := c.Queues(ctx)
	if err != nil {
		return
	}
	for i := range queues {
		if queues[i].Queue == queue && queues[i].Paused {
			out.Talk("posta: hint: queue %s is paused; `%s resume %s` starts its tasks", terminal.Printable(queue), out.Self(), terminal.Printable(queue))
		}
	}
}
