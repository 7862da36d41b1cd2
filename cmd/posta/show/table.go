package show

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/cmd/posta/terminal"
)

// Tasks writes a table of tasks; the heading stands above the first of several.
func Tasks(w io.Writer, tasks []client.Record, heading bool) error {
	table := tabwriter.NewWriter(w, 10, 0, 2, ' ', 0)
	if heading {
		row(table, fmt.Sprintf("%-26s", "TASK"), "STATUS", "ACTION", "QUEUE", "ATTEMPT", "CREATED")
	}
	for i := range tasks {
		t := &tasks[i]
		row(table, t.Task, string(t.State), t.Action, t.Queue, fmt.Sprint(t.Attempt), t.CreatedAt.Local().Format(dated))
	}
	return table.Flush()
}

// Queues writes a table of queues.
func Queues(w io.Writer, queues []client.Queue) error {
	table := tabwriter.NewWriter(w, 9, 0, 2, ' ', 0)
	row(table, "QUEUE", "SCHEDULED", "QUEUED", "RUNNING", "FAILED", "OLDEST", "IN/S", "OUT/S", "")
	for i := range queues {
		q := &queues[i]
		row(table, q.Queue, terminal.Thousands(q.Scheduled), terminal.Thousands(q.Queued), terminal.Thousands(q.Running),
			terminal.Thousands(q.Failed), age(q.OldestSeconds), fmt.Sprintf("%.1f", q.RateIn), fmt.Sprintf("%.1f", q.RateOut), notes(q))
	}
	return table.Flush()
}

// notes says what keeps a queue's tasks from being worked.
func notes(q *client.Queue) string {
	var list []string
	if q.Paused {
		list = append(list, "paused")
	}
	if q.Unserved {
		list = append(list, "no node works it, or has the action of one of its tasks")
	}
	return strings.Join(list, ", ")
}

// age says how long the oldest queued task has waited.
func age(seconds float64) string {
	if seconds == 0 {
		return "-"
	}
	return (time.Duration(seconds*10) * (time.Second / 10)).String()
}

// row writes one row.
func row(table io.Writer, cells ...string) {
	for i, cell := range cells {
		cells[i] = terminal.Cut(cell, 40)
	}
	fmt.Fprintln(table, strings.TrimRight(strings.Join(cells, "\t"), "\t "))
}
