package durable

import (
	"context"
	"maps"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/internal/wait"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// maintainMost is the largest number of changes of each kind in one Maintain.
const maintainMost = 1_000

// maintenance does what is due: it queues scheduled tasks, expires tasks, queues the tasks of dead nodes again, and
// deletes old tasks and their bodies.
type maintenance struct {
	*core
	publisher *publisher
	bodies    bodies

	wake    wait.Signal  // something is due earlier than expected
	base    time.Time    // the time that nextDue counts from
	nextDue atomic.Int64 // when Run wakes next, in nanoseconds since base
	swept   time.Time    // when Run has deleted old entries of the audit
}

func newMaintenance(c *core, publisher *publisher, bodies bodies) *maintenance {
	return &maintenance{core: c, publisher: publisher, bodies: bodies, wake: wait.NewSignal(), base: time.Now()}
}

// Run does the maintenance until ctx ends. One engine of a hub wakes when something is due. The others look once in
// a Beat, in case that engine fails.
func (m *maintenance) Run(ctx context.Context) {
	away := awayMin
	for {
		m.nextDue.Store(math.MaxInt64)         // tasks accepted from now on may not be in the answer
		next, more, err := m.maintainOnce(ctx) // next is never if nothing is due
		wait := m.config.Beat
		if m.config.Shared {
			wait = min(wait, lookEvery) // other processes accept tasks without notifying us
		}
		switch {
		case err != nil:
			wait, away = away, min(2*away, awayMax)
		case more:
			wait, away = 0, awayMin
		case m.hub.maintains(m):
			wait, away = min(wait, max(next, 0)), awayMin
		}
		if !m.awaitDue(ctx, wait) {
			return
		}
	}
}

// awaitDue waits for d, or until something is due earlier.
func (m *maintenance) awaitDue(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	m.dueIn(wait)
	for {
		select {
		case <-timer.C:
			return true
		case <-m.wake:
			timer.Reset(max(0, time.Duration(m.nextDue.Load())-time.Since(m.base)))
		case <-ctx.Done():
			return false
		}
	}
}

// dueIn wakes maintenance after d, unless it wakes before.
func (m *maintenance) dueIn(wait time.Duration) {
	due := int64(time.Since(m.base) + wait)
	for {
		next := m.nextDue.Load()
		if next <= due {
			return
		}
		if m.nextDue.CompareAndSwap(next, due) {
			m.wake.Set()
			return
		}
	}
}

// maintainOnce makes one call and publishes its changes. It also updates how far the clock of the store is ahead.
func (m *maintenance) maintainOnce(ctx context.Context) (next time.Duration, more bool, err error) {
	call, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	fail.Point("maintain.asked")
	maintained, err := m.config.Store.Maintain(call, maintainMost)
	if err != nil {
		m.counts.storeAway.Add(1)
		return 0, false, err
	}
	fail.Point("maintain.committed")
	m.logTakeover(&maintained)
	m.maintained(&maintained)
	m.deleteBodies(call, maintained.Deleted)
	m.sweepAudit(call)
	m.storeAhead.Store(int64(maintained.Now.Sub(m.config.Now())))
	if next = never; !maintained.Next.IsZero() {
		next = maintained.Next.Sub(maintained.Now)
	}
	return next, maintained.More, nil
}

func (m *maintenance) maintained(t *store.Maintained) {
	for _, list := range [][]task.Task{t.Promoted, t.Reaped} {
		if len(list) > 0 {
			m.publisher.notify(list)
			m.publisher.publish(pointers(list))
		}
	}
	for _, list := range [][]task.Task{t.Expired, t.Crashed, t.Cancelled} {
		m.publisher.notify(list)
		for i := range list {
			m.counts.count(list[i].State)
		}
	}
	m.counts.reaped.Add(int64(len(t.Reaped)))
	m.counts.crashed.Add(int64(len(t.Crashed)))
	m.counts.deleted.Add(int64(len(t.Deleted)))
	for i := range t.Crashed {
		m.config.Logger.Error("task has killed its process too often", "task", t.Crashed[i].ID, "action", t.Crashed[i].Action)
	}
}

// logTakeover logs a line for each node whose tasks were taken over because it died or its leases ended.
func (m *maintenance) logTakeover(t *store.Maintained) {
	queued, lapsed, ended := map[string]int{}, map[string]int{}, map[string]int{}
	for i := range t.Reaped {
		if t.Reaped[i].Suspect {
			queued[t.Reaped[i].Node]++
		} else {
			lapsed[t.Reaped[i].Node]++
		}
	}
	for _, list := range [][]task.Task{t.Crashed, t.Cancelled} {
		for i := range list {
			ended[list[i].Node]++
		}
	}
	dead := maps.Clone(queued)
	maps.Copy(dead, ended)
	for _, node := range slices.Sorted(maps.Keys(dead)) {
		m.config.Logger.Warn("the tasks of a node that died are taken over", "from", node, "queued", queued[node], "ended", ended[node])
	}
	for _, node := range slices.Sorted(maps.Keys(lapsed)) {
		m.config.Logger.Warn("the leases of a node that lives have ended; its tasks are queued again", "from", node, "queued", lapsed[node])
	}
}

// deleteBodies deletes the bodies of tasks that are deleted.
func (m *maintenance) deleteBodies(ctx context.Context, tasks []task.Task) {
	if err := m.bodies.Delete(ctx, tasks); err != nil {
		m.config.Logger.Warn("bodies of deleted tasks are not deleted yet", "tasks", len(tasks), "error", err)
	}
}

// collectOrphans deletes bodies that no task refers to, once in collectEvery, until ctx ends.
func (m *maintenance) collectOrphans(ctx context.Context) {
	for m.config.Blobs != nil && wait.For(ctx, collectEvery) {
		if !m.hub.maintains(m) {
			continue
		}
		before := m.config.Now().Add(-orphanGrace)
		if err := deleteOrphans(ctx, m.config.Blobs, m.config.Store.Get, before); err != nil && ctx.Err() == nil {
			m.config.Logger.Warn("orphans of blob storage are not collected", "error", err)
		}
		if _, err := m.config.Blobs.RemoveUnfinished(ctx, before); err != nil && ctx.Err() == nil {
			m.config.Logger.Warn("unfinished uploads are not removed", "error", err)
		}
	}
}
