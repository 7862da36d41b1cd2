package durable

import (
	"context"
	"slices"
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// claimSuspects claims suspects: first one, and twice as many after each task.SuspectsDoubleAfter that the process
// survives. So few tasks run with one that kills its process again, and tasks that only happened to run when a node
// died run again within seconds, however long they take.
func (c *claimer) claimSuspects(ctx context.Context) error {
	for {
		running := c.attempts.Suspects()
		if len(running) > 0 && c.suspectsSince.IsZero() {
			c.suspectsSince = time.Now()
		}
		switch {
		case len(running) >= c.suspectsAllowed():
			c.moreSuspects.Reset(task.SuspectsDoubleAfter)
			return nil
		case c.capacity.free() == 0:
			c.maySuspects.Store(true) // they get the next free slots
			return nil
		}
		n, err := c.claim(ctx, c.nextSuspect(running))
		if err != nil {
			return err
		}
		if n == 0 {
			c.suspectsSince = time.Time{} // later suspects come from another death
			return nil
		}
	}
}

// suspectsAllowed returns how many suspects may run at once now.
func (c *claimer) suspectsAllowed() int {
	if c.suspectsSince.IsZero() {
		return 1
	}
	return task.SuspectsAllowed(time.Since(c.suspectsSince))
}

// nextSuspect returns the claim of one more suspect. A task in quarantine, whose process died while it was the only
// suspect there, does not run together with other suspects: if the process dies again, the cause must be clear.
func (c *claimer) nextSuspect(running []string) store.Claim {
	return store.Claim{Isolated: true, Quarantined: len(running) == 0 && c.registry.isQuiet(), Beside: slices.Concat(running, c.attempts.RemoteSuspects()), Limit: 1}
}
