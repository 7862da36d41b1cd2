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

// tasksPerSecond is how many tasks a second are shown one by one: more than that
// nobody can read, and a line costs more than a task does.
const tasksPerSecond = 36

// taskLinesConfig says whose tasks are shown, and how.
type taskLinesConfig struct {
	Out    *terminal.Outside
	Logger *slog.Logger // where they go when they are not for people
	Level  slog.Level   // of those lines; a logger that does not want it is told nothing
	Pretty bool         // for people
	Names  []string     // of the nodes
}

// taskLines shows the tasks of some nodes: a line each as long as there are few of
// them, and one line a second while there are many.
type taskLines struct {
	taskLinesConfig
	paint terminal.Painter
	width int // of the longest name

	mu     sync.Mutex // guards Names and what follows
	nodes  []nodeTasks
	shown  int         // lines of single tasks in this second
	busy   bool        // the second before had too many
	second *time.Timer // ends this second; nil when nothing happens
}

// nodeTasks is what happened on a node in this second without a line of its own.
type nodeTasks struct {
	hidden, hiddenFailed int64 // tasks that were told of, and not shown
	summed, summedFailed int64 // all tasks, where the executor summed them up
}

// newTaskLines makes the lines of so many nodes as have names. Close shows the last of them.
func newTaskLines(config taskLinesConfig) *taskLines {
	t := &taskLines{taskLinesConfig: config, paint: terminal.Painter(config.Out.Colours()), nodes: make([]nodeTasks, len(config.Names))}
	for _, name := range config.Names {
		t.width = max(t.width, len([]rune(terminal.Printable(name))))
	}
	return t
}

// Rename gives a node the name that it was not known by at first.
func (t *taskLines) Rename(node int, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Names[node] = name
}

// wanted reports whether anybody will see the lines.
func (t *taskLines) wanted() bool { return t.Logger.Enabled(context.Background(), t.Level) }

// Observer returns the function to which a node tells its tasks; nil when nobody sees them.
func (t *taskLines) Observer(node int) func(executor.Event) {
	if !t.wanted() {
		return nil
	}
	return func(e executor.Event) { t.observe(node, e) }
}

// Summarizer returns the function to which a node tells how many they were.
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

// begin starts a second when none runs; the lock must be held.
func (t *taskLines) begin() {
	if t.second == nil {
		t.second = time.AfterFunc(time.Second, t.end)
	}
}

// end shows what the second had beside its lines.
func (t *taskLines) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	total := t.sumUp()
	t.busy = total+int64(t.shown) > tasksPerSecond
	t.shown = 0
	clear(t.nodes)
	t.second = nil
	if t.busy {
		t.begin() // a quiet second must end the busy ones
	}
}

// Close shows what was not shown yet.
func (t *taskLines) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.second != nil {
		t.second.Stop()
		t.sumUp()
		clear(t.nodes)
	}
}

// sumUp shows one line for the tasks without a line of their own, if there were any,
// and returns their number; the lock must be held. A summary of the executor counts the tasks
// that it told of too.
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

// taskLine is the line of a task for people. The columns stand below each other; what
// a client chose comes last, since it may be long.
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

// pad fills a text with spaces up to a width.
func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-len([]rune(text))))
}
