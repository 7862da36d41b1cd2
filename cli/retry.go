package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/task"
)

func newRetry(out *terminal.Outside) *cobra.Command {
	v := &change{done: "queued again", from: []task.State{task.Scheduled, task.Done, task.Failed, task.Cancelled}}
	v.one = func(ctx context.Context, c *client.Client, id string) (changed, error) {
		generation, err := c.Retry(ctx, id)
		answer := changed{Task: id, Status: "queued", Generation: generation, note: " to run at once"}
		if generation > 0 {
			answer.note = fmt.Sprintf(" again, generation %d", generation)
		}
		return answer, err
	}
	v.many = func(c *client.Client) func(context.Context, client.Filter, int) (client.Bulk, error) {
		return c.RetryWhere
	}
	return v.verb(out, &cobra.Command{
		Use:   "retry TASK | --queue NAME … [flags]",
		Short: "Queue a finished or scheduled durable task at once, or those that a filter finds",
		Long: `Queues a durable task that is done, failed or cancelled once more: its failures count
from 0, its attempts go on, and its generation goes up by one. A scheduled task, which
waits for its time or its next attempt, is queued at once: its failures count on. With
flags it queues the tasks that have all that they say: failed and cancelled ones unless
--status says otherwise. The exit code is 1 when the task is queued or runs, or when it
was cancelled and another task has its key.`,
		Example: `  posta retry 01JE4Z5Q8W3V9K2M7N6P0R1S2T
  posta retry --status failed --action mail
  posta retry --status scheduled --queue mail
  posta retry --queue mail --status failed --limit 10000`,
	})
}
