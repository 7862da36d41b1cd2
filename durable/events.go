package durable

import (
	"context"
	"log/slog"
	"math"
	"time"

	"github.com/posta-tasks/posta/task"
)

// announceEvery is the shortest time between two reports of progress of one task.
const announceEvery = 100 * time.Millisecond

// event is what engines tell each other: a task that has changed, or what an action said.
// Events may be lost; whoever waits for one also looks at the store now and then.
type event struct {
	task     *task.Task // as it is after the change, of its history the newest entry; nil: progress
	id       string
	attempt  int
	progress task.Progress
}

// tell tells every engine of changes.
func (e *Engine) tell(tasks []task.Task) {
	list := make([]event, len(tasks))
	for i := range tasks {
		list[i] = event{task: &tasks[i], id: tasks[i].ID, attempt: tasks[i].Attempt}
	}
	e.hub.tell(list)
	e.log(pointers(tasks))
}

// log tells the log of changes: failed tasks always, the others to whoever wants to debug.
func (e *Engine) log(tasks []*task.Task) {
	logger := e.config.Logger
	debug := logger.Enabled(context.Background(), slog.LevelDebug)
	for _, t := range tasks {
		level := slog.LevelDebug
		if t.State == task.Failed {
			level = slog.LevelInfo
		} else if !debug {
			continue
		}
		logger.Log(context.Background(), level, "task changed", "task", t.ID, "state", string(t.State),
			"attempt", t.Attempt, "action", t.Action, "queue", t.Queue, "node", t.Node, "code", string(t.Code))
	}
}

// hear takes note of what another engine, or this one, tells.
func (e *Engine) hear(list []event) {
	for i := range list {
		if t := list[i].task; t != nil && t.Cancelling {
			if h := e.hands.find(t.ID, t.Attempt); h != nil {
				e.stopAttempt(h, stopCancelling)
			}
		}
	}
	e.subs.hear(list)
}

// report keeps what an action says about itself, the newest only.
func (e *Engine) report(h *held, percent float64, message string) {
	if math.IsNaN(percent) {
		percent = 0
	}
	e.hands.report(h, task.Progress{Percent: max(0, min(percent, 100)), Message: cut(message)})
	poke(e.news)
}

// announce tells of progress until ctx ends, ten times a second at most.
func (e *Engine) announce(ctx context.Context) {
	for {
		select {
		case <-e.news:
		case <-ctx.Done():
			return
		}
		e.hub.tell(e.hands.untold())
		if !pause(ctx, announceEvery) {
			return
		}
	}
}

func (s *hands) report(h *held, p task.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.progress, h.untold, h.unsaved = p, true, true
}

// untold takes the progress that nobody has been told of.
func (s *hands) untold() []event {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []event
	for _, h := range s.list {
		if h.untold && !h.ended {
			list = append(list, event{id: h.task.ID, attempt: h.task.Attempt, progress: h.progress})
		}
		h.untold = false
	}
	return list
}

// newest gives what the action said last, if this node has the attempt.
func (s *hands) newest(t *task.Task) task.Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.list[t.ID]; h != nil && h.task.Attempt == t.Attempt && h.progress != (task.Progress{}) {
		return h.progress
	}
	return t.Progress
}
