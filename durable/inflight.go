package durable

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/posta-tasks/posta/internal/wait"
	"github.com/posta-tasks/posta/task"
)

// stopReason is why an attempt must stop.
type stopReason uint8

// The reasons. A later one replaces an earlier one.
const (
	notStopped    stopReason = iota
	stopCancelled            // a client cancelled the task
	stopDrained              // the node is about to stop
	stopLeaseOver            // the lease ended by the clock of this node, and the store did not answer
	stopLost                 // the store reported that this node no longer has the lease
)

// attempt is one attempt of a task on this node, from its claim until its outcome is recorded. The mutex of inflight
// guards all fields but Task, which does not change, and turn.
type attempt struct {
	Task       task.Task   // as claimed. Its Attempt is the number that it will have when its action is entered
	expires    time.Time   // when the attempt expires unless its action was entered, by the clock of this node; zero: never
	until      time.Time   // the end of the lease, by the clock of this node
	entered    time.Time   // when its action was entered; zero: not yet
	definition string      // of the action that was entered
	reason     stopReason  // why it must stop
	timer      *time.Timer // ends it at its expiry; nil: none
	marked     bool        // the store was asked to record that it runs
	noted      bool        // the store has recorded that
	ended      bool        // its action has returned, or the attempt was given up

	progress  task.Progress
	unsent    bool // progress that watchers do not have
	unsaved   bool // progress that the store does not have
	toRecheck bool // another node has reported that it must stop; the store decides

	turn turn // guarded by prefetch

	// What follows is set before the attempt is in the table, or on its way to a worker.
	ahead  *prefetch // that the attempt waits in, if a worker is to run it; nil: the node runs it
	lease  string    // the worker's name for the claim
	worker string
}

// inflight is the table of attempts on this node. It makes no decisions: the parts of the engine claim, renew, stop
// and record attempts. It is safe for concurrent use.
type inflight struct {
	ToMark    wait.Signal // an action was entered, or another one may be marked
	Progress  wait.Signal // there may be progress for watchers
	ToRecheck wait.Signal // there are attempts for TakeToRecheck

	mu      sync.Mutex // guards the fields below, and those of attempts
	list    map[string]*attempt
	active  int            // attempts of the node that have not ended
	remote  int            // attempts of workers that have not ended
	queues  map[string]int // those, by queue
	actions map[string]int // those, by action
	paused  map[string]bool
	closed  bool                  // Enter returns false
	fresh   map[*attempt]struct{} // entered, not ended and not marked
	runs    int                   // entered and not ended
	marks   int                   // marked and not forgotten
	empty   chan struct{}         // closed when list is empty; nil: nothing waits for that
}

// newInflight returns an empty table.
func newInflight() *inflight {
	return &inflight{
		ToMark: wait.NewSignal(), Progress: wait.NewSignal(), ToRecheck: wait.NewSignal(),
		list: make(map[string]*attempt), queues: make(map[string]int), actions: make(map[string]int), fresh: make(map[*attempt]struct{}),
	}
}

// Add adds a task that was just claimed. until is the end of its lease by the clock of this node.
func (s *inflight) Add(t *task.Task, until time.Time) *attempt { return s.AddRemote(t, until, nil) }

// AddRemote is Add for a task that a worker is to run. ahead is what its attempt waits in.
func (s *inflight) AddRemote(t *task.Task, until time.Time, ahead *prefetch) *attempt {
	a := &attempt{Task: *t, until: until, ahead: ahead}
	if t.Attempt == 0 && !t.Expires.IsZero() {
		// The times of the store give the time that was left at the claim. The claim was before now, so this is
		// never too early.
		a.expires = time.Now().Add(t.Expires.Sub(t.Lease) + task.LeaseTime)
	}
	a.Task.Attempt++
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add(a)
	return a
}

// Adopt adds an attempt that a worker has begun on another node.
func (s *inflight) Adopt(t *task.Task, until time.Time, ahead *prefetch) *attempt {
	a := &attempt{Task: *t, until: until, ahead: ahead, entered: time.Now(), noted: true}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add(a)
	s.runs++
	return a
}

// add adds an attempt. The caller holds mu.
func (s *inflight) add(a *attempt) {
	t := &a.Task
	s.list[t.ID] = a
	if a.ahead == nil {
		s.active++
	} else {
		s.remote++
	}
	s.queues[t.Queue]++
	s.actions[t.Action]++
}

// End records that an attempt has ended and returns why it was stopped. first is false if it had ended before.
func (s *inflight) End(a *attempt) (reason stopReason, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end(a)
}

// EndUnentered is End for an attempt whose action was not entered. For others it does nothing.
func (s *inflight) EndUnentered(a *attempt) (reason stopReason, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !a.entered.IsZero() {
		return notStopped, false
	}
	return s.end(a)
}

// end implements End. The caller holds mu.
func (s *inflight) end(a *attempt) (reason stopReason, first bool) {
	if a.ended {
		return a.reason, false
	}
	if a.ended = true; a.timer != nil {
		a.timer.Stop()
	}
	if a.ahead == nil {
		s.active--
	} else {
		s.remote--
	}
	if !a.entered.IsZero() {
		s.runs--
		delete(s.fresh, a)
	}
	if s.queues[a.Task.Queue]--; s.queues[a.Task.Queue] == 0 {
		delete(s.queues, a.Task.Queue)
	}
	if s.actions[a.Task.Action]--; s.actions[a.Task.Action] == 0 {
		delete(s.actions, a.Task.Action)
	}
	if a.reason == stopLost {
		s.drop(a)
	}
	return a.reason, true
}

// Stop records why an attempt must stop. It returns false if the reason is not stronger than the one before.
func (s *inflight) Stop(a *attempt, reason stopReason) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.reason >= reason {
		return false
	}
	a.reason = reason
	return true
}

// IsStopped reports whether an attempt must stop.
func (s *inflight) IsStopped(a *attempt) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return a.reason != notStopped
}

// Lose records that the store has given the lease of an attempt to another claim, and removes the attempt. It
// returns false if the attempt has ended or was lost before.
func (s *inflight) Lose(a *attempt) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.ended || a.reason == stopLost {
		return false
	}
	a.reason = stopLost
	s.drop(a)
	return true
}

// Forget removes an attempt once its outcome is recorded, or cannot be.
func (s *inflight) Forget(a *attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(a)
}

// drop removes an attempt. The caller holds mu.
func (s *inflight) drop(a *attempt) {
	if s.list[a.Task.ID] == a {
		delete(s.list, a.Task.ID)
	}
	delete(s.fresh, a)
	if a.marked {
		a.marked = false
		s.marks--
		s.ToMark.Set()
	}
	if len(s.list) == 0 && s.empty != nil {
		close(s.empty)
		s.empty = nil
	}
}

// WhenEmpty returns a channel that is closed once the table is empty.
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

// Renewed sets the new end of a lease.
func (s *inflight) Renewed(a *attempt, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a.until = until
}

// LeaseOver reports whether an attempt has not ended and its lease will have ended at a time.
func (s *inflight) LeaseOver(a *attempt, at time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !a.ended && !at.Before(a.until)
}

// All returns all attempts.
func (s *inflight) All() []*attempt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.list))
}

// Remote returns the number of attempts of workers that have not ended.
func (s *inflight) Remote() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remote
}

// Active returns the number of attempts of the node itself that have not ended.
func (s *inflight) Active() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active
}

// ActiveIn returns the number of attempts of a queue that have not ended.
func (s *inflight) ActiveIn(queue string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queues[queue]
}

// ActiveOf returns the number of attempts of an action that have not ended.
func (s *inflight) ActiveOf(action string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.actions[action]
}

// ActiveByQueue returns these numbers for each queue that has any.
func (s *inflight) ActiveByQueue() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.queues)
}

// Find returns the attempt of a claim; nil if it is not in the table.
func (s *inflight) Find(id string, fence int) *attempt {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.list[id]; a != nil && a.Task.Fence == fence {
		return a
	}
	return nil
}

// Has reports whether the table has an attempt of a task.
func (s *inflight) Has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list[id] != nil
}

// AllSuspects returns the ids of all suspects.
func (s *inflight) AllSuspects() (ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, a := range s.list {
		if a.Task.Suspect {
			ids = append(ids, id)
		}
	}
	return ids
}

// RemoteSuspects returns the ids of the suspects that workers have.
func (s *inflight) RemoteSuspects() (ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, a := range s.list {
		if a.Task.Suspect && a.ahead != nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// Suspects returns the ids of the suspects that run on the node itself and are not in quarantine.
func (s *inflight) Suspects() (ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, a := range s.list {
		if a.Task.Suspect && a.Task.Crashes == 0 && a.ahead == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// Recheck marks the attempt of a task, if there is one, to be checked with the store: another node reported that it
// must stop.
func (s *inflight) Recheck(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.list[id]; a != nil && a.reason == notStopped {
		a.toRecheck = true
		s.ToRecheck.Set()
	}
}

// TakeToRecheck returns the attempts to check with the store, and clears their marks.
func (s *inflight) TakeToRecheck() []*attempt {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*attempt
	for _, a := range s.list {
		if a.toRecheck {
			list = append(list, a)
		}
		a.toRecheck = false
	}
	return list
}
