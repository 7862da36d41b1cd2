package top

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	tea "charm.land/bubbletea/v2"

	"github.com/posta-tasks/posta/cli/doctor"
	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/task"
)

var update = flag.Bool("update", false, "write the golden files anew")

var noon = time.Date(2026, 1, 31, 12, 0, 0, 0, time.Local)

// example is a system with a bit of everything.
func example() *Snapshot {
	s := &Snapshot{
		At: noon,
		Nodes: []doctor.Node{
			{Node: "node1", Slots: 8, Queues: []string{"*"}, Actions: []string{"echo", "fib", "resize", "upper"}, Started: noon.Add(-2 * time.Hour), Seen: noon.Add(-2 * time.Second)},
			{Node: "node2", Slots: 16, Queues: []string{"mail", "media"}, Actions: []string{"echo", "send"}, Started: noon.Add(-72 * time.Hour), Seen: noon, Stuck: 1},
		},
		Workers: []doctor.Worker{
			{Worker: "img-311-9f2c", Node: "node1", Slots: 4, Held: 3, Version: "1.2.0", Since: noon.Add(-14 * time.Minute), Actions: []string{"thumbnail"}},
			{Worker: "old", Node: "node2", Slots: 1, Held: 1, Since: noon.Add(-time.Hour), Quiet: true},
		},
		Queues: []client.Queue{
			{Queue: "default", Queued: 12_345, Running: 3, OldestSeconds: 61, RateIn: 120.5, RateOut: 98},
			{Queue: "mail", Paused: true, Queued: 7, Scheduled: 1_200_000, Failed: 3, OldestSeconds: 7200},
			{Queue: "media", Running: 1, RateIn: 0.2, RateOut: 1234, Unserved: true},
		},
	}
	for i := range 4 {
		s.Running = append(s.Running, client.Record{
			Task: fmt.Sprintf("01JE4Z5Q8W3V9K2M7N6P0R1S%02d", 9-i), State: task.Running, Action: "resize", Queue: "default", Attempt: 1 + i, Node: "node1",
			StartedAt: noon.Add(-time.Duration(i*40) * time.Second), CreatedAt: noon.Add(-time.Hour),
		})
	}
	s.Running[1].Progress = &client.Progress{Percent: 42, Message: "page 3 of 7"}
	s.Running[2].Worker = "img-311-9f2c"
	s.Recent = []client.Record{
		s.Running[0],
		{Task: "01JE4Z5Q8W3V9K2M7N6P0R1R04", State: task.Scheduled, Action: "send", Queue: "mail", Attempt: 2, RunAt: noon.Add(30 * time.Second), Error: "mail host away"},
		{Task: "01JE4Z5Q8W3V9K2M7N6P0R1R03", State: task.Queued, Action: "echo", Queue: "default", CreatedAt: noon.Add(-5 * time.Second), Warning: "no live node has echo"},
		{Task: "01JE4Z5Q8W3V9K2M7N6P0R1R02", State: task.Failed, Action: "send", Queue: "mail", Attempt: 12, Node: "node2", Code: task.ActionFailed, Error: "no user 42",
			StartedAt: noon.Add(-2 * time.Minute), FinishedAt: noon.Add(-2*time.Minute + 1250*time.Millisecond)},
		{Task: "01JE4Z5Q8W3V9K2M7N6P0R1R01", State: task.Done, Action: "echo", Queue: "default", Attempt: 1, Node: "node1", StartedAt: noon.Add(-time.Minute), FinishedAt: noon},
	}
	return s
}

// fakeSystem is a system that notes what it is asked to do.
type fakeSystem struct {
	now   *Snapshot
	err   error
	calls []string
}

func (f *fakeSystem) Read(context.Context) (*Snapshot, error) { return f.now, f.err }

func (f *fakeSystem) note(call string) error {
	f.calls = append(f.calls, call)
	return f.err
}

func (f *fakeSystem) SetPaused(_ context.Context, queue string, paused bool) error {
	return f.note(fmt.Sprintf("paused %v %s", paused, queue))
}

func (f *fakeSystem) Cancel(_ context.Context, id string) (bool, error) {
	return true, f.note("cancel " + id)
}

func (f *fakeSystem) Retry(_ context.Context, id string) error { return f.note("retry " + id) }

// shown is a model of a terminal of a size after its first poll.
func shown(t *testing.T, system *fakeSystem, width, height int, paint terminal.Painter) *Model {
	t.Helper()
	m := New(t.Context(), Config{System: system, Addr: "127.0.0.1:9000", Paint: paint, Fault: error.Error})
	m.Update(tea.WindowSizeMsg{Width: width, Height: height})
	m.Update(m.Init()())
	return m
}

// press presses keys, and passes on what the commands behind them return. It reports whether one quits.
func press(m *Model, keys ...string) (quits bool) {
	for _, key := range keys {
		msg := tea.KeyPressMsg{Text: key, Code: []rune(key)[0]}
		switch key {
		case "tab":
			msg = tea.KeyPressMsg{Code: tea.KeyTab}
		case "down":
			msg = tea.KeyPressMsg{Code: tea.KeyDown}
		case "ctrl+c":
			msg = tea.KeyPressMsg{Code: 'c', Mod: tea.ModCtrl}
		}
		_, cmd := m.Update(msg)
		if cmd == nil {
			continue
		}
		did := cmd()
		if _, quit := did.(tea.QuitMsg); quit {
			return true
		}
		m.Update(did)
	}
	return false
}

func content(m *Model) string { return m.View().Content }

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what is shown: go test ./cli/top -update writes it anew\n%s", path, got)
	}
}

func TestTheScreenIsAsInTheGoldenFiles(t *testing.T) {
	t.Parallel()
	system := &fakeSystem{now: example()}
	narrow := shown(t, system, 80, 24, false)
	golden(t, "80x24.txt", content(narrow))
	golden(t, "120x40.txt", content(shown(t, system, 120, 40, false)))
	press(narrow, "?")
	golden(t, "help.txt", content(narrow))
	press(narrow, "?", "tab", "down", "c")
	golden(t, "question.txt", content(narrow))
	press(narrow, "n")
	narrow.Update(readMsg{err: errors.New("cannot reach 127.0.0.1:9000: connection refused")})
	golden(t, "away.txt", content(narrow))
	golden(t, "plain.txt", Text(example(), 120, false))
}

func TestAnEmptySystemHasTitlesOnly(t *testing.T) {
	t.Parallel()
	m := shown(t, &fakeSystem{now: &Snapshot{At: noon}}, 80, 24, false)
	press(m, "p", "c", "r", "tab", "down", "p", "c", "r")
	for _, title := range []string{"NODES 0", "QUEUES 0", "TASKS 0"} {
		if !strings.Contains(content(m), title) {
			t.Errorf("%s is not in\n%s", title, content(m))
		}
	}
}

const hostile = "a\x1b[2J\u009b31m\rb\u202e\u2066c\x7f\u0085\x07\nforged 世界 e\u0301"

// hostileSnapshot has hostile texts wherever there may be one.
func hostileSnapshot() *Snapshot {
	s := example()
	for i := range s.Nodes {
		s.Nodes[i].Node, s.Nodes[i].Actions, s.Nodes[i].Queues = hostile, []string{hostile}, []string{hostile}
	}
	for i := range s.Workers {
		s.Workers[i].Worker, s.Workers[i].Node, s.Workers[i].Version, s.Workers[i].Actions = hostile, hostile, hostile, []string{hostile}
	}
	for i := range s.Queues {
		s.Queues[i].Queue = hostile
	}
	for _, list := range [][]client.Record{s.Running, s.Recent} {
		for i := range list {
			r := &list[i]
			r.Task, r.Action, r.Queue, r.Node, r.Worker, r.Error, r.Code, r.Warning = hostile, hostile, hostile, hostile, hostile, hostile, hostile, hostile
			r.State = task.State(hostile)
			r.Progress = &client.Progress{Percent: 50, Message: hostile}
		}
	}
	s.Notes = []string{hostile}
	return s
}

var colours = regexp.MustCompile("\x1b\\[[0-9]*m")

func TestEveryScreenFitsItsTerminalAndIsPrintable(t *testing.T) {
	t.Parallel()
	for _, now := range []*Snapshot{example(), hostileSnapshot(), {}} {
		for _, size := range [][2]int{{1, 1}, {10, 3}, {40, 10}, {79, 23}, {80, 24}, {100, 30}, {300, 100}} {
			plain, painted := shown(t, &fakeSystem{now: now}, size[0], size[1], false), shown(t, &fakeSystem{now: now}, size[0], size[1], true)
			for _, keys := range [][]string{{}, {"tab", "j"}, {"c"}, {"n", "?"}, {"?", "p"}} {
				press(plain, keys...)
				press(painted, keys...)
				text := content(plain)
				if trimmed := colours.ReplaceAllString(content(painted), ""); trimmedLines(trimmed) != trimmedLines(text) {
					t.Errorf("%v: with colours it says\n%s\nand without\n%s", size, trimmed, text)
				}
				lines := strings.Split(text, "\n")
				if len(lines) != size[1] {
					t.Errorf("%v: %d lines", size, len(lines))
				}
				for _, line := range lines {
					if n := terminal.Columns(line); n > size[0] && !strings.HasSuffix(line, "? y yes, n no") {
						t.Errorf("%v: %d columns: %s", size, n, line)
					}
					if at := strings.IndexFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }); at >= 0 {
						t.Errorf("%v: %q", size, line)
					}
				}
			}
		}
		if text := Text(now, 120, false); strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) && r != '\n' }) {
			t.Errorf("%q", text)
		}
	}
}

// trimmedLines is a text without spaces at the ends of its lines.
func trimmedLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " ")
	}
	return strings.Join(lines, "\n")
}

func TestKeysChangeWhatIsSelected(t *testing.T) {
	t.Parallel()
	system := &fakeSystem{now: example()}
	m := shown(t, system, 80, 24, false)
	press(m, "p", "j", "p", "tab", "G", "k", "c", "r", "n", "r", "y", "g", "c", "y", "r")
	want := []string{
		"paused true default", "paused false mail",
		"retry 01JE4Z5Q8W3V9K2M7N6P0R1R02", // c was refused, and the first r answered with no
		"cancel 01JE4Z5Q8W3V9K2M7N6P0R1S06",
	}
	if !slices.Equal(system.calls, want) {
		t.Errorf("the calls are %q", system.calls)
	}
	if m.did != "task 01JE4Z5Q8W3V9K2M7N6P0R1S06 is running already" {
		t.Errorf("the status is %q", m.did)
	}
	press(m, "c", "y")
	if !strings.Contains(content(m), "\ntask 01JE4Z5Q8W3V9K2M7N6P0R1S06 runs, and was asked to stop\n") {
		t.Errorf("the outcome is not in\n%s", content(m))
	}
	system.err = errors.New("forbidden: not you")
	press(m, "p")
	if !strings.Contains(content(m), "\nforbidden: not you\n") {
		t.Errorf("the refusal is not in\n%s", content(m))
	}
	if press(m, "x") || !press(m, "q") || !press(m, "?", "q") || !press(m, "c", "ctrl+c") {
		t.Error("q and ctrl+c quit, and x does not")
	}
}

func TestWhatIsSelectedStaysSelectedWhenRowsMove(t *testing.T) {
	t.Parallel()
	system := &fakeSystem{now: example()}
	m := shown(t, system, 80, 24, false)
	press(m, "j", "tab", "down", "down")
	queue, id := m.queue, m.task
	system.now = example()
	slices.Reverse(system.now.Queues)
	system.now.Running = append([]client.Record{{Task: "01NEW", State: task.Running}}, system.now.Running...)
	m.Update(m.Init()())
	if m.queue != queue || m.task != id {
		t.Errorf("%s and %s are selected, want %s and %s", m.queue, m.task, queue, id)
	}
	system.now = example()
	system.now.Queues, system.now.Running = system.now.Queues[:1], nil
	m.Update(m.Init()())
	if m.queue != "default" || m.task == "" || m.task == id {
		t.Errorf("%q and %q are selected though they are gone", m.queue, m.task)
	}
}

func TestWhileNothingAnswersItSaysSoAndTriesAgain(t *testing.T) {
	t.Parallel()
	system := &fakeSystem{err: errors.New("cannot reach it")}
	m := New(t.Context(), Config{System: system, Addr: "a:1", Fault: error.Error})
	_, next := m.Update(m.Init()())
	if next == nil || !strings.Contains(content(m), "away, trying again: cannot reach it") {
		t.Errorf("it shows\n%s", content(m))
	}
	if _, poll := m.Update(pollMsg{}); poll == nil {
		t.Error("it does not try again")
	}
	system.now, system.err = example(), nil
	m.Update(m.Init()())
	if strings.Contains(content(m), "away") || !strings.Contains(content(m), "node1") {
		t.Errorf("it shows\n%s", content(m))
	}
}

func TestTheTrendIsThatOfTheLastPolls(t *testing.T) {
	t.Parallel()
	system := &fakeSystem{now: example()}
	m := shown(t, system, 80, 24, false)
	for i := range 2 * trendPolls {
		system.now = example()
		system.now.Queues[0].RateOut = float64(i % 8)
		m.Update(m.Init()())
	}
	if n := len(m.trends["default"]); n != trendPolls || !strings.Contains(content(m), "█▁▂▃▄▅▆▇█") {
		t.Errorf("%d polls are kept:\n%s", n, content(m))
	}
	system.now = &Snapshot{At: noon}
	m.Update(m.Init()())
	if len(m.trends) != 0 {
		t.Error("the trend of a queue that is gone is kept")
	}
}

func TestNumbersAreShort(t *testing.T) {
	t.Parallel()
	for n, want := range map[float64]string{0: "0", 9999: "9999", 10_000: "10.0k", 99_949: "99.9k", 99_950: "100k", 999_499: "999k", 999_500: "1.0M", 123_456_789: "123M"} {
		if got := short(n); got != want {
			t.Errorf("%v is %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{-time.Second: "0s", 119 * time.Second: "119s", 2 * time.Minute: "2m", 119 * time.Minute: "119m", 2 * time.Hour: "2h", 47 * time.Hour: "47h", 72 * time.Hour: "3d"} {
		if got := age(d); got != want {
			t.Errorf("%v is %s, want %s", d, got, want)
		}
	}
}
