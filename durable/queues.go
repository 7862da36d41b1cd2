package durable

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// rateWindow is the least time over which a rate is taken.
const rateWindow = 2 * Beat

// Queue is a queue with its counts, as in store.Queue, and what follows from them.
type Queue struct {
	Name                               string
	Paused                             bool
	Scheduled, Queued, Running, Failed int64
	Oldest                             time.Time
	Accepted, Finished                 int64
	RateIn, RateOut                    float64 // tasks accepted and finished a second, over the last ten seconds or so
	Unserved                           bool    // no live node works it
}

// Queues gives every queue, by name.
func (e *Engine) Queues(ctx context.Context) ([]Queue, *task.Error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	found, err := e.config.Store.Queues(ctx)
	if err != nil {
		return nil, readRefusal(err)
	}
	now, list := time.Now(), make([]Queue, len(found))
	for i, q := range found {
		list[i] = Queue{
			Name: q.Name, Paused: q.Paused, Scheduled: q.Scheduled, Queued: q.Queued, Running: q.Running, Failed: q.Failed,
			Oldest: q.Oldest, Accepted: q.Accepted, Finished: q.Finished, Unserved: !e.isWorked(q.Name),
		}
		list[i].RateIn, list[i].RateOut = e.rates.of(now, q)
	}
	return list, nil
}

// Pause stops claims from a queue, or lets them go on. Running tasks finish.
func (e *Engine) Pause(ctx context.Context, queue string, paused bool) *task.Error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := e.config.Store.Pause(ctx, queue, paused); err != nil {
		return refusalOf(err)
	}
	fail.Point("pause.committed")
	if !paused {
		for _, other := range e.hub.members() {
			other.suspects.Store(other.config.Lone)
			other.stir()
		}
	}
	return nil
}

// rates keeps the counts of queues as they were one and two windows ago.
type rates struct {
	mu           sync.Mutex // guards the two below
	older, newer sample
}

// sample is the counts of queues at a time.
type sample struct {
	at     time.Time
	counts map[string][2]int64 // accepted, finished
}

// note keeps counts, if the newest ones are old enough.
func (r *rates) note(now time.Time, list []store.Queue) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.newer.at) < rateWindow {
		return
	}
	r.older, r.newer = r.newer, sample{at: now, counts: make(map[string][2]int64, len(list))}
	for _, q := range list {
		r.newer.counts[q.Name] = [2]int64{q.Accepted, q.Finished}
	}
}

// of gives the rates of a queue since the older sample.
func (r *rates) of(now time.Time, q store.Queue) (in, out float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	since := r.older
	if since.at.IsZero() {
		since = r.newer
	}
	seconds := now.Sub(since.at).Seconds()
	if since.at.IsZero() || seconds < 1 {
		return 0, 0
	}
	before := since.counts[q.Name]
	if q.Accepted < before[0] || q.Finished < before[1] {
		before = [2]int64{} // the queue was forgotten meanwhile
	}
	return float64(q.Accepted-before[0]) / seconds, float64(q.Finished-before[1]) / seconds
}

// isWorked tells whether a live node works a queue.
func (e *Engine) isWorked(queue string) bool {
	return slices.ContainsFunc(e.alive(), func(n store.Node) bool {
		return slices.Contains(n.Queues, queue) || slices.Contains(n.Queues, "*")
	})
}
