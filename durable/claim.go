package durable

import (
	"context"
	"time"

	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

const (
	// claimMost bounds the tasks of one claim.
	claimMost = 1_024
	// unrecordedMost bounds the outcomes that wait for the store: beyond it nothing is claimed.
	unrecordedMost = 4_096
	// lookEvery is how often an engine that has room asks a store which others fill as well.
	lookEvery = time.Second
	// sweepEvery says which part of the claims goes to the store and not by ids, even though ids
	// come: one of which the id was lost is missed by nobody.
	sweepEvery = 50
)

// claim takes tasks from the store whenever there may be some and there is room, until a
// drain begins.
func (e *Engine) claim(ctx context.Context) {
	defer close(e.claimed)
	defer e.nextCompany.Stop()
	defer e.heldOver.Stop()
	e.suspects.Store(e.config.Lone)
	e.stir()
	look, stop := e.lookOut()
	defer stop()
	away := awayMin
	for {
		select {
		case <-e.wake:
		case <-look:
			e.lookAgain()
		case <-e.quit:
			return
		case <-ctx.Done():
			return
		}
		if err := e.claimAll(ctx); err == nil {
			away = awayMin
			continue
		}
		e.counts.storeAway.Add(1)
		select {
		case <-time.After(away):
			away = min(2*away, awayMax)
			poke(e.wake)
		case <-e.quit:
			return
		}
	}
}

// claimAll claims until nothing is left or there is no room.
func (e *Engine) claimAll(ctx context.Context) error {
	if e.room() > 0 && !e.draining.Load() && e.suspects.Swap(false) {
		if err := e.claimSuspects(ctx); err != nil {
			e.suspects.Store(true)
			return err
		}
	}
	defer e.wantNow()
	for !e.draining.Load() && (e.more.Load() || e.hasMail()) {
		room := min(e.room(), claimMost)
		if room == 0 {
			return nil // whoever leaves a slot wakes us
		}
		if !e.more.Swap(false) {
			if err := e.claimMail(ctx, room); err != nil {
				e.more.Store(true)
				return err
			}
			continue
		}
		full, err := e.claimNext(ctx, room)
		if err != nil {
			e.more.Store(true)
			return err
		}
		if full {
			e.more.Store(true)
			e.hub.pass(e)
		}
	}
	return nil
}

// claimNext claims what the store has next, and tells whether it may have more.
func (e *Engine) claimNext(ctx context.Context, room int) (full bool, err error) {
	n, err := e.claimSome(ctx, store.Claim{Limit: room})
	if err != nil {
		return false, err
	}
	e.counts.byPoll.Add(1)
	full = n == room
	if n > 0 && e.left.Load() {
		full = true // limits of queues and of actions together may leave a task that neither forbids
	}
	return full, nil
}

// room is how many tasks more the engine may claim now. When tasks of others have taken all
// slots, one of ours waits with them for its turn, lest durable tasks starve. While tasks are
// quick some are claimed ahead.
func (e *Engine) room() int {
	mine := e.hands.Running() + int(e.starting.Load())
	if e.records.len() > unrecordedMost {
		return 0
	}
	free := e.config.Executor.Free()
	if mine == 0 {
		free = max(free, 1)
	}
	if more := e.ahead.Allowed(); more > 0 {
		return max(0, e.config.Slots+more-mine)
	}
	return max(0, min(e.config.Slots-mine, free))
}

// claimSome makes one claim and starts what it got.
func (e *Engine) claimSome(life context.Context, by store.Claim) (int, error) {
	by.Node, by.Queues = e.config.Node, e.queues(by.Limit)
	by.Actions, by.Rooms = e.actionRooms(by.Limit)
	ctx, cancel := context.WithTimeout(life, storeTimeout)
	defer cancel()
	until := leaseEnd()
	fail.Point("claim.asked")
	tasks, err := e.config.Store.Claim(ctx, by)
	if task.CodeOf(err) == task.UnknownOutcome {
		// What it took runs by our account, and nobody knows of it. The store gives it back when its lease
		// ends, and since we beat nobody takes us for dead.
		e.config.Logger.Warn("the answer to a claim is lost; what it took runs when its lease is over", "most", by.Limit, "error", err)
	}
	if err != nil {
		return 0, err
	}
	if len(tasks) > 0 {
		fail.Point("claim.committed")
	}
	e.counts.claimCalls.Add(1)
	e.counts.claimed.Add(int64(len(tasks)))
	if by.IDs == nil && !by.Isolated {
		e.left.Store(e.mayHaveLeft(&by, tasks))
	}
	held := make([]*attempt, len(tasks))
	for i := range tasks {
		held[i] = e.hands.Take(&tasks[i], until)
	}
	e.ahead.Put(held)
	e.limitTime(held)
	e.launchNext(life)
	if e.ahead.Len() > 0 {
		poke(e.slots)
	}
	return len(tasks), nil
}

// queues says how many tasks a claim may take of each queue.
func (e *Engine) queues(limit int) map[string]int {
	if e.config.Queues == nil {
		return nil
	}
	rooms := make(map[string]int, len(e.config.Queues))
	for queue, rule := range e.config.Queues {
		rooms[queue] = limit
		if rule.Running > 0 {
			rooms[queue] = max(0, rule.Running-e.hands.RunningOf(queue))
		}
	}
	if rest := e.config.Queues["*"]; rest.Running > 0 {
		rooms["*"] = rest.Running
		for queue, n := range e.hands.ByQueue() {
			if _, named := e.config.Queues[queue]; !named {
				rooms[queue] = max(0, rest.Running-n)
			}
		}
	}
	return rooms
}

// limits tells whether the node limits how many tasks of a queue run at once.
func (e *Engine) limits(queue string) bool {
	rule, named := e.config.Queues[queue]
	if !named {
		rule = e.config.Queues["*"]
	}
	return rule.Running > 0
}
