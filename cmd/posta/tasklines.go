package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/posta-tasks/posta/executor"
)

// tasksPerSecond is how many tasks a second are shown one by one: more than that
// nobody can read, and a line costs more than a task does.
const tasksPerSecond = 36

// taskLines shows the tasks of some nodes: a line each as long as there are few of
// them, and one line a second while there are many.
type taskLines struct {
	out    *outside
	logger *slog.Logger
	level  slog.Level
	pretty bool
	paint  painter
	names  []string // of the nodes
	width  int      // of the longest name

	mu     sync.Mutex // guards what follows
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

func newTaskLines(out *outside, logger *slog.Logger, pretty bool, names ...string) *taskLines {
	t := &taskLines{
		out: out, logger: logger, pretty: pretty, paint: painter(out.colours()),
		names: names, nodes: make([]nodeTasks, len(names)),
	}
	for _, name := range names {
		t.width = max(t.width, len([]rune(printable(name))))
	}
	return t
}

// wanted tells whether anybody will see the lines.
func (t *taskLines) wanted() bool { return t.logger.Enabled(context.Background(), t.level) }

// observer gives the function to which a node tells its tasks; nil when nobody sees them.
func (t *taskLines) observer(node int) func(executor.Event) {
	if !t.wanted() {
		return nil
	}
	return func(e executor.Event) { t.observe(node, e) }
}

// summarizer gives the function to which a node tells how many they were.
func (t *taskLines) summarizer(node int) func(executor.Summary) {
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
	if t.pretty {
		t.out.talk("%s", t.taskLine(time.Now(), t.names[node], e))
		return
	}
	t.logger.LogAttrs(context.Background(), t.level, "task", slog.String("node", t.names[node]),
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

// close shows what was not shown yet.
func (t *taskLines) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.second != nil {
		t.second.Stop()
		t.sumUp()
		clear(t.nodes)
	}
}

// sumUp shows one line for the tasks without a line of their own, if there were any,
// and gives their number; the lock must be held. A summary of the executor counts the tasks
// that it told of too.
func (t *taskLines) sumUp() int64 {
	var total, failed int64
	parts := make([]string, 0, len(t.nodes))
	attrs := make([]any, 0, len(t.nodes))
	for i, n := range t.nodes {
		count := max(n.hidden, n.summed)
		total, failed = total+count, failed+max(n.hiddenFailed, n.summedFailed)
		parts = append(parts, t.paint.node(i, t.names[i])+" "+thousands(count))
		attrs = append(attrs, slog.Int64(t.names[i], count))
	}
	switch {
	case total == 0:
	case t.pretty:
		line := t.paint.faint(time.Now().Format(clock)) + "  " + t.paint.bold(thousands(total)+" tasks in a second")
		if failed > 0 {
			line += ", " + t.paint.bad(thousands(failed)+" failed")
		}
		if len(parts) > 1 {
			line += "  " + strings.Join(parts, "  ")
		}
		t.out.talk("%s", line)
	default:
		t.logger.LogAttrs(context.Background(), t.level, "tasks", slog.Int64("tasks", total),
			slog.Int64("failed", failed), slog.Group("nodes", attrs...))
	}
	return total
}

// taskLine is the line of a task for people. The columns stand below each other; what
// a client chose comes last, since it may be long.
func (t *taskLines) taskLine(now time.Time, node string, e executor.Event) string {
	index := 0
	for i, name := range t.names {
		if name == node {
			index = i
		}
	}
	outcome := fmt.Sprintf("%-9s", e.Outcome)
	if e.Outcome == executor.Done {
		outcome = t.paint.good("✓ " + outcome)
	} else {
		outcome = t.paint.bad("✗ " + outcome)
	}
	id := e.ID
	if id == "" {
		id = "null"
	}
	return fmt.Sprintf("%s  %s  %s  %-10s  %12s  id %s", t.paint.faint(now.Format(clock)),
		t.paint.node(index, pad(printable(node), t.width)), outcome, cut(e.Action, 24), milliseconds(e.Duration), cut(id, 40))
}

// pad fills a text with spaces up to a width.
func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-len([]rune(text))))
}

// painter puts colours around a text, or does not.
type painter bool

func (p painter) in(code, text string) string {
	if !p {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p painter) faint(text string) string { return p.in("2", text) }
func (p painter) bold(text string) string  { return p.in("1", text) }
func (p painter) good(text string) string  { return p.in("32", text) }
func (p painter) bad(text string) string   { return p.in("31", text) }

// node gives each node a colour of its own, as long as there are few.
func (p painter) node(index int, text string) string {
	return p.in([]string{"36", "35", "34", "33"}[index%4], text)
}
