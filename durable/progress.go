package durable

import (
	"context"
	"math"
	"time"

	"github.com/posta-tasks/posta/internal/wait"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// progressEvery is the shortest time between two events with the progress of a task.
const progressEvery = 100 * time.Millisecond

// progressReporter sends the progress of actions to watchers.
type progressReporter struct {
	*core
	publisher *publisher
}

// Run sends progress until ctx ends.
func (r *progressReporter) Run(ctx context.Context) {
	for {
		select {
		case <-r.attempts.Progress:
		case <-ctx.Done():
			return
		}
		r.publisher.sendProgress(r.attempts.TakeUnsent())
		if !wait.For(ctx, progressEvery) {
			return
		}
	}
}

// progressOf returns the progress that an action reports, cut to the size that a record may have.
func progressOf(percent float64, message string) task.Progress {
	if math.IsNaN(percent) {
		percent = 0
	}
	return task.Progress{Percent: max(0, min(percent, 100)), Message: cut(task.CleanText(message))}
}

// Report stores the latest progress of an attempt.
func (s *inflight) Report(a *attempt, p task.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a.progress, a.unsent, a.unsaved = p, true, true
	s.Progress.Set()
}

// TakeUnsent returns progress that watchers do not have yet, and marks it as sent. The progress of an attempt waits
// until the store has recorded that the attempt runs.
func (s *inflight) TakeUnsent() []taskEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []taskEvent
	for _, a := range s.list {
		if a.unsent && !a.ended && !a.noted {
			continue
		}
		if a.unsent && !a.ended {
			list = append(list, taskEvent{ID: a.Task.ID, Queue: a.Task.Queue, Attempt: a.Task.Attempt, Progress: a.progress})
		}
		a.unsent = false
	}
	return list
}

// Newest returns the latest progress of a running task: that of its attempt on this node, otherwise that in the
// task.
func (s *inflight) Newest(t *task.Task) task.Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.list[t.ID]; a != nil && a.Task.Attempt == t.Attempt && a.progress != (task.Progress{}) {
		return a.progress
	}
	return t.Progress
}

// TakeUnsaved returns the progress of an attempt if the store does not have it yet, and marks it as saved.
func (s *inflight) TakeUnsaved(a *attempt) *task.Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !a.unsaved {
		return nil
	}
	a.unsaved = false
	p := a.progress
	return &p
}

// TakeAllUnsaved returns the leases of attempts to renew, each with its progress from TakeUnsaved.
func (s *inflight) TakeAllUnsaved(list []*attempt) []store.Held {
	var reported []store.Held
	for _, a := range list {
		if p := s.TakeUnsaved(a); p != nil {
			reported = append(reported, store.Held{ID: a.Task.ID, Fence: a.Task.Fence, Progress: p})
		}
	}
	return reported
}
