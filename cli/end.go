package cli

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/task"
)

// endFlags are the flags for printing the end of a durable task.
type endFlags struct {
	json bool
	raw  bool
}

func (f *endFlags) addTo(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&f.raw, "raw", "r", false, "print only the data of the result, a string without its quotes")
	cmd.Flags().BoolVar(&f.json, "json", false, "print the replies about the task, one JSON object a line")
}

// end is how a task ended.
type end struct {
	task   string
	state  task.State
	result client.Result
	reason string
	code   task.Code
	final  bool // the action has said that another attempt is pointless
}

// endOf returns how the task of a record ended. The record of a task that was retried by hand does not tell how many
// attempts have failed since.
func endOf(r *client.Record) end {
	final := r.Code == task.ActionFailed && r.Generation == 0 && r.Attempt < r.MaxAttempts
	return end{r.Task, r.State, r.Result, r.Error, r.Code, final}
}

// lookUp returns how a failed task ended, with what only its record says. Without the record it returns e.
func (e end) lookUp(ctx context.Context, c *client.Client) end {
	if e.code == task.ActionFailed {
		if r, err := c.Get(ctx, e.task); err == nil && r.State == e.state {
			e.final = endOf(&r).final
		}
	}
	return e
}

// printEnd prints a result, or fails if there is none. With --json it prints whole instead.
func (f *endFlags) printEnd(out *terminal.Outside, e end, whole any) error {
	var err error
	switch {
	case f.json:
		err = json.NewEncoder(out.Results()).Encode(whole)
	case e.state != task.Done:
	case f.raw:
		err = printData(out, e.result.JSON())
	default:
		_, err = fmt.Fprintln(out.Results(), e.result)
	}
	if err != nil {
		return err
	}
	return e.fault(out)
}

// fault returns the error of a command whose task did not succeed.
func (e end) fault(out *terminal.Outside) error {
	switch e.state {
	case task.Done:
		return nil
	case task.Cancelled:
		return fail(exitFailed, "", "task %s was cancelled", e.task)
	}
	hint := fmt.Sprintf("`%s retry %s` runs it again", out.Self(), e.task)
	if e.final {
		hint = fmt.Sprintf("the action says that another attempt would fail, too; `%s get %s --payload` shows what it got", out.Self(), e.task)
	}
	return fail(exitFailed, hint, "task %s failed: %s", e.task, terminal.Cut(faultText(e.code, e.reason), 1000))
}
