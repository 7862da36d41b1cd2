package cli

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/cli/terminal"
)

// getFlags are the flags of posta get.
type getFlags struct{ payload, json bool }

func newGet(out *terminal.Outside) *cobra.Command {
	f := &getFlags{}
	cmd := &cobra.Command{
		Use:     "get TASK",
		GroupID: groupLook,
		Short:   "Print the record of a durable task",
		Long: `Prints the record of a durable task: its state, when and where it ran, and its result.
The exit code is 0 in every state, and 1 if there is no such task. By default, a finished
task is kept for a day, and a failed one for seven; see --keep and --keep-failed.`,
		Example: `  posta get 01JE4Z5Q8W3V9K2M7N6P0R1S2T
  posta get 01JE4Z5Q8W3V9K2M7N6P0R1S2T --payload --json`,
		Args: arguments(1, 1),
	}
	cmd.Flags().BoolVar(&f.payload, "payload", false, "include the payload")
	cmd.Flags().BoolVar(&f.json, "json", false, "print one JSON object")
	to := addTarget(out, cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return get(cmd.Context(), out, to, f, args[0])
	}
	return cmd
}

// get prints one record.
func get(ctx context.Context, out *terminal.Outside, to *target, f *getFlags, id string) error {
	c, err := to.Client(1, -1)
	if err != nil {
		return err
	}
	defer c.Close()
	ask := c.Get
	if f.payload {
		ask = c.GetWithPayload
	}
	record, err := ask(ctx, id)
	if err != nil {
		return to.Unserved(err)
	}
	if f.json {
		return json.NewEncoder(out.Results()).Encode(record)
	}
	_, err = fmt.Fprint(out.Stdout, taskText(&record, out.ResultPaint()))
	return err
}
