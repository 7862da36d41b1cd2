package durable

import (
	"sync"
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// window is the shortest time over which a rate is measured.
const rateWindow = 2 * task.LeaseRenew

// rates keeps the counts of queues of one and two windows ago. It is safe for concurrent use, and its zero value is
// ready to use.
type rates struct {
	mu           sync.Mutex // guards the fields below
	older, newer rateSample
}

// rateSample has the counts of queues at one time.
type rateSample struct {
	at     time.Time
	counts map[string][2]int64 // accepted, finished
}

// Note stores counts, if the newest ones are old enough.
func (r *rates) Note(now time.Time, list []store.Queue) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.newer.at) < rateWindow {
		return
	}
	r.older, r.newer = r.newer, rateSample{at: now, counts: make(map[string][2]int64, len(list))}
	for _, q := range list {
		r.newer.counts[q.Name] = [2]int64{q.Accepted, q.Finished}
	}
}

// Of returns the rates of a queue since the older sample.
func (r *rates) Of(now time.Time, q store.Queue) (in, out float64) {
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
		before = [2]int64{} // the queue was removed meanwhile
	}
	return float64(q.Accepted-before[0]) / seconds, float64(q.Finished-before[1]) / seconds
}
