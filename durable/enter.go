package durable

import (
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// Enter notes that the action of an attempt is entered now, unless it must not be: since it shall stop, its lease or its
// time is over, or its queue is paused. What it says holds: after SetPaused, Close and Stop nothing of theirs is entered.
func (s *inflight) Enter(h *attempt) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mayEnter(h)
}

// mayEnter is Enter for callers that hold mu.
func (s *inflight) mayEnter(h *attempt) bool {
	now := time.Now()
	if h.ended || h.reason != notStopped || s.closed || s.paused[h.Task.Queue] || !now.Before(h.until) || h.isLate(now) {
		return false
	}
	s.enter(h, now)
	return true
}

// Began tells whether the action of an attempt that has come to something was entered. An attempt that has come to it without
// its action counts as if that had been entered, unless Enter says no.
func (s *inflight) Began(h *attempt) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !h.entered.IsZero() || s.mayEnter(h)
}

// enter notes that an action is entered. The caller holds mu.
func (s *inflight) enter(h *attempt, now time.Time) {
	h.entered = now
	s.runs++
	s.fresh[h] = struct{}{}
	if h.timer != nil {
		h.timer.Stop()
	}
}

// AtExpiry calls expired when an attempt expires before its action is entered.
func (s *inflight) AtExpiry(h *attempt, expired func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !h.expires.IsZero() && h.entered.IsZero() && !h.ended {
		h.timer = time.AfterFunc(time.Until(h.expires), expired)
	}
}

// isLate tells whether an attempt that was not entered has expired. The caller holds mu.
func (h *attempt) isLate(now time.Time) bool {
	return h.entered.IsZero() && !h.expires.IsZero() && !now.Before(h.expires)
}

// SetPaused says which queues are paused: nothing of theirs is entered. The map is never written to.
func (s *inflight) SetPaused(queues map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = queues
}

// Close lets nothing be entered any more.
func (s *inflight) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// Entered is the number of attempts whose actions run.
func (s *inflight) Entered() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runs
}

// Fresh tells whether the store does not know yet of some action that runs.
func (s *inflight) Fresh() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.fresh) > 0
}

// Mark takes attempts that were entered some time ago, of which the store shall note that they run: at most as many as keep
// those that it takes for running within most, since outcomes may wait to be recorded. It tells whether these are as many.
func (s *inflight) Mark(ago time.Duration, most int) (list []*attempt, full bool) {
	before := time.Now().Add(-ago)
	s.mu.Lock()
	defer s.mu.Unlock()
	for h := range s.fresh {
		if s.marks >= most {
			return list, true
		}
		if h.entered.After(before) {
			continue
		}
		h.marked = true
		s.marks++
		delete(s.fresh, h)
		list = append(list, h)
	}
	return list, false
}

// MarkOne is Mark for one attempt, however short a time it runs, which may be marked already. It tells whether the store is
// to be told.
func (s *inflight) MarkOne(h *attempt, most int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.entered.IsZero() || h.ended || h.noted || !h.marked && s.marks >= most {
		return false
	}
	if !h.marked {
		h.marked = true
		s.marks++
		delete(s.fresh, h)
	}
	return true
}

// Noted says that the store has noted of attempts that they run, and those who watch have been told.
func (s *inflight) Noted(list []*attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range list {
		h.noted = true
	}
}

// Unmark takes back that the store was asked, since it gave no answer.
func (s *inflight) Unmark(list []*attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range list {
		if h.marked && !h.ended && s.list[h.Task.ID] == h {
			h.marked = false
			s.marks--
			s.fresh[h] = struct{}{}
		}
	}
}

// Note is what the store is told of an attempt that was entered.
func (s *inflight) Note(h *attempt) store.Entered {
	s.mu.Lock()
	defer s.mu.Unlock()
	return store.Entered{ID: h.Task.ID, Fence: h.Task.Fence, At: h.entered}
}

// Outcome is that of an attempt which is given up, or was not entered: it is given back, or has expired, or someone asked
// for its end.
func (s *inflight) Outcome(h *attempt, reason stopReason) store.Outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := store.Outcome{ID: h.Task.ID, Fence: h.Task.Fence, Change: task.Release, Unentered: h.entered.IsZero()}
	switch {
	case reason == stopCancelled:
		o.Change = task.Cancel
	case h.isLate(time.Now()):
		o.Change = task.Expire
	}
	return o
}

// EnteredAt returns when the action of an attempt was entered; zero if it was not.
func (s *inflight) EnteredAt(h *attempt) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return h.entered
}
