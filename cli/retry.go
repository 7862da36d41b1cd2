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
		Short: "Queue a finished or scheduled durable task at once, or those that match a filter",
		Long: `Queues a durable task again that is done, failed or cancelled. Its failures start at 0,
the count of its attempts continues, and its generation goes up by one. A scheduled task,
which waits for its time or its next attempt, is queued at once and keeps its count of
failures. With flags, the command retries the tasks that match all of them; without
--status, only failed and cancelled ones. The exit code is 1 if the task is queued or
running, or if it was cancelled and another task now has its key.`,
		Example: `  posta retry 01JE4Z5Q8W3V9K2M7N6P0R1S2T
  posta retry --status failed --action mail
  posta retry --status scheduled --queue mail
  posta retry --queue mail --status failed --limit 10000`,
	})
}
