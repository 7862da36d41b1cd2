package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/task"
)

// filterFlags are the flags that select tasks.
type filterFlags struct {
	queue, action, status, owner string
	meta                         labelsFlag
}

func (f *filterFlags) addTo(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&f.queue, "queue", "q", "", "the tasks of this queue")
	flags.StringVar(&f.action, "action", "", "the tasks with this action")
	flags.StringVar(&f.status, "status", "", "the tasks with this status: scheduled, queued, running, done, failed or cancelled")
	flags.StringVar(&f.owner, "owner", "", "the tasks that this `owner` has enqueued, as posta get shows it")
	flags.Var(&f.meta, "meta", "the tasks with this label, `NAME=VALUE`; may be repeated")
}

// filter checks the flags.
func (f *filterFlags) filter() (client.Filter, error) {
	if f.status != "" && !slices.Contains(task.States(), task.State(f.status)) {
		return client.Filter{}, misuse("allowed are "+anyOf(task.States()), "--status is %q", f.status)
	}
	return client.Filter{Queue: f.queue, Action: f.action, State: task.State(f.status), Owner: f.owner, Meta: f.meta}, nil
}

// anyOf joins states for people: a, b or c.
func anyOf(states []task.State) string {
	var names []string
	for _, state := range states {
		names = append(names, string(state))
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

func (f *filterFlags) empty() bool {
	return f.queue == "" && f.action == "" && f.status == "" && f.owner == "" && len(f.meta) == 0
}

// change is a verb that changes one task, or the tasks that a filter selects.
type change struct {
	filterFlags
	limit int
	json  bool
	done  string       // how messages call changed tasks
	from  []task.State // the states that it can change
	one   func(ctx context.Context, c *client.Client, id string) (answer changed, err error)
	many  func(c *client.Client) func(context.Context, client.Filter, int) (client.Bulk, error)
}

// changed is the result for one task.
type changed struct {
	Task       string `json:"task"`
	Status     string `json:"status"`
	Generation int    `json:"generation,omitempty"`
	note       string
}

// verb returns the command.
func (v *change) verb(out *terminal.Outside, cmd *cobra.Command) *cobra.Command {
	cmd.GroupID, cmd.Args = groupLook, arguments(0, 1)
	v.addTo(cmd)
	cmd.Flags().IntVar(&v.limit, "limit", 1000, "the largest number of tasks that a filter changes, at most 10000")
	cmd.Flags().BoolVar(&v.json, "json", false, "print one JSON object")
	to := addTarget(out, cmd)
	completeFrom(cmd, to)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		filter, err := v.check(cmd, args)
		if err != nil {
			return err
		}
		c, err := to.Client(1, -1)
		if err != nil {
			return err
		}
		defer c.Close()
		if len(args) > 0 {
			err = v.changeOne(cmd.Context(), out, c, args[0])
		} else {
			err = v.changeMany(cmd.Context(), out, c, filter)
		}
		return to.Unserved(err)
	}
	return cmd
}

// check requires either a task or a filter.
func (v *change) check(cmd *cobra.Command, args []string) (client.Filter, error) {
	switch {
	case len(args) == 0 && v.empty():
		return client.Filter{}, misuse("name a TASK, or say which ones with --queue, --action, --status or --meta", "%s needs to know which task", cmd.CommandPath())
	case len(args) > 0 && !v.empty():
		return client.Filter{}, misuse("leave out the TASK, or the flags", "a TASK and a filter exclude each other")
	case v.limit < 1 || v.limit > 10_000:
		return client.Filter{}, misuse("1 to 10000 are allowed", "--limit is %d", v.limit)
	case slices.Contains(task.States(), task.State(v.status)) && !slices.Contains(v.from, task.State(v.status)):
		return client.Filter{}, misuse("allowed are "+anyOf(v.from), "--status is %q, and %s changes no such tasks", v.status, cmd.CommandPath())
	}
	return v.filter()
}

func (v *change) changeOne(ctx context.Context, out *terminal.Outside, c *client.Client, id string) error {
	answer, err := v.one(ctx, c, id)
	if err != nil {
		return err
	}
	if v.json {
		return json.NewEncoder(out.Results()).Encode(answer)
	}
	_, err = fmt.Fprintf(out.Stdout, "%s\n", terminal.Line(answer.Task+" "+answer.Status+answer.note))
	return err
}

func (v *change) changeMany(ctx context.Context, out *terminal.Outside, c *client.Client, filter client.Filter) error {
	bulk, err := v.many(c)(ctx, filter, v.limit)
	if err != nil {
		return err
	}
	if bulk.More {
		out.Talk("posta: hint: there are more; the same command goes on with them")
	}
	if v.json {
		return json.NewEncoder(out.Results()).Encode(bulk)
	}
	text := fmt.Sprintf("%s %s", countOf(bulk.Changed, bulk.Matched), v.done)
	if bulk.Cancelling > 0 {
		text += fmt.Sprintf(", %s that run were asked to stop", terminal.Thousands(int64(bulk.Cancelling)))
	}
	_, err = fmt.Fprintln(out.Stdout, text)
	return err
}

// countOf returns how many of the matching tasks were changed, as a sentence.
func countOf(changed, matched int) string {
	if changed == matched {
		return count(matched, "task")
	}
	return fmt.Sprintf("%s of %s", terminal.Thousands(int64(changed)), count(matched, "task"))
}
