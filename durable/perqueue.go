package durable

import (
	"sync"
	"time"

	"github.com/posta-tasks/posta/task"
)

// otherQueues is the name for all queues beyond the limit. Clients choose names, and a node counts every queue that
// it has seen since its start.
const otherQueues = "other queues"

// waitBuckets is the number of buckets with an upper bound.
const waitBuckets = 12

// waitBounds returns the upper bounds of the histogram of waits.
func waitBounds() [waitBuckets]time.Duration {
	return [waitBuckets]time.Duration{
		10 * time.Millisecond, 50 * time.Millisecond, 250 * time.Millisecond, time.Second, 5 * time.Second, 30 * time.Second,
		time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 6 * time.Hour, 24 * time.Hour,
	}
}

// QueueStats counts the tasks of a queue since the start of the engine.
type QueueStats struct {
	Done, Failed, Cancelled int64   // tasks that this engine ended
	Waits                   []int64 // tasks whose action this engine entered, by their wait: a count for each of WaitBounds, and one for longer waits
	WaitSeconds             float64 // the sum of the waits
}

// perQueue counts by queue. The zero value is ready; it is safe for concurrent use.
type perQueue struct {
	mu     sync.Mutex
	queues map[string]*QueueStats
}

// of returns the counts of a queue, or those of all other queues if there are too many. The caller holds mu.
func (p *perQueue) of(queue string) *QueueStats {
	if p.queues == nil {
		p.queues = map[string]*QueueStats{}
	}
	if len(p.queues) >= task.MaxQueues && p.queues[queue] == nil {
		queue = otherQueues
	}
	q := p.queues[queue]
	if q == nil {
		q = &QueueStats{Waits: make([]int64, waitBuckets+1)}
		p.queues[queue] = q
	}
	return q
}

// note counts tasks that have just ended.
func (p *perQueue) note(tasks []task.Task) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range tasks {
		switch t := &tasks[i]; t.State {
		case task.Done:
			p.of(t.Queue).Done++
		case task.Failed:
			p.of(t.Queue).Failed++
		case task.Cancelled:
			p.of(t.Queue).Cancelled++
		case task.Scheduled, task.Queued, task.Running:
		}
	}
}

// entered counts the wait of a task whose action is entered now, since it was due. It leaves out suspects, since
// they have run meanwhile.
func (p *perQueue) entered(t *task.Task, now time.Time) {
	if t.Suspect {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	q, due := p.of(t.Queue), t.CreatedAt
	if t.RunAt.After(due) {
		due = t.RunAt
	}
	wait := max(now.Sub(due), 0)
	i := 0
	for bounds := waitBounds(); i < len(bounds) && wait > bounds[i]; i++ {
	}
	q.Waits[i]++
	q.WaitSeconds += wait.Seconds()
}

// snapshot copies the counts.
func (p *perQueue) snapshot() map[string]QueueStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make(map[string]QueueStats, len(p.queues))
	for name, q := range p.queues {
		own := *q
		own.Waits = append([]int64(nil), q.Waits...)
		all[name] = own
	}
	return all
}
