package durable

import (
	"cmp"
	"context"
	"log/slog"
	"math"
	"time"

	"github.com/posta-tasks/posta/task"
)

// announceEvery is the shortest time between two reports of progress of one task.
const announceEvery = 100 * time.Millisecond

// tell tells every engine of changes.
func (e *Engine) tell(tasks []task.Task) {
	list := make([]taskEvent, len(tasks))
	for i := range tasks {
		list[i] = taskEvent{Task: &tasks[i], ID: tasks[i].ID, Attempt: tasks[i].Attempt}
	}
	e.hub.tell(list)
	if e.mailbox != nil {
		e.mailbox.Tell(tasks)
	}
	e.byQueue.note(tasks)
	e.log(pointers(tasks))
}

// log tells the log of changes: each attempt that failed, with its error, and the others at the level of debugging.
func (e *Engine) log(tasks []*task.Task) {
	logger := e.config.Logger
	debug := logger.Enabled(context.Background(), slog.LevelDebug)
	for _, t := range tasks {
		why := failureOf(t)
		if why == "" && !debug {
			continue
		}
		about := []any{
			"task", t.ID, "state", string(t.State), "attempt", t.Attempt, "action", t.Action, "queue", t.Queue, "code", string(t.Code),
		}
		if t.Node != "" && t.Node != e.config.Node {
			about = append(about, "ran_on", t.Node) // node is the one that logs
		}
		if why != "" {
			logger.Info("attempt failed", append(about, "error", why)...)
		} else {
			logger.Debug("task changed", about...)
		}
	}
}

// failureOf gives why an attempt of a task has just failed; empty when none has.
func failureOf(t *task.Task) string {
	switch {
	case t.State == task.Failed:
		return cmp.Or(t.Error, string(t.Code))
	case t.State == task.Scheduled && len(t.History) > 0:
		return t.History[len(t.History)-1].Error
	}
	return ""
}

// hear takes note of what another engine, or this one, tells.
func (e *Engine) hear(list []taskEvent) {
	for i := range list {
		if t := list[i].Task; t != nil && t.Cancelling {
			if h := e.hands.Find(t.ID, t.Fence); h != nil {
				e.stopAttempt(h, stopCancelled)
			}
		}
	}
	e.subs.Hear(list)
}

// report keeps what an action says about itself, the newest only.
func (e *Engine) report(h *attempt, percent float64, message string) {
	if math.IsNaN(percent) {
		percent = 0
	}
	e.hands.Report(h, task.Progress{Percent: max(0, min(percent, 100)), Message: cut(task.CleanText(message))})
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
		e.tellProgress(e.hands.Untold())
		if !pause(ctx, announceEvery) {
			return
		}
	}
}
