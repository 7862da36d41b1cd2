package durable

import (
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// Report keeps what an action said last.
func (s *inflight) Report(h *attempt, p task.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.progress, h.untold, h.unsaved = p, true, true
}

// Untold takes the progress that nobody has been told of. That of an attempt of which nobody knows that it runs waits.
func (s *inflight) Untold() []taskEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []taskEvent
	for _, h := range s.list {
		if h.untold && !h.ended && !h.noted {
			continue
		}
		if h.untold && !h.ended {
			list = append(list, taskEvent{ID: h.Task.ID, Queue: h.Task.Queue, Attempt: h.Task.Attempt, Progress: h.progress})
		}
		h.untold = false
	}
	return list
}

// Newest gives what the action said last, if this node has the attempt.
func (s *inflight) Newest(t *task.Task) task.Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.list[t.ID]; h != nil && h.Task.Attempt == t.Attempt && h.progress != (task.Progress{}) {
		return h.progress
	}
	return t.Progress
}

// Progress takes what an action said since it was saved last.
func (s *inflight) Progress(h *attempt) *task.Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !h.unsaved {
		return nil
	}
	h.unsaved = false
	p := h.progress
	return &p
}

// Unsaved takes what these actions said since it was saved last.
func (s *inflight) Unsaved(list []*attempt) []store.Held {
	var reported []store.Held
	for _, h := range list {
		if p := s.Progress(h); p != nil {
			reported = append(reported, store.Held{ID: h.Task.ID, Fence: h.Task.Fence, Progress: p})
		}
	}
	return reported
}
