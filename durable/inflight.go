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

// The reasons; one that is more final comes later.
const (
	notStopped    stopReason = iota // it was not
	stopCancelled                   // someone asked for that
	stopDrained                     // the node is about to stop
	stopLeaseOver                   // the lease ran out by our clock, and the store could not be asked
	stopLost                        // the store says that the attempt is not ours any more
)

// attempt is an attempt that this node has, from its claim until its outcome is recorded. What
// changes is guarded by the mutex of inflight.
type attempt struct {
	Task    task.Task // as claimed, but for Attempt: that which it will be when its action is entered
	expires time.Time // when it must have been entered, by our clock; zero: whenever it may be
	until   time.Time // end of the lease, by our clock
	entered time.Time // its action was; zero: not yet
	reason  stopReason
	timer   *time.Timer // ends it when it expires; nil: none
	marked  bool        // the store has been asked to note that it was entered
	noted   bool        // and has done so
	ended   bool        // its function has returned, or ran out of time

	Claimed  time.Time // by our clock; this and the next two are guarded by who claims ahead
	Launched time.Time // when the executor got it; zero: it waits
	Left     bool      // it has ended

	progress task.Progress
	untold   bool // to those who watch
	unsaved  bool // in the store
	doubtful bool // somebody says that it shall stop
}

// inflight is what the node holds. It is safe for concurrent use.
type inflight struct {
	mu      sync.Mutex // guards all below, and what changes in a attempt
	list    map[string]*attempt
	active  int            // attempts that have not ended
	queues  map[string]int // those, by queue
	actions map[string]int // those, by action
	paused  map[string]bool
	closed  bool                  // nothing is entered any more
	fresh   map[*attempt]struct{} // entered, not ended and not marked
	runs    int                   // entered, and not ended
	marks   int                   // marked, and not forgotten yet
	empty   chan struct{}         // closed when list is empty; nil: nobody waits for that
}

// New makes hands that hold nothing.
func newInflight() *inflight {
	return &inflight{list: make(map[string]*attempt), queues: make(map[string]int), actions: make(map[string]int), fresh: make(map[*attempt]struct{})}
}

// Take adds a task that was claimed just now, until the end of its lease by our clock.
func (s *inflight) Take(t *task.Task, until time.Time) *attempt {
	h := &attempt{Task: *t, until: until}
	if t.Attempt == 0 && !t.Expires.IsZero() {
		// How much time there was when it was claimed the store's clock tells. That was before now, so this is never too early.
		h.expires = time.Now().Add(t.Expires.Sub(t.Lease) + task.LeaseTime)
	}
	h.Task.Attempt++
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list[t.ID] = h
	s.active++
	s.queues[t.Queue]++
	s.actions[t.Action]++
	return h
}

// End notes that an attempt has ended and tells why it was stopped; first is false if
// it had ended before.
func (s *inflight) End(h *attempt) (reason stopReason, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end(h)
}

// end is End for callers that hold mu.
func (s *inflight) end(h *attempt) (reason stopReason, first bool) {
	if h.ended {
		return h.reason, false
	}
	if h.ended = true; h.timer != nil {
		h.timer.Stop()
	}
	if s.active--; !h.entered.IsZero() {
		s.runs--
		delete(s.fresh, h)
	}
	if s.queues[h.Task.Queue]--; s.queues[h.Task.Queue] == 0 {
		delete(s.queues, h.Task.Queue)
	}
	if s.actions[h.Task.Action]--; s.actions[h.Task.Action] == 0 {
		delete(s.actions, h.Task.Action)
	}
	if h.reason == stopLost {
		s.drop(h)
	}
	return h.reason, true
}

// EndUnentered is End for an attempt that ends only if its action was not entered.
func (s *inflight) EndUnentered(h *attempt) (reason stopReason, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !h.entered.IsZero() {
		return notStopped, false
	}
	return s.end(h)
}

// Stop notes why an attempt shall stop; a reason that is more final replaces another. It is
// false if nothing is new.
func (s *inflight) Stop(h *attempt, reason stopReason) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.reason >= reason {
		return false
	}
	h.reason = reason
	return true
}

// IsStopped tells whether an attempt shall stop.
func (s *inflight) IsStopped(h *attempt) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return h.reason != notStopped
}

// Let forgets an attempt: its outcome is recorded, or will never be.
func (s *inflight) Let(h *attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(h)
}

// drop takes an attempt out of the list. The caller holds mu.
func (s *inflight) drop(h *attempt) {
	if s.list[h.Task.ID] == h {
		delete(s.list, h.Task.ID)
	}
	if h.marked {
		h.marked = false
		s.marks--
	}
	if len(s.list) == 0 && s.empty != nil {
		close(s.empty)
		s.empty = nil
	}
}

// WhenEmpty gives a channel that is closed once nothing is held.
func (s *inflight) WhenEmpty() <-chan struct{} {
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

// All gives what is held.
func (s *inflight) All() []*attempt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.list))
}

// Running is the number of attempts that have not ended.
func (s *inflight) Running() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active
}

// RunningOf is the number of those of a queue.
func (s *inflight) RunningOf(queue string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queues[queue]
}

// RunningAction is the number of those of an action.
func (s *inflight) RunningAction(action string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.actions[action]
}

// ByQueue is the number of those of each queue that has any.
func (s *inflight) ByQueue() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.queues)
}

// Find gives the attempt of a claim, if it is held.
func (s *inflight) Find(id string, fence int) *attempt {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.list[id]; h != nil && h.Task.Fence == fence {
		return h
	}
	return nil
}

// Has tells whether a task is held.
func (s *inflight) Has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list[id] != nil
}

// Doubt notes that an attempt of a task may be one that shall stop, if it is here.
func (s *inflight) Doubt(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.list[id]
	if h == nil || h.reason != notStopped {
		return false
	}
	h.doubtful = true
	return true
}

// Doubtful takes the attempts that may be such.
func (s *inflight) Doubtful() []*attempt {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*attempt
	for _, h := range s.list {
		if h.doubtful {
			list = append(list, h)
		}
		h.doubtful = false
	}
	return list
}
