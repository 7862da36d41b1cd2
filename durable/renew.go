package durable

import (
	"context"
	"time"

	"github.com/posta-tasks/posta/durable/batch"
	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// renewMost bounds the leases of one Renew.
const renewMost = 1_024

// renew keeps the leases of what the node holds, and its row in the register of nodes, until
// ctx ends. Each beat also has the engine look for what it was not told of.
func (e *Engine) renew(ctx context.Context) {
	for wait := e.config.Beat; e.untilBeat(ctx, wait); {
		wait = e.config.Beat
		if renewed, beaten := e.renewThese(ctx, e.hands.All()), e.beat(ctx); !renewed || !beaten {
			wait = min(wait, awayMax) // leases go on when the store is back, not a beat later
		}
		if !e.draining.Load() {
			e.lookAround()
		}
	}
}

// untilBeat waits for the next beat, which is so far away. Meanwhile it asks the store about attempts of which a node
// of another process says that they shall stop: that is a hint, and the store knows.
func (e *Engine) untilBeat(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return true
		case <-e.doubts:
			e.renewThese(ctx, e.hands.Doubtful())
		case <-ctx.Done():
			return false
		}
	}
}

// renewThese renews leases, and tells whether the store has answered.
func (e *Engine) renewThese(ctx context.Context, list []*attempt) bool {
	all := true
	for len(list) > 0 {
		n := min(len(list), renewMost)
		all = e.renewSome(ctx, list[:n]) && all
		list = list[n:]
	}
	return all
}

// renewSome renews leases in one call and stops what the store says is lost, or shall stop.
func (e *Engine) renewSome(ctx context.Context, list []*attempt) bool {
	until := leaseEnd()
	asked := make([]store.Held, len(list))
	for i, h := range list {
		asked[i] = store.Held{ID: h.Task.ID, Fence: h.Task.Fence, Progress: e.hands.Progress(h)}
	}
	fail.Point("renew.asked")
	call, cancel := context.WithTimeout(ctx, task.LeaseRenew)
	answers, errs := e.renewLeases(call, asked)
	cancel()
	var left []*attempt
	var away error
	for i, h := range list {
		switch {
		case errs != nil && errs[i] != nil:
			if left = append(left, h); !batch.IsItemFault(errs[i]) {
				away = errs[i]
			}
		case answers[i].Lost:
			e.lose(h)
		case answers[i].Cancelling:
			e.hands.Renewed(h, until)
			e.stopAttempt(h, stopCancelled)
		default:
			e.hands.Renewed(h, until)
		}
	}
	if len(left) > 0 {
		e.expireLeases(left)
	}
	if away != nil {
		e.counts.storeAway.Add(1)
		e.config.Logger.Debug("leases are not renewed", "tasks", len(left), "error", away)
	}
	return away == nil
}

// lose stops an attempt that is not ours any more. An attempt whose outcome waits is left to the
// recorder, which will be told the same.
func (e *Engine) lose(h *attempt) {
	if e.hands.Lose(h) {
		e.counts.lost.Add(1)
		poke(e.marks) // there may be room for marks
		e.config.Logger.Warn("lease is lost", "task", h.Task.ID, "attempt", h.Task.Attempt, "action", h.Task.Action)
		e.source.CancelTask([]byte(h.Task.ID), h.Task.Fence)
	}
}

// expireLeases stops attempts whose leases have run out, or will before the next renewal is
// answered: another node may have the task from then on.
func (e *Engine) expireLeases(list []*attempt) {
	next := time.Now().Add(awayMax)
	for _, h := range list {
		if e.hands.LeaseOver(h, next) {
			e.stopAttempt(h, stopLeaseOver)
		}
	}
}
