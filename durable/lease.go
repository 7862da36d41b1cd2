package durable

import (
	"time"
)

// Renewed notes a lease.
func (s *inflight) Renewed(h *attempt, until time.Time) {
	s.mu.Lock()
	h.until = until
	s.mu.Unlock()
}

// LeaseOver tells whether an attempt still runs though its lease is over.
func (s *inflight) LeaseOver(h *attempt, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !h.ended && !now.Before(h.until)
}

// Lose forgets an attempt that has not ended.
func (s *inflight) Lose(h *attempt) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.ended || h.reason == stopLost {
		return false
	}
	h.reason = stopLost
	s.drop(h)
	return true
}

// Suspects gives the suspects that have not been accused.
func (s *inflight) Suspects() (ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, h := range s.list {
		if h.Task.Suspect && h.Task.Crashes == 0 {
			ids = append(ids, id)
		}
	}
	return ids
}
