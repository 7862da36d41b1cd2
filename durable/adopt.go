package durable

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/worker"
)

// claimOfLease parses a lease into the id and the fence of its claim. It returns false if the lease is not one of a durable
// task.
func claimOfLease(lease string) (id string, fence int, ok bool) {
	id, text, _ := strings.Cut(lease, ".")
	fence, err := strconv.Atoi(text)
	return id, fence, err == nil && fence > 0
}

// Adopt takes over tasks that a worker began while it was connected to another node, or before this process started. It
// returns the leases that are still valid. From now on this node renews them, and the other node forgets them.
// It leaves out tasks that may does not allow.
func (e *Engine) Adopt(ctx context.Context, s *worker.Stream, leases []string, may func(t *task.Task) bool) (adopted []string, refusal *task.Error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	var ids []string
	fences := map[string]int{}
	for _, lease := range leases {
		if id, fence, ok := claimOfLease(lease); ok && fences[id] == 0 {
			ids, fences[id] = append(ids, id), fence
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
		if answers[i].err == nil && t.IsLeased() && t.Fence == fences[ids[i]] && !e.attempts.Has(t.ID) && may(&t) {
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
			adopted = append(adopted, e.dispatcher.adopt(s, &tasks[i], until, renewed[i].Cancelling))
		}
	}
	return slices.DeleteFunc(adopted, func(lease string) bool { return lease == "" }), nil
}

// adopt adds an attempt that a worker began on another node to the stream of the worker. It returns the lease, or "" if the
// stream has ended.
func (d *dispatcher) adopt(s *worker.Stream, t *task.Task, until time.Time, cancelling bool) string {
	rest := t.Timeout
	if t.State == task.Running {
		rest -= d.storeNow().Sub(t.StartedAt)
	} else { // the other node has not recorded yet that it was entered
		t.Attempt++
	}
	a := d.attempts.Adopt(t, until, newPrefetch(0, func() {}))
	a.worker = s.Name
	if !s.Adopt(d.remoteTask(a), rest) {
		if _, first := d.attempts.End(a); first {
			d.attempts.Forget(a)
		}
		return ""
	}
	if cancelling {
		d.launcher.stop(a, stopCancelled)
	}
	return a.lease
}

// TaskOfLease returns the task of a lease. It refuses a lease whose attempt is over, and a task that may does not allow as
// one that does not exist.
func (e *Engine) TaskOfLease(ctx context.Context, lease string, may func(t *task.Task) bool) (task.Task, *task.Error) {
	id, fence, ok := claimOfLease(lease)
	if !ok {
		return task.Task{}, worker.RefuseUnknown(lease)
	}
	t, refusal := e.get(ctx, id)
	if refusal == nil && !may(&t) {
		return task.Task{}, RefuseNotFound(id)
	}
	if refusal == nil && (t.Fence != fence || !t.IsLeased()) {
		refusal = refuseStale(&t, fence)
	}
	return t, refusal
}

// FinishLease records the outcome of an attempt that no worker of this process holds: its node has died, its worker is
// connected to another node, or an action of a node leaves its outcome to somebody else. The guard of the store decides whether the outcome counts. may is that of
// TaskOfLease. FinishLease calls ending.Reply once, perhaps after it has returned.
func (e *Engine) FinishLease(ctx context.Context, lease string, ending worker.Ending, may func(t *task.Task) bool) {
	t, refusal := e.TaskOfLease(ctx, lease, may)
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
