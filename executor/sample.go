package executor

import (
	"sync"
	"sync/atomic"
	"time"
)

// observed is how many tasks a second Observe is told of: as many as a person can read.
const observed = 30

// Event is one task that ended.
type Event struct {
	ID       string // the client's id as it was sent; "" when there was none
	Action   string // as the client named it
	Duration time.Duration
	Outcome  Outcome
}

// Summary is what ended in a second in which not every task was told of.
type Summary struct {
	Tasks  int64 // all that ended, those that Observe was told of included
	Failed int64 // of these, the ones whose result is not ok
	Window time.Duration
}

// sample decides which tasks Observe is told of. Under load it costs a task one read of
// a variable that hardly ever changes.
type sample struct {
	config *Config
	totals func() [outcomeCount]int64
	muted  atomic.Bool // no more in this second

	mu     sync.Mutex // guards the rest
	began  time.Time  // of the second
	seen   int        // in it
	before [outcomeCount]int64
	timer  *time.Timer
}

// wanted reports whether Observe might want to be told of the next task.
func (s *sample) wanted() bool { return s.config.Observe != nil && !s.muted.Load() }

// see tells Observe of a task, unless enough have been told of in this second.
func (s *sample) see(t Task, action string, outcome Outcome, took int64) {
	if s.wanted() && s.admit() {
		s.config.Observe(Event{ID: string(t.ID), Action: action, Duration: time.Duration(took), Outcome: outcome})
	}
}

// admit counts a task and tells whether it is one of the first of its second.
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

// unmute ends the second and sums it up.
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

// close ends the timer.
func (s *sample) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
	}
}
