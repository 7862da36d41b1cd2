package durable

import (
	"fmt"
	"sync"
	"time"

	"github.com/posta-tasks/posta/internal/wait"
	"github.com/posta-tasks/posta/task"
)

const (
	// pollMost is the largest number of tasks in one WaitedFor. If there are more, they take turns.
	pollMost = 2_000
	// entriesMost is how many entries are kept for a watcher. A slower watcher reads them from the store.
	entriesMost = 64
)

// taskEvent is what engines send each other: a changed task, or the progress of an action. Events may be lost, so a
// subscriber also reads the store from time to time.
type taskEvent struct {
	Task     *task.Task // the task after the change, with only the newest entry of its history; nil: progress
	ID       string
	Queue    string
	Attempt  int
	Progress task.Progress
	Look     bool // the task may have changed: read it from the store
}

// subscriber receives the events of a task.
type subscriber struct {
	Signal wait.Signal // has something when there is something to take

	id      string
	all     bool       // entries and progress, too
	mu      sync.Mutex // guards the field below
	pending received
}

// received is what a subscriber has not taken yet.
type received struct {
	Entries  []task.Entry
	Missed   bool // entries were dropped, or must be read from the store
	Progress *task.Progress
	Attempt  int        // the attempt of Progress
	Final    *task.Task // its ID is empty if the task was deleted
}

// Receive returns what has arrived since its last call.
func (s *subscriber) Receive() received {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.pending
	s.pending = received{}
	return r
}

// keep keeps an event until Receive takes it.
func (s *subscriber) keep(ev *taskEvent) {
	s.mu.Lock()
	r := &s.pending
	switch {
	case ev.Look:
		r.Missed = true
	case ev.Task == nil && s.all:
		p := ev.Progress
		r.Progress, r.Attempt = &p, ev.Attempt
	case ev.Task != nil:
		if s.all && len(r.Entries)+len(ev.Task.History) > entriesMost {
			r.Entries, r.Missed = nil, true
		} else if s.all {
			r.Entries = append(r.Entries, ev.Task.History...)
		}
		if ev.Task.State.Final() || ev.Task.ID == "" {
			r.Final = ev.Task
		}
	}
	s.mu.Unlock()
	s.Signal.Set()
}

// subscribers has the subscribers of all tasks. It is safe for concurrent use.
type subscribers struct {
	most   int
	Some   wait.Signal // set when a subscriber was added
	refuse func(id string) *task.Error

	mu       sync.Mutex // guards the fields below
	byID     map[string][]*subscriber
	count    int
	draining bool
}

// newSubscribers returns an empty set of at most most subscribers. After Drain, Add refuses with draining(id).
func newSubscribers(most int, draining func(id string) *task.Error) *subscribers {
	return &subscribers{
		most: most, refuse: draining, Some: wait.NewSignal(), byID: make(map[string][]*subscriber),
	}
}

// Add adds a subscriber of a task. all means entries and progress too. Refusals: overloaded, draining. The caller
// must call Remove.
func (s *subscribers) Add(id string, all bool) (*subscriber, *task.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return nil, s.refuse(id)
	}
	if s.count >= s.most {
		refusal := task.Refuse(task.Overloaded, "%d waits and watches are open already", s.count)
		refusal.Limit, refusal.RetryAfter = fmt.Sprintf("%d waits", s.most), time.Second
		return nil, refusal
	}
	one := &subscriber{id: id, all: all, Signal: wait.NewSignal()}
	s.byID[id] = append(s.byID[id], one)
	s.count++
	s.Some.Set()
	return one, nil
}

// Remove removes a subscriber.
func (s *subscribers) Remove(one *subscriber) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.byID[one.id]
	for i := range list {
		if list[i] == one {
			list[i] = list[len(list)-1]
			list = list[:len(list)-1]
			s.count--
			break
		}
	}
	if s.byID[one.id] = list; len(list) == 0 {
		delete(s.byID, one.id)
	}
}

// Publish passes events to their subscribers.
func (s *subscribers) Publish(list []taskEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count == 0 {
		return
	}
	for i := range list {
		for _, one := range s.byID[list[i].ID] {
			one.keep(&list[i])
		}
	}
}

// Drain makes Add refuse from now on. It does not notify the subscribers.
func (s *subscribers) Drain() {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
}

// WaitedFor returns the ids of tasks with subscribers. If there are many, each call returns other ones, since the
// order of a map is random.
func (s *subscribers) WaitedFor() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []string
	for id := range s.byID {
		if list = append(list, id); len(list) == pollMost {
			break
		}
	}
	return list
}

// Len returns the number of subscribers.
func (s *subscribers) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}
