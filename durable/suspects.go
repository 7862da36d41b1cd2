package durable

import (
	"context"
	"slices"
	"time"

	"github.com/posta-tasks/posta/store"
)

const (
	// suspectsDoubleAfter is how long the process must live with its suspects until twice as many may run. A task that kills
	// its process mostly does so at once.
	suspectsDoubleAfter = 250 * time.Millisecond
	// suspectsDoubleMost bounds the doublings.
	suspectsDoubleMost = 16
)

// claimSuspects claims tasks that ran when a process died: one, and after each suspectsDoubleAfter that this process lives
// with them twice as many. A task that kills its process again does so while few others run, and tasks that only happened
// to run when a node died run again within seconds, however long they take.
func (c *claimer) claimSuspects(ctx context.Context) error {
	for {
		running := c.attempts.Suspects()
		if len(running) > 0 && c.suspectsSince.IsZero() {
			c.suspectsSince = time.Now()
		}
		switch {
		case len(running) >= c.suspectsAllowed():
			c.moreSuspects.Reset(suspectsDoubleAfter)
			return nil
		case c.capacity.free() == 0:
			c.maySuspects.Store(true) // they are the first to get a slot
			return nil
		}
		n, err := c.claim(ctx, c.nextSuspect(running))
		if err != nil {
			return err
		}
		if n == 0 {
			c.suspectsSince = time.Time{} // later ones are of another death
			return nil
		}
	}
}

// suspectsAllowed returns how many suspects may run at once by now.
func (c *claimer) suspectsAllowed() int {
	if c.suspectsSince.IsZero() {
		return 1
	}
	return 1 << min(time.Since(c.suspectsSince)/suspectsDoubleAfter, suspectsDoubleMost)
}

// nextSuspect returns the claim of one more suspect beside those that run. A task in quarantine, under which a process has
// died while it was the only suspect, runs beside no other suspect: if the process dies again, its cause must be clear.
func (c *claimer) nextSuspect(running []string) store.Claim {
	return store.Claim{Isolated: true, Quarantined: len(running) == 0 && c.registry.isQuiet(), Beside: slices.Concat(running, c.attempts.RemoteSuspects()), Limit: 1}
}
