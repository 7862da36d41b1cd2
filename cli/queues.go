package cli

import (
	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/cli/terminal"
)

func newQueues(out *terminal.Outside) *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:     "queues",
		GroupID: groupLook,
		Short:   "List the queues, with their tasks and rates",
		Long: `Lists the queues: how many tasks are scheduled, queued, running and failed, how long
the oldest queued task has waited, and how many tasks a second are accepted and finished.
A queue exists from its first task on, as long as one of its tasks is kept or the queue
is paused.`,
		Example: `  posta queues
  posta queues --json`,
		Args: arguments(0, 0),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	to := addTarget(out, cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := to.Client(1, -1)
		if err != nil {
			return err
		}
		defer c.Close()
		queues, err := c.Queues(cmd.Context())
		if err != nil {
			return to.Unserved(err)
		}
		if asJSON {
			return printLines(out.Results(), queues)
		}
		return printQueues(out.Stdout, queues)
	}
	return cmd
}
