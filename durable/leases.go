package durable

import (
	"context"
	"time"

	"github.com/posta-tasks/posta/durable/batch"
	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// renewMost is the largest number of leases in one Renew.
const renewMost = 1_024

// announcePause is how long a change of the row of the node waits for others, so that a thousand workers that connect at once
// cause a few writes.
const announcePause = 200 * time.Millisecond

// leases renews the leases of the attempts on this node, and the row of the node.
type leases struct {
	*core
	launcher *launcher
	registry *registry
	claimer  *claimer
}

// Run renews leases and the row of the node once in a Beat, until ctx ends. Each time it also makes the engine look
// for tasks without hints.
func (l *leases) Run(ctx context.Context) {
	for wait := l.config.Beat; l.untilBeat(ctx, wait); {
		wait = l.config.Beat
		if renewed, beaten := l.renew(ctx, l.attempts.All()), l.registry.beat(ctx); !renewed || !beaten {
			wait = min(wait, awayMax) // renew soon after the store is back, not a Beat later
		}
		if !l.draining.Load() {
			l.claimer.lookAround()
		}
	}
}

// untilBeat waits for the next beat. Meanwhile it checks attempts with the store about which another node has sent
// a hint that they must stop.
func (l *leases) untilBeat(ctx context.Context, wait time.Duration) bool {
	timer, announce := time.NewTimer(wait), time.NewTimer(time.Hour)
	defer timer.Stop()
	announce.Stop()
	defer announce.Stop()
	announcing := false
	for {
		select {
		case <-timer.C:
			return true
		case <-l.registry.changed:
			if !announcing {
				announcing = true
				announce.Reset(announcePause)
			}
		case <-announce.C:
			announcing = false
			l.registry.announce(ctx)
		case <-l.attempts.ToRecheck:
			l.renew(ctx, l.attempts.TakeToRecheck())
		case <-ctx.Done():
			return false
		}
	}
}

// renew renews leases and reports whether the store has answered.
func (l *leases) renew(ctx context.Context, list []*attempt) bool {
	all := true
	for len(list) > 0 {
		n := min(len(list), renewMost)
		all = l.renewSome(ctx, list[:n]) && all
		list = list[n:]
	}
	return all
}

// renewSome renews leases in one call, and stops attempts that the store reports as lost or to be stopped.
func (l *leases) renewSome(ctx context.Context, list []*attempt) bool {
	until := leaseEnd()
	asked := make([]store.Held, len(list))
	for i, a := range list {
		asked[i] = store.Held{ID: a.Task.ID, Fence: a.Task.Fence, Progress: l.attempts.TakeUnsaved(a)}
	}
	fail.Point("renew.asked")
	call, cancel := context.WithTimeout(ctx, task.LeaseRenew)
	answers, errs := l.renewLeases(call, asked)
	cancel()
	var left []*attempt
	var away error
	for i, a := range list {
		switch {
		case errs != nil && errs[i] != nil:
			if left = append(left, a); !batch.IsItemFault(errs[i]) {
				away = errs[i]
			}
		case answers[i].Lost:
			l.launcher.lose(a)
		case answers[i].Cancelling:
			l.attempts.Renewed(a, until)
			l.launcher.stop(a, stopCancelled)
		default:
			l.attempts.Renewed(a, until)
		}
	}
	if len(left) > 0 {
		l.expireLeases(left)
	}
	if away != nil {
		l.counts.storeAway.Add(1)
		l.config.Logger.Debug("leases are not renewed", "tasks", len(left), "error", away)
	}
	return away == nil
}

// expireLeases stops attempts whose leases have ended, or will end before the next renewal is answered. Another
// node may have the task from then on.
func (l *leases) expireLeases(list []*attempt) {
	next := time.Now().Add(awayMax)
	for _, a := range list {
		if l.attempts.LeaseOver(a, next) {
			l.launcher.stop(a, stopLeaseOver)
		}
	}
}
