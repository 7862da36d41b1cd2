package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/posta-tasks/posta/cli/doctor"
	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/client"
)

// printTasks writes a table of tasks. The first of several has a heading.
func printTasks(w io.Writer, tasks []client.Record, heading bool) error {
	table := tabwriter.NewWriter(w, 10, 0, 2, ' ', 0)
	if heading {
		tableRow(table, fmt.Sprintf("%-26s", "TASK"), "STATUS", "ACTION", "QUEUE", "ATTEMPT", "CREATED", "TOOK", "ERROR")
	}
	for i := range tasks {
		t := &tasks[i]
		tableRow(table, t.Task, string(t.State), t.Action, t.Queue, fmt.Sprint(t.Attempt), t.CreatedAt.Local().Format(terminal.Time),
			took(t), faultText(t.Code, t.Error))
	}
	return table.Flush()
}

// printQueues writes a table of queues.
func printQueues(w io.Writer, queues []client.Queue) error {
	table := tabwriter.NewWriter(w, 9, 0, 2, ' ', 0)
	tableRow(table, "QUEUE", "SCHEDULED", "QUEUED", "RUNNING", "FAILED", "OLDEST", "IN/S", "OUT/S", "")
	for i := range queues {
		q := &queues[i]
		tableRow(table, q.Queue, terminal.Thousands(q.Scheduled), terminal.Thousands(q.Queued), terminal.Thousands(q.Running),
			terminal.Thousands(q.Failed), age(q.OldestSeconds), fmt.Sprintf("%.1f", q.RateIn), fmt.Sprintf("%.1f", q.RateOut), queueNotes(q))
	}
	return table.Flush()
}

// queueNotes returns why tasks of a queue are not worked.
func queueNotes(q *client.Queue) string {
	var list []string
	if q.Paused {
		list = append(list, "paused")
	}
	if q.Unserved {
		list = append(list, "no live node can run some of its tasks")
	}
	return strings.Join(list, ", ")
}

// age returns how long the oldest queued task has waited.
func age(seconds float64) string {
	if seconds == 0 {
		return "-"
	}
	return (time.Duration(seconds*10) * (time.Second / 10)).String()
}

// took returns how long the last attempt of a finished task ran.
func took(t *client.Record) string {
	if t.StartedAt.IsZero() || t.FinishedAt.IsZero() {
		return "-"
	}
	return t.FinishedAt.Sub(t.StartedAt).Round(time.Millisecond).String()
}

// printNodes writes a table of nodes.
func printNodes(w io.Writer, nodes []doctor.Node) error {
	table := tabwriter.NewWriter(w, 6, 0, 2, ' ', 0)
	tableRow(table, "NODE", "PID", "SLOTS", "STARTED", "SEEN", "ADDRESS", "QUEUES", "ACTIONS")
	for i := range nodes {
		n := &nodes[i]
		tableRow(table, n.Node, fmt.Sprint(n.PID), fmt.Sprint(n.Slots), n.Started.Local().Format(terminal.Time), n.Seen.Local().Format(terminal.Time),
			cmp.Or(n.Address, "-"), strings.Join(n.Queues, " "), strings.Join(n.Actions, " "))
	}
	return table.Flush()
}

// printLines writes a line of JSON for each row.
func printLines[T any](w io.Writer, rows []T) error {
	encoder := json.NewEncoder(w)
	for i := range rows {
		if err := encoder.Encode(&rows[i]); err != nil {
			return err
		}
	}
	return nil
}

// tableRow writes one row. Its last cell has space for a sentence.
func tableRow(table io.Writer, cells ...string) {
	for i, cell := range cells {
		most := 40
		if i == len(cells)-1 {
			most = 120
		}
		cells[i] = terminal.Cut(cell, most)
	}
	fmt.Fprintln(table, strings.TrimRight(strings.Join(cells, "\t"), "\t "))
}
