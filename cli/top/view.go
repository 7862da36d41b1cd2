package top

import (
	"fmt"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/task"
)

// keys is the last line of the screen.
const keys = "tab queues/tasks  ↑↓ select  p pause/resume  c cancel  r retry  ? help  q quit"

// helpText is the screen behind "?".
const helpText = `
  tab        go from the queues to the tasks, and back
  ↑ ↓  k j   select a row; page up, page down, home and end, too
  p          pause the selected queue, or resume it
  c          cancel the selected task
  r          retry the selected task
  ?          this page
  q          quit

  SLOTS of nodes counts durable tasks only, of which the newest 200 running ones
  are read. OLDEST is how long the oldest queued task has waited. TREND is OUT/S
  of the last polls. TIME is how long a task runs, ran, waits or will wait.

  Press any key to go back.
`

// wideScreen is from how many columns on all columns of the tables are shown.
const wideScreen = 100

// View implements tea.Model.
func (m *Model) View() tea.View {
	v := tea.NewView(strings.Join(m.screen(), "\n"))
	v.AltScreen = true
	return v
}

// screen returns the lines of the screen, as many as it has.
func (m *Model) screen() []string {
	lines := []string{m.head()}
	last := []string{m.status(), m.Paint.Faint(terminal.Fit(keys, m.width))}
	body := max(0, m.height-len(lines)-len(last))
	switch {
	case m.help:
		for line := range strings.Lines(helpText) {
			lines = append(lines, terminal.Fit(strings.TrimRight(line, "\n"), m.width))
		}
	case m.now != nil:
		for _, s := range share(m.sections(true), body) {
			lines = append(lines, s.lines(m.width, m.Paint)...)
		}
	}
	if len(lines) > 1+body {
		lines = lines[:1+body]
	}
	for len(lines) < 1+body {
		lines = append(lines, "")
	}
	lines = append(lines, last...)
	return lines[:min(len(lines), max(m.height, 1))]
}

// head returns the first line.
func (m *Model) head() string {
	text := "posta  " + terminal.Printable(m.Addr)
	if m.now != nil {
		text += "  " + m.now.At.Local().Format("15:04:05")
		var queued, running int64
		for i := range m.now.Queues {
			queued, running = queued+m.now.Queues[i].Queued, running+m.now.Queues[i].Running
		}
		text += fmt.Sprintf("  %s queued  %s running", terminal.Thousands(queued), terminal.Thousands(running))
	}
	return m.Paint.Bold(terminal.Fit(text, m.width))
}

// status returns the line for questions, outcomes and faults.
func (m *Model) status() string {
	fit := func(text string) string { return terminal.Fit(terminal.Line(text), m.width) }
	switch {
	case m.question != nil:
		return m.Paint.Bold(terminal.Fit(terminal.Line(m.question.text), max(1, m.width-12)) + "? y yes, n no")
	case m.away != "":
		return m.Paint.Bad(fit("away, trying again: " + m.away))
	case m.did != "":
		return m.Paint.Bold(fit(m.did))
	case m.now == nil:
		return fit("connecting")
	case len(m.now.Notes) > 0:
		return fit(strings.Join(m.now.Notes, "; "))
	}
	return ""
}

// Text returns everything as plain text, without limits on its length.
func Text(s *Snapshot, width int, paint terminal.Painter) string {
	m := &Model{Config: Config{Paint: paint}, now: s, width: width}
	var text strings.Builder
	for i, section := range m.sections(false) {
		if i > 0 {
			text.WriteByte('\n')
		}
		section.rows, section.margin = len(section.cells), ""
		for _, line := range section.lines(width, paint) {
			text.WriteString(line + "\n")
		}
	}
	return text.String()
}

// sections returns the tables, from top to bottom. Without screen nothing is selected, and there are no trends.
func (m *Model) sections(screen bool) []*section {
	now := m.now.At
	list := []*section{nodeSection(m.now, now)}
	if len(m.now.Workers) > 0 {
		list = append(list, workerSection(m.now, now))
	}
	queues, tasks := m.queueSection(screen), taskSection(m.now, now)
	if screen {
		queues.selected, queues.focused = m.queueAt(), m.pane == queuePane
		tasks.selected, tasks.focused = m.taskAt(), m.pane == taskPane
	}
	return append(list, queues, tasks)
}

func nodeSection(s *Snapshot, now time.Time) *section {
	t := newSection("NODES", column{least: 12, most: 30}, column{title: "SLOTS", least: 16}, column{title: "UP", least: 4},
		column{title: "SEEN", least: 4, wide: true}, column{title: "QUEUES", least: 8, most: 24, wide: true}, column{title: "ACTIONS", least: 4, last: true})
	held := s.held()
	for i := range s.Nodes {
		n := &s.Nodes[i]
		note := strings.Join(n.Actions, " ")
		if n.Stuck > 0 {
			note = fmt.Sprintf("%d stuck  %s", n.Stuck, note)
		}
		t.add("", n.Node, slots(held[n.Node], n.Slots), age(now.Sub(n.Started)), age(now.Sub(n.Seen)), strings.Join(n.Queues, " "), note)
	}
	return t
}

func workerSection(s *Snapshot, now time.Time) *section {
	t := newSection("WORKERS", column{least: 12, most: 30}, column{title: "SLOTS", least: 16}, column{title: "UP", least: 4},
		column{title: "STATE", least: 5}, column{title: "NODE", least: 8, most: 20}, column{title: "VERSION", least: 8, most: 12, wide: true},
		column{title: "ACTIONS", least: 4, last: true})
	for i := range s.Workers {
		w := &s.Workers[i]
		state, mood := "ready", ""
		switch {
		case w.Stuck:
			state, mood = "stuck", moodBad
		case w.Quiet:
			state = "quiet"
		}
		t.add(mood, w.Worker, slots(w.Held, w.Slots), age(now.Sub(w.Since)), state, w.Node, w.Version, strings.Join(w.Actions, " "))
	}
	return t
}

func (m *Model) queueSection(screen bool) *section {
	trend := column{title: "TREND", least: 9}
	if !screen {
		trend.title, trend.least = "", 0
	}
	t := newSection("QUEUES", column{least: 13, most: 40}, column{title: "QUEUED", least: 6, right: true}, column{title: "RUN", least: 5, right: true},
		column{title: "SCHED", least: 5, right: true}, column{title: "FAILED", least: 6, right: true}, column{title: "OLDEST", least: 6, right: true},
		column{title: "IN/S", least: 5, right: true}, column{title: "OUT/S", least: 5, right: true}, trend, column{title: "", least: 6, last: true})
	for i := range m.now.Queues {
		q := &m.now.Queues[i]
		note, mood := "", ""
		if q.Unserved {
			note, mood = "no node for some", moodBad
		}
		if q.Paused {
			note, mood = strings.TrimSuffix("paused, "+note, ", "), moodBad
		}
		oldest := "-"
		if q.OldestSeconds > 0 {
			oldest = age(time.Duration(q.OldestSeconds * float64(time.Second)))
		}
		t.add(mood, q.Queue, short(float64(q.Queued)), short(float64(q.Running)), short(float64(q.Scheduled)), short(float64(q.Failed)), oldest,
			rate(q.RateIn), rate(q.RateOut), sparkline(m.trends[q.Queue], trend.least), note)
	}
	return t
}

func taskSection(s *Snapshot, now time.Time) *section {
	t := newSection("TASKS", column{least: 26}, column{title: "STATE", least: 9}, column{title: "ACTION", least: 10, most: 24},
		column{title: "QUEUE", least: 8, most: 20}, column{title: "TIME", least: 6, right: true}, column{title: "TRY", least: 3, right: true, wide: true},
		column{title: "NODE", least: 8, most: 24, wide: true}, column{title: "", least: 6, last: true})
	for _, r := range s.tasks() {
		mood := ""
		switch r.State {
		case task.Failed:
			mood = moodBad
		case task.Running:
			mood = moodGood
		case task.Scheduled, task.Queued, task.Done, task.Cancelled:
		}
		on := r.Node
		if r.Worker != "" {
			on = r.Worker
		}
		t.add(mood, r.Task, string(r.State), r.Action, r.Queue, taskTime(r, now), fmt.Sprint(r.Attempt), on, taskNote(r))
	}
	return t
}

// taskTime returns how long a task has run, ran last, has waited, or waits still.
func taskTime(r *client.Record, now time.Time) string {
	switch {
	case r.State == task.Running:
		return age(now.Sub(r.StartedAt))
	case r.State == task.Queued:
		return age(now.Sub(r.CreatedAt))
	case r.State == task.Scheduled:
		return "in " + age(r.RunAt.Sub(now))
	case r.StartedAt.IsZero() || r.FinishedAt.IsZero():
		return "-"
	}
	if took := r.FinishedAt.Sub(r.StartedAt); took < 10*time.Second {
		return fmt.Sprintf("%.2fs", max(0, took.Seconds()))
	}
	return age(r.FinishedAt.Sub(r.StartedAt))
}

// taskNote returns the progress or the error of a task.
func taskNote(r *client.Record) string {
	switch {
	case r.Cancelling:
		return "asked to stop"
	case r.State == task.Running && r.Progress != nil:
		return strings.TrimSpace(fmt.Sprintf("%.0f%% %s", r.Progress.Percent, r.Progress.Message))
	case r.State == task.Running, r.State == task.Done:
		return ""
	case r.Error != "":
		return r.Error
	case r.Code != "":
		return string(r.Code)
	}
	return r.Warning
}
