package durable

import (
	"fmt"
	"sync"
	"time"

	"github.com/posta-tasks/posta/internal/wait"
	"github.com/posta-tasks/posta/task"
)

const (
	// pollMost bounds the tasks of one WaitedFor; if there are more, they take turns.
	pollMost = 2_000
	// entriesMost bounds the entries that are kept for one who watches; who is slower than that
	// gets them from the store.
	entriesMost = 64
)

// taskEvent is what engines tell each other: a task that has changed, or what an action said.
// Events may be lost; whoever waits for one also looks at the store now and then.
type taskEvent struct {
	Task     *task.Task // as it is after the change, of its history the newest entry; nil: progress
	ID       string
	Queue    string
	Attempt  int
	Progress task.Progress
	Look     bool // nothing is known but that it is time to look at the store
}

// subscriber is somebody who wants to hear of a task.
type subscriber struct {
	Signal wait.Signal // has something when there is something to take

	id    string
	all   bool       // entries and progress, too
	mu    sync.Mutex // guards the one below
	heard received
}

// received is what a subscriber has not taken yet.
type received struct {
	Entries  []task.Entry
	Missed   bool // entries were more than are kept, or are to be read from the store
	Progress *task.Progress
	Attempt  int        // of the progress
	Final    *task.Task // with an empty ID: it was deleted
}

// Receive returns what was received since it was last called.
func (s *subscriber) Receive() received {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.heard
	s.heard = received{}
	return h
}

// hear keeps an event until it is taken.
func (s *subscriber) hear(ev *taskEvent) {
	s.mu.Lock()
	h := &s.heard
	switch {
	case ev.Look:
		h.Missed = true
	case ev.Task == nil && s.all:
		p := ev.Progress
		h.Progress, h.Attempt = &p, ev.Attempt
	case ev.Task != nil:
		if s.all && len(h.Entries)+len(ev.Task.History) > entriesMost {
			h.Entries, h.Missed = nil, true
		} else if s.all {
			h.Entries = append(h.Entries, ev.Task.History...)
		}
		if ev.Task.State.Final() || ev.Task.ID == "" {
			h.Final = ev.Task
		}
	}
	s.mu.Unlock()
	s.Signal.Set()
}

// subscribers is all who want to hear of tasks. It is safe for concurrent use.
type subscribers struct {
	most   int
	Some   wait.Signal // has something when somebody has come
	refuse func(id string) *task.Error

	mu       sync.Mutex // guards all below
	byID     map[string][]*subscriber
	count    int
	draining bool
}

// New makes an audience of at most so many. After Drain, whoever comes gets draining(id).
func newSubscribers(most int, draining func(id string) *task.Error) *subscribers {
	return &subscribers{
		most: most, refuse: draining, Some: wait.NewSignal(), byID: make(map[string][]*subscriber),
	}
}

// Add lets somebody hear of a task; all means entries and progress, too. Refusals: overloaded, draining.
// Whoever has heard enough is removed.
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

// Remove takes somebody out.
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

// Publish passes events on to whoever wants them.
func (s *subscribers) Publish(list []taskEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count == 0 {
		return
	}
	for i := range list {
		for _, one := range s.byID[list[i].ID] {
			one.hear(&list[i])
		}
	}
}

// Drain refuses who comes from now on; who is there is told by somebody else.
func (s *subscribers) Drain() {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
}

// WaitedFor returns ids of tasks that somebody wants to hear of; when there are many, another
// selection each time, as the order of a map is.
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

// Len is how many want to hear.
func (s *subscribers) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}
