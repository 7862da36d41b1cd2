package durable

import (
	"context"
	"time"

	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/worker"
)

// Adopt takes over tasks that a worker began while it was connected to another node, or before this process started. It
// returns the leases that are still valid. From now on this node renews them, and the other node forgets them.
// It leaves out leases of other holders.
func (e *Engine) Adopt(ctx context.Context, s *worker.Stream, leases []string, holder Holder) (adopted []string, refusal *task.Error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	var ids []string
	claims := map[string]lease{}
	for _, text := range leases {
		if l, ok := parseLease(text); ok && claims[l.task].task == "" && e.holds(holder, l) {
			ids, claims[l.task] = append(ids, l.task), l
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	answers, err := e.reads.Ask(ctx, ids)
	if err != nil {
		return nil, e.readRefusal(err)
	}
	var held []store.Held
	var tasks []task.Task
	for i := range answers {
		t := answers[i].task
		if answers[i].err == nil && t.IsLeased() && t.Fence == claims[t.ID].fence && !e.attempts.Has(t.ID) && holder.May(&t) {
			held, tasks = append(held, store.Held{ID: t.ID, Fence: t.Fence}), append(tasks, t)
		}
	}
	if len(held) == 0 {
		return nil, nil
	}
	until := leaseEnd()
	fail.Point("adopt.asked")
	renewed, err := e.config.Store.Adopt(ctx, e.config.Node, held)
	if err != nil {
		return nil, e.refusalOf(err)
	}
	fail.Point("adopt.committed")
	for i := range renewed {
		if !renewed[i].Lost {
			if lease := claims[tasks[i].ID].text; e.dispatcher.adopt(s, lease, &tasks[i], until, renewed[i].Cancelling) {
				adopted = append(adopted, lease)
			}
		}
	}
	return adopted, nil
}

// adopt adds an attempt that a worker began on another node to the stream of the worker. It returns false if the stream has
// ended.
func (d *dispatcher) adopt(s *worker.Stream, lease string, t *task.Task, until time.Time, cancelling bool) bool {
	rest := t.Timeout
	if t.State == task.Running {
		rest -= d.storeNow().Sub(t.StartedAt)
	} else { // the other node has not recorded yet that it was entered
		t.Attempt++
	}
	a := d.attempts.Adopt(t, until, newPrefetch(0, func() {}))
	a.worker, a.lease = s.Name, lease
	if !s.Adopt(d.remoteTask(a, lease), rest) {
		if _, first := d.attempts.End(a); first {
			d.attempts.Forget(a)
		}
		return false
	}
	if cancelling {
		d.launcher.stop(a, stopCancelled)
	}
	return true
}

// TaskOfLease returns the task of a lease. It refuses a lease whose attempt is over as stale, and a lease of another holder. A
// task that the holder may not have is refused as not found.
func (e *Engine) TaskOfLease(ctx context.Context, text string, holder Holder) (task.Task, *task.Error) {
	l, ok := parseLease(text)
	if !ok {
		return task.Task{}, worker.RefuseUnknown(text)
	}
	if !e.holds(holder, l) {
		return task.Task{}, worker.RefuseForeign(text)
	}
	t, refusal := e.get(ctx, l.task)
	if refusal == nil && !holder.May(&t) {
		return task.Task{}, RefuseNotFound(l.task)
	}
	if refusal == nil && (t.Fence != l.fence || !t.IsLeased()) {
		refusal = refuseStale(&t, l.fence)
	}
	return t, refusal
}

// FinishLease records the outcome of an attempt that no worker of this process holds: its node has died, its worker is
// connected to another node, or an action of a node has answered that its outcome comes later. It refuses what
// TaskOfLease refuses, and the guard of the store decides whether the outcome counts. FinishLease calls ending.Reply once,
// perhaps after it has returned.
func (e *Engine) FinishLease(ctx context.Context, lease string, holder Holder, ending worker.Ending) {
	t, refusal := e.TaskOfLease(ctx, lease, holder)
	if refusal != nil {
		ending.Reply("", nil, refusal)
		return
	}
	if a := e.attempts.Find(t.ID, t.Fence); a != nil && a.ahead == nil {
		e.dispatcher.finishOwn(a, ending)
		return
	}
	if t.Reserved != "" {
		t.Attempt++
	}
	a := &attempt{Task: t, lease: lease, worker: ending.Worker}
	reason := notStopped
	if t.Cancelling {
		reason = stopCancelled
	}
	e.dispatcher.finish(a, reason, ending)
}
