package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/task"
)

// maxFailures is how many failed tasks posta failures reads at most. It keeps one group for each of them in memory
// if no two have the same cause.
const maxFailures = 100_000

// failuresFlags are the flags of posta failures.
type failuresFlags struct {
	queue, action string
	since         sinceFlag
	limit         int
	json          bool
}

func newFailures(out *terminal.Outside) *cobra.Command {
	f := &failuresFlags{}
	cmd := &cobra.Command{
		Use:     "failures",
		GroupID: groupLook,
		Short:   "Group the failed durable tasks by what is wrong",
		Long: `Reads the newest failed tasks and groups them by fault, the most frequent first: the
action, the code, and the error without numbers, ids and quoted texts. Each group has its
count, when its first and its last task failed, and the newest task as a sample with its
error. The last line, on stderr, says how many tasks were read and how old they are.`,
		Example: `  posta failures
  posta failures --queue mail --since 24h
  posta failures --action send --limit 100000 --json`,
		Args: arguments(0, 0),
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.queue, "queue", "q", "", "the tasks of this queue")
	flags.StringVar(&f.action, "action", "", "the tasks with this action")
	flags.Var(&f.since, "since", "the tasks created at this `time` or later: such as 2026-01-31T08:00:00Z, or 90m for 90 minutes ago")
	flags.IntVarP(&f.limit, "limit", "n", 10_000, "the largest number of failed tasks to read, at most 100000")
	flags.BoolVar(&f.json, "json", false, "print one JSON object a line")
	to := addTarget(out, cmd)
	completeFrom(cmd, to)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if f.limit < 1 || f.limit > maxFailures {
			return misuse("1 to 100000 are allowed", "--limit is %d", f.limit)
		}
		c, err := to.Client(1, -1)
		if err != nil {
			return err
		}
		defer c.Close()
		return to.Unserved(f.group(cmd.Context(), out, c))
	}
	return cmd
}

// group reads the tasks and prints their groups.
func (f *failuresFlags) group(ctx context.Context, out *terminal.Outside, c *client.Client) error {
	var groups faults
	query := client.Query{Filter: client.Filter{Queue: f.queue, Action: f.action, State: task.Failed}, Since: f.since.At(time.Now())}
	more, err := eachPage(ctx, c, query, f.limit, groups.add)
	if err != nil {
		return err
	}
	list := groups.sorted()
	if f.json {
		err = printLines(out.Results(), list)
	} else {
		err = printFaults(out.Stdout, list)
	}
	if err == nil {
		out.Talk("posta: %s", groups.looked(more))
	}
	return err
}

// fault is a group of failed tasks with the same cause.
type fault struct {
	Fault  string    `json:"fault"`
	Count  int       `json:"count"`
	Action string    `json:"action"`
	Code   task.Code `json:"code,omitempty"`
	First  time.Time `json:"first_at"`
	Last   time.Time `json:"last_at"`
	Sample string    `json:"sample"` // the task that failed last
	Error  string    `json:"error"`  // of the sample
}

// faults groups failed tasks. The zero value is empty.
type faults struct {
	byName map[string]*fault
	read   int
	oldest time.Time // when the oldest of the tasks was created
}

// add adds a page of failed tasks.
func (f *faults) add(tasks []client.Record) error {
	if f.byName == nil {
		f.byName = map[string]*fault{}
	}
	for i := range tasks {
		t := &tasks[i]
		if f.read++; f.oldest.IsZero() || t.CreatedAt.Before(f.oldest) {
			f.oldest = t.CreatedAt
		}
		at, name := t.FinishedAt, task.Fault(t.Action, t.Code, t.Error)
		g := f.byName[name]
		if g == nil {
			g = &fault{Fault: name, Action: t.Action, Code: t.Code, First: at}
			f.byName[name] = g
		}
		if g.Count++; at.Before(g.First) {
			g.First = at
		}
		if g.Sample == "" || at.After(g.Last) {
			g.Last, g.Sample, g.Error = at, t.Task, t.Error
		}
	}
	return nil
}

// sorted returns the groups, the largest first, and of equal ones the latest first.
func (f *faults) sorted() []fault {
	list := make([]fault, 0, len(f.byName))
	for _, g := range f.byName {
		list = append(list, *g)
	}
	slices.SortFunc(list, func(a, b fault) int {
		return cmp.Or(b.Count-a.Count, b.Last.Compare(a.Last), cmp.Compare(a.Fault, b.Fault))
	})
	return list
}

// looked returns which tasks were read.
func (f *faults) looked(more bool) string {
	if f.read == 0 {
		return "no failed task matches"
	}
	rest := "there are no older ones"
	if more {
		rest = "there are older ones, which a larger --limit reads"
	}
	return fmt.Sprintf("read %s, created since %s; %s", count(f.read, "failed task"), f.oldest.Local().Format(terminal.Time), rest)
}

// printFaults writes a table of groups.
func printFaults(w io.Writer, list []fault) error {
	table := tabwriter.NewWriter(w, 6, 0, 2, ' ', 0)
	tableRow(table, "COUNT", "FAULT", "ACTION", "CODE", "FIRST", "LAST", "SAMPLE", "ERROR")
	for i := range list {
		g := &list[i]
		tableRow(table, terminal.Thousands(int64(g.Count)), g.Fault, g.Action, string(g.Code), g.First.Local().Format(terminal.Time),
			g.Last.Local().Format(terminal.Time), g.Sample, g.Error)
	}
	return table.Flush()
}
