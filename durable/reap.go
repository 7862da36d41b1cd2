package durable

import (
	"context"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// tendMost bounds each kind of change of one Tend.
const tendMost = 1_000

// reap does what time brings about until ctx ends: it promotes, expires, takes tasks from
// the dead and deletes. One engine of a hub wakes when something is due; each looks once in a
// beat, so that nothing depends on that one.
func (e *Engine) reap(ctx context.Context) {
	away := awayMin
	for {
		e.nextDue.Store(math.MaxInt64)     // what is accepted from now on may not be in the answer
		next, more, err := e.tendOnce(ctx) // next is never when nothing is due
		wait := e.config.Beat
		if e.config.Shared {
			wait = min(wait, lookEvery) // others accept tasks that we are not told of
		}
		switch {
		case err != nil:
			wait, away = away, min(2*away, awayMax)
		case more:
			wait, away = 0, awayMin
		case e.hub.tends(e):
			wait, away = min(wait, max(next, 0)), awayMin
		}
		if !e.awaitDue(ctx, wait) {
			return
		}
	}
}

// awaitDue waits for so long, or until something is due that was not known of.
func (e *Engine) awaitDue(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	e.dueIn(wait)
	for {
		select {
		case <-timer.C:
			return true
		case <-e.tend:
			timer.Reset(max(0, time.Duration(e.nextDue.Load())-time.Since(e.base)))
		case <-ctx.Done():
			return false
		}
	}
}

// storeNow returns the store's time as far as it is known. Where much depends on it the store decides.
func (e *Engine) storeNow() time.Time {
	return e.config.Now().Add(time.Duration(e.storeAhead.Load()))
}

// dueIn wakes the reaper after some time, if it would not wake before.
func (e *Engine) dueIn(wait time.Duration) {
	due := int64(time.Since(e.base) + wait)
	for {
		next := e.nextDue.Load()
		if next <= due {
			return
		}
		if e.nextDue.CompareAndSwap(next, due) {
			poke(e.tend)
			return
		}
	}
}

// tendOnce makes one call and tells of what it did. It learns how far the store's clock is ahead of ours.
func (e *Engine) tendOnce(ctx context.Context) (next time.Duration, more bool, err error) {
	call, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	fail.Point("tend.asked")
	tended, err := e.config.Store.Tend(call, tendMost)
	if err != nil {
		e.counts.storeAway.Add(1)
		return 0, false, err
	}
	fail.Point("tend.committed")
	e.tended(&tended)
	e.deleteBodies(call, tended.Deleted)
	e.storeAhead.Store(int64(tended.Now.Sub(e.config.Now())))
	if next = never; !tended.Next.IsZero() {
		next = tended.Next.Sub(tended.Now)
	}
	return next, tended.More, nil
}

func (e *Engine) tended(t *store.Tended) {
	for _, list := range [][]task.Task{t.Promoted, t.Reaped} {
		if len(list) > 0 {
			e.tell(list)
			e.publish(pointers(list))
		}
	}
	for _, list := range [][]task.Task{t.Expired, t.Crashed, t.Cancelled} {
		e.tell(list)
		for i := range list {
			e.counts.ended(list[i].State)
		}
	}
	e.logTakeover(t)
	e.counts.reaped.Add(int64(len(t.Reaped)))
	e.counts.crashed.Add(int64(len(t.Crashed)))
	e.counts.deleted.Add(int64(len(t.Deleted)))
	for i := range t.Crashed {
		e.config.Logger.Error("task has killed its process too often", "task", t.Crashed[i].ID, "action", t.Crashed[i].Action)
	}
}

// logTakeover tells the log of tasks whose node has died, or has let their leases end: a line for each node.
func (e *Engine) logTakeover(t *store.Tended) {
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
		e.config.Logger.Warn("the tasks of a node that died are taken over", "from", node, "queued", queued[node], "ended", ended[node])
	}
	for _, node := range slices.Sorted(maps.Keys(lapsed)) {
		e.config.Logger.Warn("the leases of a node that lives have ended; its tasks are queued again", "from", node, "queued", lapsed[node])
	}
}
