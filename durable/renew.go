package durable

import (
	"context"
	"time"

	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// renewMost bounds the leases of one Renew.
const renewMost = 1_024

// renew keeps the leases of what the node holds, and its row in the register of nodes, until
// ctx ends. Each beat also has the engine look for what it was not told of.
func (e *Engine) renew(ctx context.Context) {
	for pause(ctx, e.config.Beat) {
		e.renewAll(ctx)
		e.beat(ctx)
		if !e.draining.Load() && !fail.Mutant("sweeper-off") {
			e.suspects.Store(e.config.Lone)
			e.stir()
		}
	}
}

func (e *Engine) renewAll(ctx context.Context) {
	list := e.hands.all()
	for len(list) > 0 {
		n := min(len(list), renewMost)
		e.renewSome(ctx, list[:n])
		list = list[n:]
	}
}

// renewSome renews leases in one call and stops what the store says is lost, or shall stop.
func (e *Engine) renewSome(ctx context.Context, list []*held) {
	until := leaseEnd()
	asked := make([]store.Held, len(list))
	for i, h := range list {
		asked[i] = store.Held{ID: h.task.ID, Attempt: h.task.Attempt, Progress: e.hands.progress(h)}
	}
	fail.Point("renew.asked")
	call, cancel := context.WithTimeout(ctx, task.LeaseRenew)
	answers, err := e.config.Store.Renew(call, e.config.Node, asked)
	cancel()
	if err != nil {
		e.counts.storeAway.Add(1)
		e.config.Logger.Warn("leases are not renewed", "tasks", len(list), "error", err)
		e.expireLeases(list)
		return
	}
	for i, h := range list {
		switch {
		case answers[i].Lost:
			e.lose(h)
		case answers[i].Cancelling:
			e.hands.renewed(h, until)
			e.stopAttempt(h, stopCancelling)
		default:
			e.hands.renewed(h, until)
		}
	}
}

// lose stops an attempt that is not ours any more. An attempt whose outcome waits is left to the
// recorder, which will be told the same.
func (e *Engine) lose(h *held) {
	if e.hands.lose(h) {
		e.counts.lost.Add(1)
		e.config.Logger.Warn("lease is lost", "task", h.task.ID, "attempt", h.task.Attempt, "action", h.task.Action)
		e.source.CancelTask([]byte(h.task.ID), h.task.Attempt)
	}
}

// expireLeases stops attempts whose leases have run out, or will before the next renewal is
// answered: another node may have the task from then on.
func (e *Engine) expireLeases(list []*held) {
	now := time.Now()
	for _, h := range list {
		if e.hands.leaseOver(h, now) {
			e.stopAttempt(h, stopExpired)
		}
	}
}

// renewed notes a lease.
func (s *hands) renewed(h *held, until time.Time) {
	s.mu.Lock()
	h.until = until
	s.mu.Unlock()
}

func (s *hands) leaseOver(h *held, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !h.ended && !now.Before(h.until)
}

// lose forgets an attempt that has not ended.
func (s *hands) lose(h *held) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.ended || h.reason == stopLost {
		return false
	}
	h.reason = stopLost
	s.drop(h)
	return true
}

// progress takes what an action said since it was saved last.
func (s *hands) progress(h *held) *task.Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !h.unsaved {
		return nil
	}
	h.unsaved = false
	p := h.progress
	return &p
}

// unsaved takes what these actions said since it was saved last.
func (s *hands) unsaved(list []*held) []store.Held {
	var reported []store.Held
	for _, h := range list {
		if p := s.progress(h); p != nil {
			reported = append(reported, store.Held{ID: h.task.ID, Attempt: h.task.Attempt, Progress: p})
		}
	}
	return reported
}
