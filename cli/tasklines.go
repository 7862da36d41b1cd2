package cli

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/executor"
)

// tasksPerSecond is how many tasks a second get a line. People cannot read more, and a line costs more than a task.
const tasksPerSecond = 36

// taskLinesConfig configures taskLines.
type taskLinesConfig struct {
	Out    *terminal.Outside
	Logger *slog.Logger // for lines that are not for people
	Level  slog.Level   // level of these lines; without a reader nothing is collected
	Pretty bool         // format the lines for people
	Names  []string     // names of the nodes
}

// taskLines shows the tasks of some nodes: one line each while there are few, and one line a second while there are
// many.
type taskLines struct {
	taskLinesConfig
	paint terminal.Painter
	width int // length of the longest name

	mu     sync.Mutex // guards Names and the fields below
	nodes  []nodeTasks
	shown  int         // lines of single tasks so far in this second
	busy   bool        // there were too many tasks in the second before
	second *time.Timer // ends this second; nil while nothing happens
}

// nodeTasks counts the tasks of a node in this second that have no line of their own.
type nodeTasks struct {
	hidden, hiddenFailed int64 // tasks that were observed but not shown
	summed, summedFailed int64 // all tasks of a summary of the executor
}

// newTaskLines returns the lines of the named nodes. Close prints the last ones.
func newTaskLines(config taskLinesConfig) *taskLines {
	t := &taskLines{taskLinesConfig: config, paint: terminal.Painter(config.Out.Colours()), nodes: make([]nodeTasks, len(config.Names))}
	for _, name := range config.Names {
		t.width = max(t.width, len([]rune(terminal.Printable(name))))
	}
	return t
}

// Rename sets the name of a node that was not known at first.
func (t *taskLines) Rename(node int, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Names[node] = name
}

// wanted reports whether anybody reads the lines.
func (t *taskLines) wanted() bool { return t.Logger.Enabled(context.Background(), t.Level) }

// Observer returns the function that gets the tasks of a node; nil if nobody reads the lines.
func (t *taskLines) Observer(node int) func(executor.Event) {
	if !t.wanted() {
		return nil
	}
	return func(e executor.Event) { t.observe(node, e) }
}

// Summarizer returns the function that gets the summaries of a node.
func (t *taskLines) Summarizer(node int) func(executor.Summary) {
	if !t.wanted() {
		return nil
	}
	return func(s executor.Summary) { t.summarize(node, s) }
}

func (t *taskLines) observe(node int, e executor.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.begin()
	if t.busy || t.shown >= tasksPerSecond {
		t.nodes[node].hidden++
		if e.Outcome != executor.Done {
			t.nodes[node].hiddenFailed++
		}
		return
	}
	t.shown++
	if t.Pretty {
		t.Out.Show(t.taskLine(time.Now(), t.Names[node], e))
		return
	}
	t.Logger.LogAttrs(context.Background(), t.Level, "task", slog.String("node", t.Names[node]),
		slog.String("id", e.ID), slog.String("action", e.Action),
		slog.Float64("ms", float64(e.Duration.Microseconds())/1e3), slog.String("outcome", e.Outcome.String()))
}

func (t *taskLines) summarize(node int, s executor.Summary) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.begin()
	n := &t.nodes[node]
	n.summed += s.Tasks
	n.summedFailed += s.Failed
}

// begin starts a second if none is running. The caller holds mu.
func (t *taskLines) begin() {
	if t.second == nil {
		t.second = time.AfterFunc(time.Second, t.end)
	}
}

// end prints the summary of the second.
func (t *taskLines) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	total := t.sumUp()
	t.busy = total+int64(t.shown) > tasksPerSecond
	t.shown = 0
	clear(t.nodes)
	t.second = nil
	if t.busy {
		t.begin() // the next second may be quiet, which ends the busy ones
	}
}

// Close prints what was not printed yet.
func (t *taskLines) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.second != nil {
		t.second.Stop()
		t.sumUp()
		clear(t.nodes)
	}
}

// sumUp prints one line for the tasks without a line of their own, if there are any, and returns their number. A
// summary of the executor includes tasks that were observed. The caller holds mu.
func (t *taskLines) sumUp() int64 {
	var total, failed int64
	parts := make([]string, 0, len(t.nodes))
	attrs := make([]any, 0, len(t.nodes))
	for i, n := range t.nodes {
		count := max(n.hidden, n.summed)
		total, failed = total+count, failed+max(n.hiddenFailed, n.summedFailed)
		parts = append(parts, t.paint.Node(i, terminal.Printable(t.Names[i]))+" "+terminal.Thousands(count))
		attrs = append(attrs, slog.Int64(t.Names[i], count))
	}
	switch {
	case total == 0:
	case t.Pretty:
		line := t.paint.Faint(time.Now().Format(terminal.Clock)) + "  " + t.paint.Bold(terminal.Thousands(total)+" tasks in a second")
		if failed > 0 {
			line += ", " + t.paint.Bad(terminal.Thousands(failed)+" failed")
		}
		if len(parts) > 1 {
			line += "  " + strings.Join(parts, "  ")
		}
		t.Out.Show(line)
	default:
		t.Logger.LogAttrs(context.Background(), t.Level, "tasks", slog.Int64("tasks", total),
			slog.Int64("failed", failed), slog.Group("nodes", attrs...))
	}
	return total
}

// taskLine returns the line of a task for people. The columns are aligned. The text of the client comes last, since
// it may be long.
func (t *taskLines) taskLine(now time.Time, node string, e executor.Event) string {
	index := 0
	for i, name := range t.Names {
		if name == node {
			index = i
		}
	}
	outcome := fmt.Sprintf("%-9s", e.Outcome)
	if e.Outcome == executor.Done {
		outcome = t.paint.Good("✓ " + outcome)
	} else {
		outcome = t.paint.Bad("✗ " + outcome)
	}
	id := e.ID
	if id == "" {
		id = "null"
	}
	return fmt.Sprintf("%s  %s  %s  %-10s  %12s  id %s", t.paint.Faint(now.Format(terminal.Clock)),
		t.paint.Node(index, pad(terminal.Printable(node), t.width)), outcome, terminal.Cut(e.Action, 24), terminal.Milliseconds(e.Duration), terminal.Cut(id, 40))
}

// pad appends spaces up to a width.
func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-len([]rune(text))))
}
