package cli

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/task"
)

// auditFlags are the flags of posta audit.
type auditFlags struct {
	who, verb    string
	since, until sinceFlag
	limit        int
	json         bool
}

func newAudit(out *terminal.Outside) *cobra.Command {
	f := &auditFlags{}
	cmd := &cobra.Command{
		Use:     "audit",
		GroupID: groupLook,
		Short:   "List who made which change, the newest first",
		Long: `Lists the changes that clients made: cancelled and retried tasks, paused and resumed
queues, created and revoked keys, and passes that a node made. A change by filter is one
entry with its filter and the number of tasks that it changed. Entries are kept for 90
days, the newest 100,000 of them.
The command needs the grant audit:*.`,
		Example: `  posta audit
  posta audit --who key:mfrggzdfmztw --since 24h
  posta audit --verb cancel --limit 0 --json`,
		Args: arguments(0, 0),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.who, "who", "", "the changes of this `client`, named like the owner of a task, such as key:mfrggzdfmztw")
	flags.StringVar(&f.verb, "verb", "", "the changes of this `kind`: "+fmt.Sprint(task.AuditVerbs()))
	flags.Var(&f.since, "since", "the changes at this `time` or later: such as 2026-01-31T08:00:00Z, or 90m for 90 minutes ago")
	flags.Var(&f.until, "until", "the changes at this `time` or before, in the same format")
	flags.IntVarP(&f.limit, "limit", "n", 50, "the largest number of entries to list; 0 means all")
	flags.BoolVar(&f.json, "json", false, "print one JSON object a line")
	to := addKeyTarget(out, cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if f.limit < 0 {
			return misuse("0 is all", "--limit is %d", f.limit)
		}
		return f.list(cmd, out, to)
	}
	return cmd
}

// list prints one page after the other.
func (f *auditFlags) list(cmd *cobra.Command, out *terminal.Outside, to *keyTarget) error {
	query, now := url.Values{}, time.Now()
	for name, value := range map[string]string{"who": f.who, "verb": f.verb} {
		if value != "" {
			query.Set(name, value)
		}
	}
	for name, at := range map[string]time.Time{"since": f.since.At(now), "until": f.until.At(now)} {
		if !at.IsZero() {
			query.Set(name, at.Format(time.RFC3339Nano))
		}
	}
	for left, first := f.limit, true; first || query.Has("cursor") && (f.limit == 0 || left > 0); first = false {
		size := listPage
		if f.limit > 0 {
			size = min(left, listPage)
		}
		query.Set("limit", strconv.Itoa(size))
		var page struct {
			Entries []task.AuditEntry
			Cursor  string
		}
		if err := to.ask(cmd.Context(), http.MethodGet, "/v1/audit?"+query.Encode(), nil, &page); err != nil {
			return err
		}
		if err := f.print(out, page.Entries, first); err != nil {
			return err
		}
		left -= len(page.Entries)
		if query.Set("cursor", page.Cursor); page.Cursor == "" {
			query.Del("cursor")
		}
	}
	if query.Has("cursor") && out.TalksToTerminal() {
		out.Talk("posta: hint: there are more; --limit 0 lists all")
	}
	return nil
}

// print prints one page.
func (f *auditFlags) print(out *terminal.Outside, entries []task.AuditEntry, first bool) error {
	if f.json {
		return printLines(out.Stdout, entries)
	}
	table := tabwriter.NewWriter(out.Stdout, 6, 0, 2, ' ', 0)
	if first {
		tableRow(table, "AT", "WHO", "VERB", "WHAT", "COUNT", "DETAIL")
	}
	for i := range entries {
		e := &entries[i]
		who := cmp.Or(e.Who, "-")
		if with := cmp.Or(e.Name, e.Key); with != "" {
			who += " (" + with + ")"
		}
		tableRow(table, e.At.Local().Format(terminal.Time), who, string(e.Verb), cmp.Or(e.What, "-"), strconv.FormatInt(e.Count, 10), string(e.Detail))
	}
	return table.Flush()
}
