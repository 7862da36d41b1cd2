package durable

import (
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// Enter records that the action of an attempt is entered now. It returns false if the action must not be entered:
// the attempt must stop, its lease has ended, it has expired, or its queue is paused. After SetPaused, Close or
// Stop has returned, Enter returns false for the attempts that they concern.
func (s *inflight) Enter(a *attempt, definition string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	entered := s.enter(a)
	if entered {
		a.definition = definition
	}
	return entered
}

// EnsureEntered enters an attempt unless it was entered before, and returns false if it must not be entered. It is
// for attempts that failed before their action, which count as entered.
func (s *inflight) EnsureEntered(a *attempt) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !a.entered.IsZero() || s.enter(a)
}

// enter implements Enter. The caller holds mu.
func (s *inflight) enter(a *attempt) bool {
	now := time.Now()
	if a.ended || a.reason != notStopped || s.closed || s.paused[a.Task.Queue] || !now.Before(a.until) || a.isLate(now) {
		return false
	}
	a.entered = now
	s.runs++
	s.fresh[a] = struct{}{}
	if a.timer != nil {
		a.timer.Stop()
	}
	s.ToMark.Set()
	return true
}

// AtExpiry calls expired if the attempt expires before its action is entered.
func (s *inflight) AtExpiry(a *attempt, expired func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !a.expires.IsZero() && a.entered.IsZero() && !a.ended {
		a.timer = time.AfterFunc(time.Until(a.expires), expired)
	}
}

// isLate reports whether an attempt has expired before its action was entered. The caller holds mu.
func (a *attempt) isLate(now time.Time) bool {
	return a.entered.IsZero() && !a.expires.IsZero() && !now.Before(a.expires)
}

// SetPaused sets the paused queues. No action of their tasks is entered. The caller must not change the map later.
func (s *inflight) SetPaused(queues map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = queues
}

// Close makes Enter return false from now on.
func (s *inflight) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// Entered returns the number of attempts whose actions run.
func (s *inflight) Entered() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runs
}

// HasUnmarked reports whether an action runs that is not marked.
func (s *inflight) HasUnmarked() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.fresh) > 0
}

// Mark marks attempts that were entered before a time and returns them, so that the store can record that they run.
// At most most attempts are marked at once, since outcomes may wait to be recorded. full reports whether there are
// as many.
func (s *inflight) Mark(before time.Time, most int) (list []*attempt, full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for a := range s.fresh {
		if s.marks >= most {
			return list, true
		}
		if !a.entered.After(before) {
			s.mark(a)
			list = append(list, a)
		}
	}
	return list, false
}

// MarkOne marks an attempt that runs, even if only for a short time. It returns false if the store must not be
// asked.
func (s *inflight) MarkOne(a *attempt, most int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.entered.IsZero() || a.ended || a.reason == stopLost || a.noted || !a.marked && s.marks >= most {
		return false
	}
	if !a.marked {
		s.mark(a)
	}
	return true
}

// mark marks an attempt. The caller holds mu.
func (s *inflight) mark(a *attempt) {
	a.marked = true
	s.marks++
	delete(s.fresh, a)
}

// Noted records that the store knows that attempts run, and that watchers were notified.
func (s *inflight) Noted(list []*attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range list {
		a.noted = true
	}
	s.Progress.Set() // progress may have waited for this
}

// Unmark undoes Mark, since the store has not answered.
func (s *inflight) Unmark(list []*attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range list {
		if a.marked && !a.ended && s.list[a.Task.ID] == a {
			a.marked = false
			s.marks--
			s.fresh[a] = struct{}{}
			s.ToMark.Set()
		}
	}
}

// Note returns the store.Entered of an attempt; its At is zero if the attempt was not entered.
func (s *inflight) Note(a *attempt) store.Entered {
	s.mu.Lock()
	defer s.mu.Unlock()
	return store.Entered{ID: a.Task.ID, Fence: a.Task.Fence, At: a.entered, Worker: a.worker, Definition: a.definition}
}

// Outcome returns the outcome of an attempt that is given up or was not entered: its task is released, expires, or
// ends cancelled.
func (s *inflight) Outcome(a *attempt, reason stopReason) store.Outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := store.Outcome{ID: a.Task.ID, Fence: a.Task.Fence, Change: task.Release, Unentered: a.entered.IsZero()}
	switch {
	case reason == stopCancelled:
		o.Change = task.Cancel
	case a.isLate(time.Now()):
		o.Change = task.Expire
	}
	return o
}
