package cli

import (
	"context"
	"encoding/json"
	"time"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/client"
)

// listPage is the size of a page; the server sends no larger ones.
const listPage = 200

// listFlags are the flags of posta list.
type listFlags struct {
	filterFlags
	since, until sinceFlag
	limit        int
	json         bool
}

func newList(out *terminal.Outside) *cobra.Command {
	f := &listFlags{}
	cmd := &cobra.Command{
		Use:     "list",
		GroupID: groupLook,
		Short:   "List durable tasks, the newest first",
		Long: `Lists the durable tasks that match all flags, the newest first, with how long the last
attempt took and why it failed. With --json it prints one record a line, without payload
and result.`,
		Example: `  posta list
  posta list --queue mail --status failed --since 1h
  posta list --since 2026-01-31T08:00:00Z --until 2026-01-31T09:00:00Z
  posta list --meta customer=ana --limit 0 --json`,
		Args: arguments(0, 0),
	}
	f.addTo(cmd)
	cmd.Flags().Var(&f.since, "since", "the tasks created at this `time` or later: such as 2026-01-31T08:00:00Z, or 90m for 90 minutes ago")
	cmd.Flags().Var(&f.until, "until", "the tasks created at this `time` or before, in the same format")
	cmd.Flags().IntVarP(&f.limit, "limit", "n", 50, "the largest number of tasks to list; 0 means all")
	cmd.Flags().BoolVar(&f.json, "json", false, "print one JSON object a line")
	to := addTarget(out, cmd)
	completeFrom(cmd, to)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		filter, err := f.filter()
		if err != nil {
			return err
		}
		if f.limit < 0 {
			return misuse("0 is all", "--limit is %d", f.limit)
		}
		c, err := to.Client(1, -1)
		if err != nil {
			return err
		}
		defer c.Close()
		return to.Unserved(f.list(cmd.Context(), out, c, filter))
	}
	return cmd
}

// list prints one page after the other.
func (f *listFlags) list(ctx context.Context, out *terminal.Outside, c *client.Client, filter client.Filter) error {
	now, first := time.Now(), true
	query := client.Query{Filter: filter, Since: f.since.At(now), Until: f.until.At(now)}
	more, err := eachPage(ctx, c, query, f.limit, func(tasks []client.Record) error {
		defer func() { first = false }()
		return f.print(out, tasks, first)
	})
	if more && out.TalksToTerminal() {
		out.Talk("posta: hint: there are more; --limit 0 lists all")
	}
	return err
}

// eachPage reads up to limit tasks, the newest first, page by page; 0 means all. It reports whether there are more.
func eachPage(ctx context.Context, c *client.Client, query client.Query, limit int, each func([]client.Record) error) (more bool, err error) {
	for left := limit; ; {
		query.Limit = listPage
		if limit > 0 {
			query.Limit = min(left, listPage)
		}
		page, err := c.List(ctx, query)
		if err != nil {
			return false, err
		}
		if err := each(page.Tasks); err != nil {
			return false, err
		}
		query.Cursor = page.Cursor
		if left -= len(page.Tasks); page.Cursor == "" {
			return false, nil
		}
		if limit > 0 && left <= 0 {
			return true, nil
		}
	}
}

// print prints one page.
func (f *listFlags) print(out *terminal.Outside, tasks []client.Record, first bool) error {
	if !f.json {
		return printTasks(out.Stdout, tasks, first)
	}
	encoder := json.NewEncoder(out.Results())
	for i := range tasks {
		if err := encoder.Encode(&tasks[i]); err != nil {
			return err
		}
	}
	return nil
}
