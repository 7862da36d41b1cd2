package durable

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/posta-tasks/posta/task"
)

// stopReason is why an attempt's context was ended before its time.
type stopReason uint8

const (
	notStopped     stopReason = iota
	stopCancelling            // someone asked for that
	stopDrained               // the node is about to stop
	stopExpired               // the lease ran out by our clock, and the store could not be asked
	stopLost                  // the store says that the attempt is not ours any more
)

// held is an attempt that this node has, from its claim until its outcome is recorded. What
// changes is guarded by the mutex of hands.
type held struct {
	task   task.Task // as claimed
	until  time.Time // end of the lease, by our clock
	reason stopReason
	ended  bool // its function has returned, or ran out of time

	claimed  time.Time // by our clock; this and the next are guarded by the mutex of ahead
	launched bool      // the executor has it

	progress task.Progress
	untold   bool // to those who watch
	unsaved  bool // in the store
}

// hands is what the node holds. It is safe for concurrent use.
type hands struct {
	mu     sync.Mutex // guards all below, and what changes in a held
	list   map[string]*held
	active int            // attempts that have not ended
	queues map[string]int // those, by queue
	empty  chan struct{}  // closed when list is empty; nil: nobody waits for that
}

func newHands() *hands {
	return &hands{list: make(map[string]*held), queues: make(map[string]int)}
}

// take adds an attempt.
func (s *hands) take(t *task.Task, until time.Time) *held {
	h := &held{task: *t, until: until}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list[t.ID] = h
	s.active++
	s.queues[t.Queue]++
	return h
}

// end notes that an attempt has ended and tells why it was stopped; first is false if
// it had ended before.
func (s *hands) end(h *held) (reason stopReason, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.ended {
		return h.reason, false
	}
	h.ended = true
	s.active--
	if s.queues[h.task.Queue]--; s.queues[h.task.Queue] == 0 {
		delete(s.queues, h.task.Queue)
	}
	if h.reason == stopLost {
		s.drop(h)
	}
	return h.reason, true
}

// stop notes why an attempt shall stop; a reason that is more final replaces another. It is
// false if nothing is new.
func (s *hands) stop(h *held, reason stopReason) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.reason >= reason {
		return false
	}
	h.reason = reason
	return true
}

// isStopped tells whether an attempt shall stop.
func (s *hands) isStopped(h *held) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return h.reason != notStopped
}

// let forgets an attempt: its outcome is recorded, or will never be.
func (s *hands) let(h *held) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(h)
}

// drop takes an attempt out of the list. The caller holds mu.
func (s *hands) drop(h *held) {
	if s.list[h.task.ID] == h {
		delete(s.list, h.task.ID)
	}
	if len(s.list) == 0 && s.empty != nil {
		close(s.empty)
		s.empty = nil
	}
}

// whenEmpty gives a channel that is closed once nothing is held.
func (s *hands) whenEmpty() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.empty == nil {
		s.empty = make(chan struct{})
	}
	empty := s.empty
	if len(s.list) == 0 {
		close(empty)
		s.empty = nil
	}
	return empty
}

func (s *hands) all() []*held {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.list))
}

// running is the number of attempts that have not ended.
func (s *hands) running() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active
}

func (s *hands) runningOf(queue string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queues[queue]
}

func (s *hands) byQueue() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.queues)
}

// find gives the attempt if it is held; any attempt stands for all.
func (s *hands) find(id string, attempt int) *held {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.list[id]; h != nil && h.task.Attempt == attempt {
		return h
	}
	return nil
}
