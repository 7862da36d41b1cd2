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

// runGrace is how long after the timeout of the task the command waits for its reply.
const runGrace = 5 * time.Second

// runOne runs the task of the command line.
func runOne(ctx context.Context, out *terminal.Outside, to *target, f *runFlags, args []string) error {
	request := client.Request{Action: args[0], Timeout: f.timeout}
	if len(args) > 1 {
		payload, err := readPayload(out, args[1])
		if err != nil {
			return err
		}
		request.Payload = payload
	}
	c, err := to.Client(1, -1) // a person wants to know at once that no node answers
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
		// It was not accepted durably, so it is in no list.
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

// printRefusal prints why the task has no result, if the user wants the whole reply.
func printRefusal(out *terminal.Outside, f *runFlags, reason error) error {
	var refusal *task.Error
	if f.json && errors.As(reason, &refusal) {
		if _, err := out.Results().Write(wire.AppendError(nil, nil, refusal)); err != nil {
			return err
		}
	}
	return reason
}

// printResult prints a result as the flags request. A failed task has no data, so --raw prints nothing for it.
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

// knownActions returns the names of the actions of the node, since the user may have mistyped one.
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
