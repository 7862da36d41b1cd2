package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/cli/terminal"
)

const rootLong = `Posta takes tasks from any client that can write a line of JSON to a socket,
distributes them over nodes behind a balancer, runs them in bounded pools, and
returns the results.`

const rootExample = `  posta up                      # a balancer and three nodes, in this terminal
  posta demo                    # four tasks, in another one
  posta run upper hola          # one task, answered now
  posta enqueue upper hola      # one that survives a crash, run later
  echo '{"id":1,"action":"fib","payload":25}' | nc -N 127.0.0.1 9000`

// The groups of `posta help`.
const (
	groupServe = "serve"
	groupSend  = "send"
	groupLook  = "look"
)

// newRoot returns the tree of verbs. The nodes that they start run the actions of list.
func newRoot(out *terminal.Outside, list ...actions.Action) *cobra.Command {
	root := &cobra.Command{
		Use:           "posta",
		Short:         "Posta takes tasks as lines of JSON and answers them",
		Long:          rootLong,
		Example:       rootExample,
		Args:          noSuchVerb,
		SilenceErrors: true,
		SilenceUsage:  true,

		SuggestionsMinimumDistance: 2, // the number of letters by which a similar verb may differ
		DisableFlagsInUseLine:      true,

		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.AddGroup(
		&cobra.Group{ID: groupServe, Title: "To serve:"},
		&cobra.Group{ID: groupSend, Title: "To send tasks:"},
		&cobra.Group{ID: groupLook, Title: "To look at durable tasks and queues, and act on them:"},
	)
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(
		newUp(out, list), newNode(out, list), newActions(out, list), newBalancer(out), newBackup(out), newCopy(out), newDoctor(out),
		newRun(out), newEnqueue(out), newDemo(out), newBench(out),
		newGet(out), newWait(out), newWatch(out), newCancel(out), newRetry(out),
		newList(out), newFailures(out), newTop(out), newQueues(out), newNodes(out), newWorkers(out), newAudit(out), newPause(out), newResume(out),
		newKey(out), newPass(out),
		newVersion(out), newExitCodes(),
	)
	root.SetHelpCommand(newHelp(root))
	root.InitDefaultCompletionCmd()
	if completion, _, err := root.Find([]string{"completion"}); err == nil {
		completion.Args = noSuchVerb
		completion.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	_ = completeFlags(root) // it fails only if a flag does not exist, or is registered twice
	return root
}

// newHelp returns the verb help. It refuses a verb that does not exist, instead of printing the help of posta.
func newHelp(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [VERB]",
		Short: "Print the help of a verb",
		Example: `  posta help enqueue
  posta help exit-codes`,
		ValidArgsFunction: func(_ *cobra.Command, args []string, typed string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
			of, _, err := root.Find(args)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			for _, verb := range of.Commands() {
				if strings.HasPrefix(verb.Name(), typed) && !verb.Hidden {
					names = append(names, cobra.CompletionWithDesc(verb.Name(), verb.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			of, rest, err := root.Find(args)
			if err != nil {
				return err
			}
			if len(rest) > 0 {
				return noSuchVerb(of, rest)
			}
			of.InitDefaultHelpFlag()
			return of.Help()
		},
	}
}

// noSuchVerb refuses arguments that are not a verb, and suggests similar verbs.
func noSuchVerb(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := "`" + cmd.CommandPath() + " --help` lists the verbs"
	if alike := cmd.SuggestionsFor(args[0]); len(alike) > 0 {
		hint = "did you mean " + strings.Join(alike, " or ") + "? " + hint
	}
	return misuse(hint, "unknown verb %q", args[0])
}

// arguments checks the number of arguments of a verb; most < 0 means any number.
func arguments(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		hint := "usage: " + cmd.UseLine()
		switch {
		case len(args) < least:
			return misuse(hint, "%s needs %s", cmd.CommandPath(), count(least, "argument"))
		case most >= 0 && len(args) > most:
			return misuse(hint, "%s takes %s, not %d: %q is too much", cmd.CommandPath(), count(most, "argument"), len(args), args[most])
		}
		return nil
	}
}

// count returns a number with its noun.
func count(n int, noun string) string {
	switch n {
	case 0:
		return "no " + noun
	case 1:
		return "one " + noun
	}
	return terminal.Thousands(int64(n)) + " " + noun + "s"
}

// times returns how many times something was done.
func times(n int) string {
	if n == 1 {
		return "once"
	}
	return count(n, "time")
}
