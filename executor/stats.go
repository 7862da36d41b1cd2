package executor

import (
	"sync/atomic"
	"time"
)

// slowAt is the score from which an action counts as slow. A task that takes too long for a lane adds slowStep, and
// a quick one subtracts 1. So an action runs in slots if more than about one in eight of its tasks takes long.
const (
	slowAt   = 16
	slowStep = 8
	slowMost = 64
)

// bounds are the upper bounds of the buckets of the duration histogram.
var bounds = [...]time.Duration{
	50 * time.Microsecond, 100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond,
	25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond,
	500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
	30 * time.Second, time.Minute, 5 * time.Minute,
	15 * time.Minute, time.Hour, 6 * time.Hour, 24 * time.Hour, // up to the longest timeout of a durable task
}

// bucketOf returns the bucket of a duration in nanoseconds. The last bucket has no bound.
func bucketOf(took int64) int {
	for i, bound := range bounds {
		if took <= int64(bound) {
			return i
		}
	}
	return len(bounds)
}

// actionStats counts the tasks of one action.
type actionStats struct {
	outcomes [outcomeCount]atomic.Int64
	buckets  [len(bounds) + 1]atomic.Int64
	sum      atomic.Int64 // nanoseconds
	slow     atomic.Int32
	_        [64]byte // puts each action on its own cache lines
}

// count counts one task.
func (s *actionStats) count(outcome Outcome, took int64) {
	s.outcomes[outcome].Add(1)
	s.buckets[bucketOf(took)].Add(1)
	s.sum.Add(took)
}

// outlived counts a task that took too long for a lane.
func (s *actionStats) outlived() {
	if s.slow.Load() < slowMost {
		s.slow.Add(slowStep)
	}
}

// wasQuick counts a task that was quick enough for a lane.
func (s *actionStats) wasQuick() {
	if s.slow.Load() > 0 {
		s.slow.Add(-1)
	}
}

// tally counts tasks of one action at a time without writing to shared memory.
type tally struct {
	stats    *actionStats
	outcomes [outcomeCount]int64
	buckets  [len(bounds) + 1]int64
	sum      int64
}

// begin starts to count for another action.
func (t *tally) begin(stats *actionStats) {
	t.flush()
	t.stats = stats
}

// time adds tasks that took each nanoseconds each.
func (t *tally) time(tasks, each int64) {
	t.buckets[bucketOf(each)] += tasks
	t.sum += tasks * each
}

// flush adds the counts to the shared counters.
func (t *tally) flush() {
	if t.stats == nil {
		return
	}
	for i, n := range t.outcomes {
		if n > 0 {
			t.stats.outcomes[i].Add(n)
		}
	}
	for i, n := range t.buckets {
		if n > 0 {
			t.stats.buckets[i].Add(n)
		}
	}
	t.stats.sum.Add(t.sum)
	*t = tally{}
}

// Stuck returns how many functions run although their timeout has passed.
func (e *Executor) Stuck() int { return int(e.stuck.now.Load()) }

// stuckCount counts stuck functions: those of this moment, and all since the start.
type stuckCount struct{ now, ever atomic.Int64 }

func (c *stuckCount) add(n int64) {
	c.now.Add(n)
	if n > 0 {
		c.ever.Add(n)
	}
}

// Stats is a snapshot of an executor.
type Stats struct {
	Slots, SlotsBusy      int
	QuickSlots, QuickBusy int
	Waiting               int   // tasks that wait for a slot
	Stuck                 int   // functions that run although their timeout has passed
	StuckEver             int64 // all such functions since the start
	Bounds                []float64
	ByAction              map[string]ActionStats // Unknown has all tasks of actions that are not registered
}

// ActionStats counts the tasks of one action since the start.
type ActionStats struct {
	Done, Failed, Panicked, TimedOut, Cancelled int64
	Buckets                                     []int64 // not cumulative; one more than Bounds
	SumSeconds                                  float64
}

// Unknown is the name under which tasks with an unregistered action are counted.
const Unknown = "unknown"

// Stats returns a snapshot.
func (e *Executor) Stats() Stats {
	permits := e.pool.Stats()
	s := Stats{
		Slots: permits.Slots, SlotsBusy: permits.Busy,
		QuickSlots: permits.Quick, QuickBusy: permits.QuickBusy,
		Waiting: permits.Waiting, Stuck: int(e.stuck.now.Load()), StuckEver: e.stuck.ever.Load(),
		ByAction: map[string]ActionStats{},
	}
	for _, bound := range bounds {
		s.Bounds = append(s.Bounds, bound.Seconds())
	}
	e.names.mu.Lock()
	defer e.names.mu.Unlock()
	for name, known := range e.names.all {
		s.ByAction[name] = known.snapshot()
	}
	s.ByAction[Unknown] = e.unknown.snapshot()
	return s
}

func (s *actionStats) snapshot() ActionStats {
	var buckets []int64
	for i := range s.buckets {
		buckets = append(buckets, s.buckets[i].Load())
	}
	return ActionStats{
		Done: s.outcomes[Done].Load(), Failed: s.outcomes[Failed].Load(), Panicked: s.outcomes[Panicked].Load(),
		TimedOut: s.outcomes[TimedOut].Load(), Cancelled: s.outcomes[Cancelled].Load(),
		Buckets: buckets, SumSeconds: time.Duration(s.sum.Load()).Seconds(),
	}
}

// tasks returns the number of tasks that have ended, by outcome.
func (e *Executor) tasks() (total [outcomeCount]int64) {
	e.names.mu.Lock()
	defer e.names.mu.Unlock()
	for o := range total {
		total[o] = e.unknown.outcomes[o].Load()
		for _, known := range e.names.all {
			total[o] += known.outcomes[o].Load()
		}
	}
	return total
}
