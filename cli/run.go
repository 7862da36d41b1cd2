package cli

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/task"
)

// runFlags are the flags of posta run.
type runFlags struct {
	file        string
	timeout     time.Duration
	connections int
	json        bool
	raw         bool
}

func newRun(out *terminal.Outside) *cobra.Command {
	f := &runFlags{}
	cmd := &cobra.Command{
		Use:     "run ACTION [PAYLOAD] | -f FILE [flags]",
		GroupID: groupSend,
		Short:   "Run a task now and print its result, or a file of tasks",
		Long: `Runs one task and prints its result, the object with "ok". With --raw it prints only the
data, with --json the whole reply. The exit code is 1 if the task failed or was refused.

` + payloadHelp + `

With -f it sends a file of tasks, one on each line in the format of the line protocol,
over several connections, many at a time. It prints the reply lines as they arrive; match
them by id. A task without an id gets the number of its line. Memory use does not depend
on the length of the file, and a node may restart meanwhile. Lines that cannot be sent and
tasks that failed are reported on stderr with the number of their line. The exit code is
0 if every task succeeded.`,
		Example: `  posta run upper hola
  posta run fib 1000 --raw
  posta run echo '{"to":"ana","cc":[1,2]}'
  posta run echo @letter.json
  posta run sleep 30 --timeout 2s
  posta run -f tasks.jsonl > replies.jsonl
  seq 1000 | sed 's/.*/{"id":&,"action":"fib","payload":&}/' | posta run -f -`,
		Args: func(cmd *cobra.Command, args []string) error {
			if f.file != "" && len(args) > 0 {
				return misuse("the lines of FILE name their actions; leave out ACTION, or -f", "-f and ACTION exclude each other")
			}
			if f.file != "" {
				return arguments(0, 0)(cmd, args)
			}
			return arguments(1, 2)(cmd, args)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.file, "file", "f", "", "send the tasks in `FILE`, one a line; - is stdin")
	flags.Var((*secondsFlag)(&f.timeout), "timeout", "the longest `time` that a task may take; 0 means the default of the node")
	flags.IntVarP(&f.connections, "connections", "c", 4, "`number` of connections for -f")
	flags.BoolVarP(&f.raw, "raw", "r", false, "print only the data, a string without its quotes")
	flags.BoolVar(&f.json, "json", false, "print the whole reply, even if it is a refusal")
	cmd.SetFlagErrorFunc(dashedPayload)
	to := addTarget(out, cmd)
	cmd.ValidArgsFunction = asking(to, 0, actionsOf)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := f.check(); err != nil {
			return err
		}
		if f.file != "" {
			return streamFile(cmd.Context(), streamConfig{Out: out, To: to, File: f.file, Connections: f.connections,
				Defaults: client.EnqueueOptions{Timeout: f.timeout}})
		}
		return runOne(cmd.Context(), out, to, f, args)
	}
	return cmd
}

// check refuses flags that contradict each other.
func (f *runFlags) check() error {
	switch {
	case f.timeout < 0 || f.timeout > task.MaxTaskTimeout:
		return misuse(fmt.Sprintf("more than 0 and at most %s are allowed", terminal.Span(task.MaxTaskTimeout)), "--timeout is %s", terminal.Span(f.timeout))
	case f.raw && f.json:
		return misuse("--raw prints less than the result, --json more", "--raw and --json exclude each other")
	case f.file != "" && (f.raw || f.json):
		return misuse("-f prints the whole reply lines", "--raw and --json are not for -f")
	}
	return nil
}

// printData prints the members of a result besides ok: a string as text, anything else as JSON.
func printData(out *terminal.Outside, result json.RawMessage) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(result, &members); err != nil {
		return err
	}
	delete(members, "ok")
	delete(members, "error")
	if len(members) == 0 {
		return nil
	}
	if len(members) > 1 {
		_, err := fmt.Fprintf(out.Results(), "%s\n", result)
		return err
	}
	for _, value := range members {
		text := ""
		if json.Unmarshal(value, &text) != nil {
			text = string(value)
		}
		if _, err := fmt.Fprintln(out.Results(), text); err != nil {
			return err
		}
	}
	return nil
}
