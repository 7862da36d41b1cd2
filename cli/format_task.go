package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/task"
)

// maxText is how many characters of a text from a client are shown in one line.
const maxText = 2000

// taskText returns everything about a task, one line each.
func taskText(r *client.Record, paint terminal.Painter) string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s  %s\n", paint.Bold(terminal.Printable(r.Task)), stateText(r.State, paint))
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&text, "  %-9s %s\n", name, terminal.Cut(fmt.Sprintf(format, args...), maxText))
	}
	line("action", "%s", r.Action)
	line("queue", "%s, priority %s", r.Queue, r.Priority)
	if r.Attempt > 0 {
		line("attempt", "%d%s", r.Attempt, onNode(r.Node, r.Worker))
	}
	if r.MaxAttempts > 0 { // a server of an earlier release does not send it
		line("limits", "%s, %s each", count(r.MaxAttempts, "attempt"), time.Duration(r.TimeoutSeconds*float64(time.Second)))
	}
	if r.Generation > 0 {
		line("retried", "%s by hand", times(r.Generation))
	}
	line("created", "%s", r.CreatedAt.Local().Format(terminal.Time))
	if r.State == task.Scheduled {
		line("starts", "%s", r.RunAt.Local().Format(terminal.Time))
	}
	if !r.StartedAt.IsZero() {
		line("started", "%s", r.StartedAt.Local().Format(terminal.Time))
	}
	if !r.FinishedAt.IsZero() {
		line("finished", "%s%s", r.FinishedAt.Local().Format(terminal.Time), afterTime(r))
	}
	if r.Owner != "" {
		line("owner", "%s", r.Owner)
	}
	if r.Key != "" {
		line("key", "%s", r.Key)
	}
	for _, label := range slices.Sorted(maps.Keys(r.Meta)) {
		line("meta", "%s=%s", label, r.Meta[label])
	}
	if r.Progress != nil && !r.State.Final() {
		line("progress", "%s", progressText(r.Progress))
	}
	if r.Cancelling {
		line("asked", "to stop")
	}
	writeOutcome(r, line)
	return text.String()
}

// writeOutcome writes how the task ended, and warnings.
func writeOutcome(r *client.Record, line func(name, format string, args ...any)) {
	if r.Payload != nil {
		line("payload", "%s", r.Payload)
	}
	if result := r.Result.String(); result != "" {
		line("result", "%s", result)
	}
	switch {
	case r.Error == "" && r.Code == "":
	case r.State.Final():
		line("error", "%s", faultText(r.Code, r.Error))
	default:
		line("error", "of the latest failed attempt: %s", faultText(r.Code, r.Error))
	}
	if r.Warning != "" {
		line("warning", "%s", r.Warning)
	}
}

// onNode returns " on NODE" for the node that has a task, with the worker that runs it for the node.
func onNode(node, worker string) string {
	switch {
	case node == "":
		return ""
	case worker == "":
		return " on " + node
	}
	return " on " + node + " by worker " + worker
}

// afterTime returns how long the last attempt took.
func afterTime(r *client.Record) string {
	if r.StartedAt.IsZero() {
		return ""
	}
	return ", after " + r.FinishedAt.Sub(r.StartedAt).Round(time.Millisecond).String()
}

// faultText returns why a task failed: its error, or the code without one.
func faultText(code task.Code, message string) string {
	switch {
	case code == "":
		return message
	case message == "":
		return string(code)
	}
	return string(code) + ": " + message
}

// stateText returns a state in its colour.
func stateText(state task.State, paint terminal.Painter) string {
	text := terminal.Printable(string(state))
	switch state {
	case task.Done:
		return paint.Good(text)
	case task.Failed, task.Cancelled:
		return paint.Bad(text)
	}
	return paint.Bold(text)
}

// progressText returns the progress that an action reported.
func progressText(p *client.Progress) string {
	return strings.TrimSpace(fmt.Sprintf("%.0f%% %s", p.Percent, terminal.Cut(p.Message, 200)))
}

// eventText returns the line for an event of watch. Progress has no time of its own.
func eventText(e *client.Event, now time.Time, paint terminal.Painter) string {
	at := e.At
	if at.IsZero() {
		at = now
	}
	text := paint.Faint(at.Local().Format(terminal.Clock+"Z07:00")) + "  " + stateText(e.State, paint) + strings.Repeat(" ", max(0, 9-len(e.State)))
	var parts []string
	if e.Attempt > 0 {
		parts = append(parts, fmt.Sprintf("attempt %d%s", e.Attempt, onNode(terminal.Cut(e.Node, 60), terminal.Cut(e.Worker, 60))))
	}
	if e.Definition != "" {
		parts = append(parts, "definition "+terminal.Cut(e.Definition, 60))
	}
	if e.Progress != nil {
		parts = append(parts, progressText(e.Progress))
	}
	if result := e.Result.String(); result != "" {
		parts = append(parts, terminal.Cut(result, maxText))
	}
	if e.Error != "" || e.Code != "" {
		parts = append(parts, terminal.Cut(faultText(e.Code, e.Error), maxText))
	}
	return strings.TrimRight(text+"  "+strings.Join(parts, "  "), " ")
}
