package durable

import (
	"context"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/durable/batch"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// hasHints reports whether there are hints for tasks to claim.
func (c *claimer) hasHints() bool { return c.mailbox != nil && c.mailbox.Waiting() > 0 }

// claimHints claims tasks by their hints, and from time to time the next tasks of the store instead.
func (c *claimer) claimHints(ctx context.Context, limit int) error {
	if n := c.mailbox.Waiting(); !c.pace.Keep(ctx, n >= limit || n >= sharedConcurrentFrom) {
		return nil
	}
	limit = min(c.capacity.free(), claimMost)
	if c.counts.byIDs.Add(1)%claimNextEvery == 0 {
		_, err := c.claimNext(ctx, limit)
		return err
	}
	defer c.mailbox.Done()
	return c.claimIDs(ctx, c.mailbox.Next(limit))
}

// claimIDs claims tasks by ids, which come from other nodes. If the store cannot take an id, the others are still
// claimed.
func (c *claimer) claimIDs(ctx context.Context, ids []string) error {
	errs := batch.Isolate(ctx, len(ids), errUnresolved(), func(from, to int) error {
		_, err := c.claim(ctx, store.Claim{IDs: ids[from:to], Limit: to - from})
		return err
	})
	answered := errs == nil
	for i, err := range errs {
		answered = answered || err == nil
		if err != nil && !batch.IsItemFault(err) {
			return err
		}
		c.blame("claim", ids[i], err)
	}
	if !answered { // gives the store time to recover
		return errs[0]
	}
	return nil
}

// keep keeps the tasks for which the engine has a free slot, and returns the others.
func (c *claimer) keep(tasks []*task.Task) []*task.Task {
	if !c.wants(tasks) || c.mailbox == nil {
		return tasks
	}
	free := min(c.capacity.free(), c.config.Slots) - c.mailbox.Waiting()
	queues := c.capacity.byQueue(free)
	_, actions := c.freeByAction(free)
	var kept, left []*task.Task
	for _, t := range tasks {
		if len(kept) >= free || t.Suspect || !c.works(t) || c.mailbox.IsPaused(t.Queue) || !takeOne(queues, actions, t) {
			left = append(left, t)
			continue
		}
		kept = append(kept, t)
	}
	if len(kept) > 0 {
		c.mailbox.Keep(kept)
	}
	return left
}

// wanted returns which hints the engine wants. It wants none while it claims the next tasks of the store, which are
// older.
func (c *claimer) wanted() broker.Want {
	if c.draining.Load() || c.mayHave.Load() {
		return broker.Want{}
	}
	limit := min(c.capacity.free()-c.mailbox.Waiting(), claimMost)
	_, actions := c.freeByAction(limit)
	return broker.Want{Limit: limit, Queues: c.capacity.byQueue(limit), Actions: actions}
}

// wantNow makes the mailbox call wanted again, before and after claims.
func (c *claimer) wantNow() {
	if c.mailbox == nil {
		return
	}
	full := c.capacity.free() == 0
	if full {
		if ids := c.mailbox.Full(); len(ids) > 0 {
			c.goroutines.Go(func() { c.offerAgain(ids) })
		}
	}
	c.announceCapacity(full || c.mayHave.Load() || c.config.Queues != nil)
}

// offerAgain offers tasks to other nodes: the engine has taken their hints, but its last slots were taken before it
// could claim them.
func (c *claimer) offerAgain(ids []string) {
	ctx, cancel := context.WithTimeout(context.Background(), lastLookTime)
	defer cancel()
	answers, err := c.reads.Ask(ctx, ids)
	if err != nil {
		c.look()
		return
	}
	var tasks []*task.Task
	for i := range answers {
		if t := &answers[i].task; t.State == task.Queued && t.Reserved == "" && !t.Suspect {
			tasks = append(tasks, t)
		}
	}
	c.mailbox.Offer(tasks)
}

// announceCapacity notifies the mailbox that there is capacity. changed means that the engine can take other tasks than
// before.
func (c *claimer) announceCapacity(changed bool) {
	if changed {
		c.mailbox.Changed()
	} else {
		c.mailbox.Freed()
	}
}
