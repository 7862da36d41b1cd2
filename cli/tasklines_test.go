package cli

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/internal/testenv"
)

// shownBy returns task lines for two nodes, and where they are shown.
func shownBy(pretty bool) (*taskLines, *testenv.Buffer) {
	stderr := &testenv.Buffer{}
	out := &terminal.Outside{Stderr: stderr}
	logger := slog.New(slog.NewJSONHandler(stderr, nil))
	return newTaskLines(taskLinesConfig{Out: out, Logger: logger, Pretty: pretty, Names: []string{"node1", "n2"}}), stderr
}

func upperDone(id string) executor.Event {
	return executor.Event{ID: id, Action: "upper", Duration: 41 * time.Microsecond}
}

func TestATaskLineStandsInColumns(t *testing.T) {
	t.Parallel()
	lines, _ := shownBy(true)
	at := time.Date(2026, 11, 23, 12, 4, 5, 123e6, time.UTC)
	for _, c := range []struct {
		node  string
		event executor.Event
		want  string
	}{
		{"node1", upperDone("1"), "12:04:05.123  node1  ✓ done       upper           0.041 ms  id 1"},
		{"n2", executor.Event{ID: `"ñ"`, Action: "sleep", Duration: 500 * time.Millisecond},
			`12:04:05.123  n2     ✓ done       sleep           500.0 ms  id "ñ"`},
		{"n2", executor.Event{Action: "fib", Duration: 20 * time.Second, Outcome: executor.TimedOut},
			"12:04:05.123  n2     ✗ timed_out  fib               20.0 s  id null"},
		{"n2", executor.Event{ID: "\"\u009b31m\u202e\"", Action: "a\x1b[2J", Outcome: executor.Failed},
			"12:04:05.123  n2     ✗ failed     a\\u001b[2J      0.000 ms  id \"\\u009b31m\\u202e\""},
	} {
		if got := lines.taskLine(at, c.node, c.event); got != c.want {
			t.Errorf("\n got %s\nwant %s", got, c.want)
		}
	}
	lines.paint = true
	got := lines.taskLine(at, "n2", upperDone("1"))
	want := "\x1b[2m12:04:05.123\x1b[0m  \x1b[35mn2   \x1b[0m  \x1b[32m✓ done     \x1b[0m  upper           0.041 ms  id 1"
	if got != want {
		t.Errorf("with colours %q, want %q", got, want)
	}
}

// TestManyTasksAreSummedUp goes from a few tasks to many and back.
func TestManyTasksAreSummedUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lines, stderr := shownBy(true)
		seen := func() (single, summed int) {
			for line := range strings.Lines(stderr.String()) {
				if strings.Contains(line, "tasks in a second") {
					summed++
				} else {
					single++
				}
			}
			stderr.Reset()
			return single, summed
		}
		second := func(perNode int) {
			for range perNode {
				lines.observe(0, upperDone("1"))
				lines.observe(1, upperDone("2"))
			}
			<-time.After(1100 * time.Millisecond)
			synctest.Wait()
		}
		for _, step := range []struct{ perNode, single, summed int }{
			{10, 20, 0},             // few: each has its line
			{30, tasksPerSecond, 1}, // too many: the rest is summed up
			{30, 0, 1}, {18, 0, 1},  // still many: one line
			{3, 6, 0}, {0, 0, 0}, {1, 2, 0}, // few again
		} {
			second(step.perNode)
			if single, summed := seen(); single != step.single || summed != step.summed {
				t.Errorf("%d tasks on each node: %d lines and %d summaries, want %d and %d", step.perNode, single, summed, step.single, step.summed)
			}
		}
		lines.Close()
	})
}

// TestASummaryCountsEachTaskOnce passes it what the executor summed up, which counts
// the tasks that it told of too.
func TestASummaryCountsEachTaskOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(*testing.T) {
		for pretty, want := range map[bool]string{
			true:  "  1,000,200 tasks in a second, 7 failed  node1 1,000,000  n2 200\n",
			false: `"msg":"tasks","tasks":1000200,"failed":7,"nodes":{"node1":1000000,"n2":200}`,
		} {
			lines, stderr := shownBy(pretty)
			for range 100 {
				lines.observe(0, upperDone("1"))
			}
			lines.summarize(0, executor.Summary{Tasks: 1_000_000, Failed: 7, Window: time.Second})
			lines.summarize(1, executor.Summary{Tasks: 200, Window: time.Second})
			lines.Close()
			if !strings.Contains(stderr.String(), want) {
				t.Errorf("%s does not have %s", stderr.String(), want)
			}
		}
	})
}

func TestTasksBelowTheLogLevelAreNotCollected(t *testing.T) {
	t.Parallel()
	lines, _ := shownBy(true)
	lines.Level = slog.LevelDebug
	if lines.Observer(0) != nil || lines.Summarizer(0) != nil {
		t.Error("the executor would tell of tasks that nobody sees")
	}
}
