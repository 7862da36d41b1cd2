package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// runGrace is how much later than the task's timeout its reply may come.
const runGrace = 5 * time.Second

// runOne runs the task that the command line names.
func runOne(ctx context.Context, out *terminal.Outside, to *target, f *runFlags, args []string) error {
	request := client.Request{Action: args[0], Timeout: f.timeout}
	if len(args) > 1 {
		payload, err := readPayload(out, args[1])
		if err != nil {
			return err
		}
		request.Payload = payload
	}
	c, err := to.Client(1, -1) // who types a command wants to know at once that nobody answers
	if err != nil {
		return err
	}
	defer c.Close()
	if f.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.timeout+runGrace)
		defer cancel()
	}
	result, err := c.Do(ctx, request)
	var refusal *task.Error
	if errors.As(err, &refusal) && refusal.Code == task.UnknownOutcome {
		// It was not accepted durably, so no list shows it.
		err = fail(exitUnreachable, "it may have run; run it again if that does no harm, or use `posta enqueue`, whose tasks no crash loses", "%w", err)
	}
	var failed *client.ActionError
	if err != nil && !errors.As(err, &failed) {
		return printRefusal(out, f, to.Unserved(err))
	}
	if err := printResult(out, f, result); err != nil || failed == nil {
		return err
	}
	return fail(exitFailed, knownActions(ctx, c, failed.Message), "%s", failed.Message)
}

// printRefusal prints why the task has no result, where the whole reply is wanted.
func printRefusal(out *terminal.Outside, f *runFlags, reason error) error {
	var refusal *task.Error
	if f.json && errors.As(reason, &refusal) {
		if _, err := out.Results().Write(wire.AppendError(nil, nil, refusal)); err != nil {
			return err
		}
	}
	return reason
}

// printResult prints a result as the flags want it. What failed has no data, so that
// --raw prints nothing then.
func printResult(out *terminal.Outside, f *runFlags, result client.Result) error {
	switch {
	case f.json:
		_, err := out.Results().Write(wire.AppendDone(nil, nil, result.JSON()))
		return err
	case f.raw:
		return printData(out, result.JSON())
	}
	_, err := fmt.Fprintln(out.Results(), result)
	return err
}

// knownActions names the actions of the node, to help someone who mistyped one.
func knownActions(ctx context.Context, c *client.Client, message string) string {
	if !strings.HasPrefix(message, "unknown action") {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	info, err := c.Info(ctx)
	if err != nil || len(info.Actions) == 0 {
		return ""
	}
	return "the node has " + strings.Join(info.Actions, ", ")
}
