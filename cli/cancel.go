package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/task"
)

func newCancel(out *terminal.Outside) *cobra.Command {
	v := &change{done: "cancelled", from: []task.State{task.Scheduled, task.Queued, task.Running}}
	v.one = func(ctx context.Context, c *client.Client, id string) (changed, error) {
		cancelling, err := c.Cancel(ctx, id)
		if cancelling {
			return changed{Task: id, Status: "cancelling", note: ": it runs, and was asked to stop"}, err
		}
		return changed{Task: id, Status: "cancelled"}, err
	}
	v.many = func(c *client.Client) func(context.Context, client.Filter, int) (client.Bulk, error) {
		return c.CancelWhere
	}
	return v.verb(out, &cobra.Command{
		Use:   "cancel TASK | --queue NAME … [flags]",
		Short: "Cancel a durable task, or those that match a filter",
		Long: `Cancels a durable task. A task that waits is cancelled at once. A task that runs is
cancelled as soon as its action notices, unless it succeeds first. With flags, the command
cancels the tasks that match all of them. The exit code is 1 if the task is done or
has failed already.`,
		Example: `  posta cancel 01JE4Z5Q8W3V9K2M7N6P0R1S2T
  posta cancel --queue mail --status queued
  posta cancel --meta customer=ana --limit 10000 --json`,
	})
}
