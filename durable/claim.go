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
	// claimMost is the largest number of tasks in one claim.
	claimMost = 1_024
	// lookEvery is how often an engine with free slots polls a store that other processes use.
	lookEvery = time.Second
	// claimNextEvery is how many claims by hints are made before one asks for the next tasks. It finds the tasks whose
	// hints were lost.
	claimNextEvery = 50
)

// claimer claims tasks from the store while the engine can take more.
type claimer struct {
	*core
	capacity *capacity
	launcher *launcher
	registry *registry
	mailbox  *mailbox.Mailbox // nil without a broker

	wake        wait.Signal
	mayHave     atomic.Bool   // the store may have tasks for this engine without hints
	maySuspects atomic.Bool   // the store may have suspects for this engine
	mayHaveLeft atomic.Bool   // a claim may have skipped tasks because of limits of queues and actions
	done        chan struct{} // closed when there will be no more claims

	heldOver *time.Timer // wakes the engine when an action is no longer held back

	// Only the goroutine of Run uses the fields below.
	pace          batch.Pace
	claimedBefore int64       // tasks claimed up to the last call of lookAgain
	suspectsSince time.Time   // since when suspects run here; zero: there are none
	moreSuspects  *time.Timer // wakes the engine to claim more suspects
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
	c.maySuspects.Store(c.config.RunsSuspects)
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

// look makes the engine ask the store for tasks, now or as soon as it has capacity.
func (c *claimer) look() {
	c.mayHave.Store(true)
	c.wake.Set()
}

// lookForSuspects makes the engine ask the store for suspects, if it is the one of its process that runs them.
func (c *claimer) lookForSuspects() {
	c.maySuspects.Store(c.config.RunsSuspects)
	c.wake.Set()
}

// lookAround makes the engine look for tasks without hints. It is called once in a Beat. If other processes use the
// store, lookAgain does this each second.
func (c *claimer) lookAround() {
	if !c.config.Shared {
		c.maySuspects.Store(c.config.RunsSuspects)
		c.look()
	}
}

// lookAgain makes the engine ask for suspects, and for tasks without hints if none were claimed since its last
// call.
func (c *claimer) lookAgain() {
	claimed := c.counts.claimed.Load()
	coming := claimed != c.claimedBefore
	c.claimedBefore = claimed
	if c.capacity.free() == 0 {
		return // freeing a slot starts a claim, and lookAgain is called again
	}
	c.maySuspects.Store(c.config.RunsSuspects)
	if !coming {
		c.mayHave.Store(true)
		c.wantNow() // the free slots are for the next tasks in the store
	}
}

// claimAll claims until the store has no more tasks or the engine is full.
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
			return nil // freeing a slot wakes the engine
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

// claimNext claims the next tasks in the store. full reports whether the store may have more.
func (c *claimer) claimNext(ctx context.Context, limit int) (full bool, err error) {
	n, err := c.claim(ctx, store.Claim{Limit: limit})
	if err != nil {
		return false, err
	}
	c.counts.byPoll.Add(1)
	// The limits of queues and actions together may skip a task that each of them alone allows.
	return n == limit || n > 0 && c.mayHaveLeft.Load(), nil
}

// claimTasks makes one claim. It returns the tasks and the end of their leases.
func (c *core) claimTasks(life context.Context, by store.Claim) (tasks []task.Task, until time.Time, err error) {
	ctx, cancel := context.WithTimeout(life, storeTimeout)
	defer cancel()
	until = leaseEnd()
	fail.Point("claim.asked")
	tasks, err = c.config.Store.Claim(ctx, by)
	if task.CodeOf(err) == task.UnknownOutcome {
		// The store may have leased tasks to this node, but the engine does not know which ones. They are queued
		// again when their leases end. Since this node is alive, they do not become suspects.
		c.config.Logger.Warn("the answer to a claim is lost; its tasks run when their leases are over", "most", by.Limit, "error", err)
	}
	if err != nil {
		return nil, until, err
	}
	if len(tasks) > 0 {
		fail.Point("claim.committed")
	}
	c.counts.claimCalls.Add(1)
	c.counts.claimed.Add(int64(len(tasks)))
	return tasks, until, nil
}

// claim makes one claim and passes its tasks to the launcher. It returns their number.
func (c *claimer) claim(life context.Context, by store.Claim) (int, error) {
	by.Node, by.Queues = c.config.Node, c.capacity.byQueue(by.Limit)
	by.Actions, by.ActionSlots = c.freeByAction(by.Limit)
	tasks, until, err := c.claimTasks(life, by)
	if err != nil {
		return 0, err
	}
	switch left := mayHaveLeft(&by, tasks); {
	case by.IDs == nil && !by.Isolated:
		c.mayHaveLeft.Store(left)
	case by.IDs != nil && left && len(tasks) < len(by.IDs): // the hints of the other tasks are used up
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

// slotFreed makes the engine claim again if there may be a task for the freed slot.
func (c *claimer) slotFreed(t *task.Task) {
	limited := c.config.limits(t.Queue) || c.config.Executor.IsLimited(t.Action)
	if limited && (c.mailbox == nil || c.mayHaveLeft.Load()) {
		c.mayHave.Store(true)
	}
	if c.mailbox != nil {
		c.announceCapacity(limited)
	}
	if c.mayHave.Load() || c.hasHints() || c.maySuspects.Load() {
		c.wake.Set()
	}
}

// wants reports whether the engine works any of these tasks. If there are suspects among them, it wakes the engine
// that runs suspects.
func (c *claimer) wants(tasks []*task.Task) bool {
	found, suspect := false, false
	for _, t := range tasks {
		if !found && !t.Suspect {
			found = c.works(t)
		}
		suspect = suspect || t.Suspect
	}
	if suspect && c.config.RunsSuspects {
		c.lookForSuspects()
	}
	return found && !c.draining.Load()
}
