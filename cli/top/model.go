package top

import (
	"context"
	"fmt"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/task"
)

// pane is a list that a row can be selected in.
type pane int

// The panes.
const (
	queuePane pane = iota
	taskPane
)

// Model is the state of the view. It implements tea.Model.
type Model struct {
	Config
	within        func(do func(ctx context.Context) tea.Msg) tea.Cmd // returns a command with the context of a request
	width, height int
	now           *Snapshot // nil: none was read yet
	away          string    // why the latest poll failed; "": it did not
	did           string    // the outcome of the latest change
	question      *question // nil: none is asked
	help          bool
	pane          pane
	queue, task   string // what is selected
	trends        map[string][]float64
}

// question asks whether a task should be changed.
type question struct {
	text string
	yes  tea.Cmd
}

// Messages to the model.
type (
	readMsg struct {
		snapshot *Snapshot
		err      error
	}
	pollMsg struct{}
	didMsg  struct{ text string }
)

// New returns a Model of a terminal with 80 columns and 24 lines. Its requests end with ctx.
func New(ctx context.Context, config Config) *Model {
	return &Model{Config: config, width: 80, height: 24, within: func(do func(ctx context.Context) tea.Msg) tea.Cmd {
		return func() tea.Msg {
			ctx, cancel := context.WithTimeout(ctx, Patience)
			defer cancel()
			return do(ctx)
		}
	}}
}

// Init implements tea.Model. It starts the first poll.
func (m *Model) Init() tea.Cmd { return m.poll() }

// poll returns a command that reads the system once.
func (m *Model) poll() tea.Cmd {
	return m.within(func(ctx context.Context) tea.Msg {
		snapshot, err := m.System.Read(ctx)
		return readMsg{snapshot, err}
	})
}

// Update implements tea.Model. The next poll begins only when the one before has ended.
func (m *Model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		if msg.Width > 0 && msg.Height > 0 {
			m.width, m.height = msg.Width, msg.Height
		}
	case pollMsg:
		return m, m.poll()
	case readMsg:
		m.show(msg)
		return m, tea.Tick(Every, func(time.Time) tea.Msg { return pollMsg{} })
	case didMsg:
		m.did = msg.text
	case tea.KeyPressMsg:
		return m, m.press(msg.String())
	}
	return m, nil
}

// show takes over the answer to a poll. What is selected stays selected as long as it exists.
func (m *Model) show(msg readMsg) {
	if msg.err != nil {
		m.away = m.Fault(msg.err)
		return
	}
	queueAt, taskAt := m.queueAt(), m.taskAt()
	m.now, m.away = msg.snapshot, ""
	trends := make(map[string][]float64, len(m.now.Queues))
	for i := range m.now.Queues {
		q := &m.now.Queues[i]
		trend := append(m.trends[q.Queue], q.RateOut)
		trends[q.Queue] = trend[max(0, len(trend)-trendPolls):]
	}
	m.trends = trends
	m.selectQueue(max(queueAt, 0))
	m.selectTask(max(taskAt, 0))
}

// queueAt returns the index of the selected queue, or -1.
func (m *Model) queueAt() int {
	if m.now != nil {
		for i := range m.now.Queues {
			if m.now.Queues[i].Queue == m.queue {
				return i
			}
		}
	}
	return -1
}

// taskAt returns the index of the selected task, or -1.
func (m *Model) taskAt() int {
	if m.now != nil {
		for i, t := range m.now.tasks() {
			if t.Task == m.task {
				return i
			}
		}
	}
	return -1
}

// selectQueue selects the queue at an index, unless the selected one still exists.
func (m *Model) selectQueue(at int) {
	if m.queueAt() < 0 {
		m.moveQueue(at)
	}
}

func (m *Model) moveQueue(to int) {
	if m.queue = ""; len(m.now.Queues) > 0 {
		m.queue = m.now.Queues[min(max(to, 0), len(m.now.Queues)-1)].Queue
	}
}

// selectTask selects the task at an index, unless the selected one still exists.
func (m *Model) selectTask(at int) {
	if m.taskAt() < 0 {
		m.moveTask(at)
	}
}

func (m *Model) moveTask(to int) {
	tasks := m.now.tasks()
	if m.task = ""; len(tasks) > 0 {
		m.task = tasks[min(max(to, 0), len(tasks)-1)].Task
	}
}

// press handles a key.
func (m *Model) press(key string) tea.Cmd {
	if key == "ctrl+c" || key == "q" {
		return tea.Quit
	}
	if asked := m.question; asked != nil {
		if m.question = nil; key == "y" {
			return asked.yes
		}
		return nil
	}
	if m.help {
		m.help = false
		return nil
	}
	m.did = ""
	switch key {
	case "?":
		m.help = true
	case "tab", "shift+tab", "left", "right":
		m.pane = 1 - m.pane
	case "down", "j":
		m.move(1)
	case "up", "k":
		m.move(-1)
	case "pgdown":
		m.move(10)
	case "pgup":
		m.move(-10)
	case "home", "g":
		m.move(-1 << 30)
	case "end", "G":
		m.move(1 << 30)
	case "p":
		return m.pause()
	case "c":
		m.cancel()
	case "r":
		m.retry()
	}
	return nil
}

// move moves the selection of the pane by a number of rows.
func (m *Model) move(rows int) {
	switch {
	case m.now == nil:
	case m.pane == queuePane:
		m.moveQueue(m.queueAt() + rows)
	default:
		m.moveTask(m.taskAt() + rows)
	}
}

// pause pauses the selected queue, or resumes it if it is paused.
func (m *Model) pause() tea.Cmd {
	at := m.queueAt()
	if at < 0 {
		return nil
	}
	queue, paused := m.queue, !m.now.Queues[at].Paused
	did := "resumed"
	if paused {
		did = "paused"
	}
	return m.change("queue "+queue+" is "+did, func(ctx context.Context) (string, error) {
		return "", m.System.SetPaused(ctx, queue, paused)
	})
}

// cancel asks whether to cancel the selected task.
func (m *Model) cancel() {
	t := m.selected()
	if t == nil {
		return
	}
	if t.State.Final() {
		m.did = fmt.Sprintf("task %s is %s already", t.Task, t.State)
		return
	}
	id := t.Task
	m.question = &question{"cancel task " + id + ", " + t.Action, m.change("task "+id+" is cancelled", func(ctx context.Context) (string, error) {
		cancelling, err := m.System.Cancel(ctx, id)
		if cancelling {
			return "task " + id + " runs, and was asked to stop", err
		}
		return "", err
	})}
}

// retry asks whether to retry the selected task.
func (m *Model) retry() {
	t := m.selected()
	if t == nil {
		return
	}
	if t.State == task.Queued || t.State == task.Running {
		m.did = fmt.Sprintf("task %s is %s already", t.Task, t.State)
		return
	}
	id := t.Task
	m.question = &question{"retry task " + id + ", " + t.Action, m.change("task "+id+" is queued", func(ctx context.Context) (string, error) {
		return "", m.System.Retry(ctx, id)
	})}
}

// selected returns the selected task, or nil.
func (m *Model) selected() *client.Record {
	at := m.taskAt()
	if at < 0 {
		return nil
	}
	return m.now.tasks()[at]
}

// change returns a command that makes a change. did says what was done, unless do returns another text.
func (m *Model) change(did string, do func(ctx context.Context) (string, error)) tea.Cmd {
	return m.within(func(ctx context.Context) tea.Msg {
		text, err := do(ctx)
		switch {
		case err != nil:
			return didMsg{m.Fault(err)}
		case text != "":
			return didMsg{text}
		}
		return didMsg{did}
	})
}
