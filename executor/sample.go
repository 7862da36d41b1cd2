package executor

import (
	"sync"
	"sync/atomic"
	"time"
)

// observed is how many tasks a second are passed to Observe: as many as a person can read.
const observed = 30

// Event is one task that ended.
type Event struct {
	ID       string // the id as the client sent it; "" without one
	Action   string // the name that the client sent
	Duration time.Duration
	Outcome  Outcome
}

// Summary counts the tasks of a second in which not every task was passed to Observe.
type Summary struct {
	Tasks  int64 // all tasks that ended, including those that were passed to Observe
	Failed int64 // the tasks among them whose result is not ok
	Window time.Duration
}

// sample chooses the tasks that are passed to Observe. Under load it costs a task one read of a variable that
// rarely changes.
type sample struct {
	config *Config
	totals func() [outcomeCount]int64
	muted  atomic.Bool // no more tasks are passed in this second

	mu     sync.Mutex // guards the fields below
	began  time.Time  // when the second began
	seen   int        // tasks in it
	before [outcomeCount]int64
	timer  *time.Timer
}

// wanted reports whether the next task may be passed to Observe.
func (s *sample) wanted() bool { return s.config.Observe != nil && !s.muted.Load() }

// see passes a task to Observe, unless enough tasks were passed in this second.
func (s *sample) see(t Task, action string, outcome Outcome, took int64) {
	if s.wanted() && s.admit() {
		s.config.Observe(Event{ID: string(t.ID), Action: action, Duration: time.Duration(took), Outcome: outcome})
	}
}

// admit counts a task and reports whether it is one of the first of its second.
func (s *sample) admit() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Sub(s.began) >= time.Second {
		s.began, s.seen, s.before = now, 0, s.totals()
	}
	s.seen++
	if s.seen <= observed {
		return true
	}
	if !s.muted.Swap(true) {
		s.timer = time.AfterFunc(s.began.Add(time.Second).Sub(now), s.unmute)
	}
	return false
}

// unmute ends the second and calls Summarize.
func (s *sample) unmute() {
	s.mu.Lock()
	now, after := time.Now(), s.totals()
	sum := Summary{Window: now.Sub(s.began)}
	for outcome := range after {
		n := after[outcome] - s.before[outcome]
		sum.Tasks += n
		if Outcome(outcome) != Done {
			sum.Failed += n
		}
	}
	s.began, s.seen, s.before = now, 0, after
	s.muted.Store(false)
	s.mu.Unlock()
	if s.config.Summarize != nil {
		s.config.Summarize(sum)
	}
}

// close stops the timer.
func (s *sample) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
	}
}
