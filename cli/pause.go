package cli

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/client"
)

func newPause(out *terminal.Outside) *cobra.Command {
	return pauseVerb(out, true, (*client.Client).Pause, &cobra.Command{
		Use:   "pause QUEUE",
		Short: "Stop starting the tasks of a queue",
		Long: `Pauses a queue: until ` + "`posta resume`" + `, no node starts its tasks, even after a restart.
Running tasks continue, and new tasks are accepted. Pausing a paused queue changes
nothing. A queue exists from its first task on, as long as one of its tasks is kept or
the queue is paused. A queue that does not exist cannot be paused.`,
		Example: `  posta pause mail
  posta pause mail --json`,
	})
}

// pauseVerb returns a verb that pauses or resumes a queue.
func pauseVerb(out *terminal.Outside, paused bool, do func(*client.Client, context.Context, string) error, cmd *cobra.Command) *cobra.Command {
	asJSON := false
	cmd.GroupID, cmd.Args = groupLook, arguments(1, 1)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	to := addTarget(out, cmd)
	completeFrom(cmd, to)
	cmd.ValidArgsFunction = asking(to, 0, queuesOf)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := to.Client(1, -1)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := do(c, cmd.Context(), args[0]); err != nil {
			return to.Unserved(err)
		}
		if asJSON {
			return json.NewEncoder(out.Results()).Encode(struct {
				Queue  string `json:"queue"`
				Paused bool   `json:"paused"`
			}{args[0], paused})
		}
		stands := "open"
		if paused {
			stands = "paused"
		}
		_, err = fmt.Fprintf(out.Results(), "queue %s is %s\n", args[0], stands)
		return err
	}
	return cmd
}
