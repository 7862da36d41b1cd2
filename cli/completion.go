package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/task"
)

// completionPatience is how long completion waits for a running system.
const completionPatience = 500 * time.Millisecond

// completer returns values for a shell.
type completer = func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective)

// words returns these values, and no files.
func words(list ...string) completer {
	return cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp)
}

// fixedValues has the flags whose values are known in advance.
func fixedValues() map[string][]string {
	var states []string
	for _, s := range task.States() {
		states = append(states, string(s))
	}
	return map[string][]string{
		"status": states, "priority": {"high", "normal", "low"}, "default-op": {"run", "enqueue"},
		"log-level": {"debug", "info", "warn", "error"}, "log-format": {"text", "json", "auto"},
	}
}

// completeFlags registers completion for the flags of all verbs.
func completeFlags(cmd *cobra.Command) error {
	for name, values := range fixedValues() {
		if cmd.Flags().Lookup(name) != nil {
			if err := cmd.RegisterFlagCompletionFunc(name, words(values...)); err != nil {
				return err
			}
		}
	}
	for _, verb := range cmd.Commands() {
		if err := completeFlags(verb); err != nil {
			return err
		}
	}
	return nil
}

// asking returns a completer that asks a running system, and returns nothing if it does not answer at once. behind
// is the index of the argument to complete; -1 means a flag.
func asking(to *target, behind int, ask func(ctx context.Context, c *client.Client) []string) completer {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		const noFiles = cobra.ShellCompDirectiveNoFileComp
		if len(args) != behind && behind >= 0 || cmd.PreRunE(cmd, args) != nil { // PreRunE reads --to, the environment and TLS
			return nil, noFiles
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionPatience)
		defer cancel()
		c, err := to.Client(1, -1)
		if err != nil {
			return nil, noFiles
		}
		defer c.Close()
		return ask(ctx, c), noFiles
	}
}

// actionsOf returns the actions of a node.
func actionsOf(ctx context.Context, c *client.Client) []string {
	info, err := c.Info(ctx)
	if err != nil {
		return nil
	}
	return info.Actions
}

// queuesOf returns the names of the queues.
func queuesOf(ctx context.Context, c *client.Client) []string {
	queues, err := c.Queues(ctx)
	if err != nil {
		return nil
	}
	var names []string
	for i := range queues {
		names = append(names, queues[i].Queue)
	}
	return names
}

// completeFrom registers completion for the flags that name queues and actions.
func completeFrom(cmd *cobra.Command, to *target) {
	for name, ask := range map[string]func(context.Context, *client.Client) []string{"queue": queuesOf, "action": actionsOf} {
		if cmd.Flags().Lookup(name) != nil {
			_ = cmd.RegisterFlagCompletionFunc(name, asking(to, -1, ask)) // it fails only if the flag does not exist, or is registered twice
		}
	}
}
