package durable

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/durable/batch"
	"github.com/posta-tasks/posta/durable/mailbox"
	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/internal/wait"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

const (
	// claimMost bounds the tasks of one claim.
	claimMost = 1_024
	// lookEvery is how often an engine with free slots asks a store that other processes use.
	lookEvery = time.Second
	// sweepEvery is one in how many claims asks the store for what is next although hints come. It finds the tasks whose
	// hints were lost.
	sweepEvery = 50
)

// claimer claims tasks from the store while the engine can take more.
type claimer struct {
	*core
	capacity *capacity
	launcher *launcher
	registry *registry
	mailbox  *mailbox.Mailbox // nil without a broker

	wake        wait.Signal
	mayHave     atomic.Bool   // the store may have tasks for us of which no hint will come
	maySuspects atomic.Bool   // the store may have suspects for us
	mayHaveLeft atomic.Bool   // limits of queues and actions may have kept a claim from tasks that are next
	done        chan struct{} // closed when no claim will be made any more

	heldOver *time.Timer // looks for tasks of an action that was held back

	// What follows is for the goroutine of Run.
	pace          batch.Pace
	claimedBefore int64       // tasks, when lookAgain was last called
	suspectsSince time.Time   // since when suspects run here; zero means that none do
	moreSuspects  *time.Timer // asks for more of them
}

func newClaimer(c *core, capacity *capacity, launcher *launcher, registry *registry) *claimer {
	m := &claimer{
		core: c, capacity: capacity, launcher: launcher, registry: registry,
		wake: wait.NewSignal(), done: make(chan struct{}), pace: c.sharedPace(),
	}
	m.moreSuspects = time.AfterFunc(time.Hour, m.lookForSuspects)
	m.moreSuspects.Stop()
	m.heldOver = time.AfterFunc(time.Hour, m.actionsChanged)
	m.heldOver.Stop()
	return m
}

// Run claims tasks until a drain begins.
func (c *claimer) Run(ctx context.Context) {
	defer close(c.done)
	defer c.moreSuspects.Stop()
	defer c.heldOver.Stop()
	c.maySuspects.Store(c.config.Lone)
	c.look()
	tick, stop := c.ticker()
	defer stop()
	away := awayMin
	for {
		select {
		case <-c.wake:
		case <-tick:
			c.lookAgain()
		case <-c.quit:
			return
		case <-ctx.Done():
			return
		}
		if err := c.claimAll(ctx); err == nil {
			away = awayMin
			continue
		}
		c.counts.storeAway.Add(1)
		select {
		case <-time.After(away):
			away = min(2*away, awayMax)
			c.wake.Set()
		case <-c.quit:
			return
		}
	}
}

// look has the engine ask the store for tasks, now or when it can take more.
func (c *claimer) look() {
	c.mayHave.Store(true)
	c.wake.Set()
}

// lookForSuspects has the engine ask the store for suspects, if it is the engine of its process that claims them.
func (c *claimer) lookForSuspects() {
	c.maySuspects.Store(c.config.Lone)
	c.wake.Set()
}

// lookAround has the engine look for tasks of which nobody told it. It is called once in a Beat. Where other processes use
// the store, lookAgain does this each second.
func (c *claimer) lookAround() {
	if !c.config.Shared {
		c.maySuspects.Store(c.config.Lone)
		c.look()
	}
}

// lookAgain has the engine ask for suspects, and for tasks of which nobody told it if none have been claimed since it was
// last called.
func (c *claimer) lookAgain() {
	claimed := c.counts.claimed.Load()
	coming := claimed != c.claimedBefore
	c.claimedBefore = claimed
	if c.capacity.free() == 0 {
		return // whoever frees a slot finds what has come, and we are called again
	}
	c.maySuspects.Store(c.config.Lone)
	if !coming {
		c.mayHave.Store(true)
		c.wantNow() // the slots are for what the store has next
	}
}

// claimAll claims until the store has nothing left or the engine can take no more.
func (c *claimer) claimAll(ctx context.Context) error {
	if c.capacity.free() > 0 && !c.draining.Load() && c.maySuspects.Swap(false) {
		if err := c.claimSuspects(ctx); err != nil {
			c.maySuspects.Store(true)
			return err
		}
	}
	defer c.wantNow()
	for !c.draining.Load() && (c.mayHave.Load() || c.hasHints()) {
		free := min(c.capacity.free(), claimMost)
		if free == 0 {
			return nil // whoever frees a slot wakes us
		}
		if !c.mayHave.Swap(false) {
			if err := c.claimHints(ctx, free); err != nil {
				c.mayHave.Store(true)
				return err
			}
			continue
		}
		full, err := c.claimNext(ctx, free)
		if err != nil {
			c.mayHave.Store(true)
			return err
		}
		if full {
			c.mayHave.Store(true)
			c.hub.lookElsewhere(c)
		}
	}
	return nil
}

// claimNext claims what the store has next. full reports whether the store may have more.
func (c *claimer) claimNext(ctx context.Context, limit int) (full bool, err error) {
	n, err := c.claim(ctx, store.Claim{Limit: limit})
	if err != nil {
		return false, err
	}
	c.counts.byPoll.Add(1)
	// Limits of queues and of actions together may leave a task that neither forbids.
	return n == limit || n > 0 && c.mayHaveLeft.Load(), nil
}

// claim makes one claim and hands its tasks to the launcher. It returns their number.
func (c *claimer) claim(life context.Context, by store.Claim) (int, error) {
	by.Node, by.Queues = c.config.Node, c.capacity.byQueue(by.Limit)
	by.Actions, by.Rooms = c.freeByAction(by.Limit)
	ctx, cancel := context.WithTimeout(life, storeTimeout)
	defer cancel()
	until := leaseEnd()
	fail.Point("claim.asked")
	tasks, err := c.config.Store.Claim(ctx, by)
	if task.CodeOf(err) == task.UnknownOutcome {
		// The store may have leased tasks to us, and we do not know which. They are queued again when their leases end; since
		// our node lives, they are not taken for suspects.
		c.config.Logger.Warn("the answer to a claim is lost; its tasks run when their leases are over", "most", by.Limit, "error", err)
	}
	if err != nil {
		return 0, err
	}
	if len(tasks) > 0 {
		fail.Point("claim.committed")
	}
	c.counts.claimCalls.Add(1)
	c.counts.claimed.Add(int64(len(tasks)))
	switch left := mayHaveLeft(&by, tasks); {
	case by.IDs == nil && !by.Isolated:
		c.mayHaveLeft.Store(left)
	case by.IDs != nil && left && len(tasks) < len(by.IDs): // their hints are used up
		c.mayHaveLeft.Store(true)
	}
	list := make([]*attempt, len(tasks))
	for i := range tasks {
		list[i] = c.attempts.Add(&tasks[i], until)
	}
	c.launcher.add(list)
	c.launcher.launchNext(life)
	return len(tasks), nil
}

// slotFreed has the engine claim again if there may be something for the slot that an attempt of a task has left.
func (c *claimer) slotFreed(t *task.Task) {
	limited := c.config.limits(t.Queue) || c.config.Executor.IsLimited(t.Action)
	if limited && (c.mailbox == nil || c.mayHaveLeft.Load()) {
		c.mayHave.Store(true)
	}
	if c.mailbox != nil {
		c.tellRoom(limited)
	}
	if c.mayHave.Load() || c.hasHints() || c.maySuspects.Load() {
		c.wake.Set()
	}
}

// wants reports whether the engine works any of these tasks. If suspects are among them, it wakes the engine that claims
// those.
func (c *claimer) wants(tasks []*task.Task) bool {
	found, suspect := false, false
	for _, t := range tasks {
		if !found && !t.Suspect {
			found = c.works(t)
		}
		suspect = suspect || t.Suspect
	}
	if suspect && c.config.Lone {
		c.lookForSuspects()
	}
	return found && !c.draining.Load()
}
