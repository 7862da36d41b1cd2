package durable

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/durable/batch"
	"github.com/posta-tasks/posta/durable/mailbox"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// newMailbox makes the engine's end of the broker.
func (e *Engine) newMailbox() *mailbox.Mailbox {
	interest := broker.Interest{Actions: e.actions()}
	if _, all := e.config.Queues["*"]; e.config.Queues != nil && !all {
		interest.Queues = slices.Sorted(maps.Keys(e.config.Queues))
	}
	return mailbox.New(mailbox.Config{
		Broker: e.config.Broker, Interest: interest, Room: e.wanted, Wake: func() { poke(e.wake) },
		Behind: e.stir, Hear: e.hearAfar, Missed: func() { poke(e.gap) },
		Refused: func(id string, err error) { e.blame("publish", id, err) },
	})
}

// wanted says which ids the engine could claim now: none while it takes what the store has next,
// which is what is oldest.
func (e *Engine) wanted() broker.Want {
	if e.draining.Load() || e.more.Load() {
		return broker.Want{}
	}
	limit := min(e.room()-e.mailbox.Waiting(), claimMost)
	_, rooms := e.actionRooms(limit)
	return broker.Want{Limit: limit, Queues: e.queues(limit), Actions: rooms}
}

// wantNow has what is wanted looked at anew, before and after claims.
func (e *Engine) wantNow() {
	if e.mailbox == nil {
		return
	}
	full := e.room() == 0
	if full {
		if ids := e.mailbox.Full(); len(ids) > 0 {
			e.parts.Go(func() { e.giveOn(ids) })
		}
	}
	e.tellRoom(full || e.more.Load() || e.config.Queues != nil)
}

// giveOn offers tasks to others of which the engine took the ids while its last slots were taken
// otherwise.
func (e *Engine) giveOn(ids []string) {
	ctx, cancel := context.WithTimeout(context.Background(), lastLookTime)
	defer cancel()
	answers, err := e.reads.Ask(ctx, ids)
	if err != nil {
		e.stir()
		return
	}
	var tasks []*task.Task
	for i := range answers {
		if t := &answers[i].task; t.State == task.Queued && t.Reserved == "" && !t.Suspect {
			tasks = append(tasks, t)
		}
	}
	e.mailbox.Offer(tasks)
}

// tellRoom says that there is room, or that there is room for something else than before.
func (e *Engine) tellRoom(changed bool) {
	if changed {
		e.mailbox.Changed()
	} else {
		e.mailbox.Freed()
	}
}

// hasMail tells whether ids wait to be claimed.
func (e *Engine) hasMail() bool { return e.mailbox != nil && e.mailbox.Waiting() > 0 }

// claimMail claims tasks of which ids have come, and now and then what the store has next instead.
func (e *Engine) claimMail(ctx context.Context, room int) error {
	if n := e.mailbox.Waiting(); !e.claims.Keep(ctx, n >= room || n >= sharedCrowd) {
		return nil
	}
	room = min(e.room(), claimMost)
	if e.counts.byIDs.Add(1)%sweepEvery == 0 {
		_, err := e.claimNext(ctx, room)
		return err
	}
	defer e.mailbox.Done()
	return e.claimIDs(ctx, e.mailbox.Next(room))
}

// claimIDs claims tasks by their ids, which come from other nodes. An id that the store cannot take keeps
// no other from being claimed.
func (e *Engine) claimIDs(ctx context.Context, ids []string) error {
	errs := batch.Isolate(ctx, len(ids), errUnresolved(), func(from, to int) error {
		_, err := e.claimSome(ctx, store.Claim{IDs: ids[from:to], Limit: to - from})
		return err
	})
	answered := errs == nil
	for i, err := range errs {
		answered = answered || err == nil
		if err != nil && !batch.IsItemFault(err) {
			return err
		}
		e.blame("claim", ids[i], err)
	}
	if !answered { // so that the store is given a rest
		return errs[0]
	}
	return nil
}

// lookOut gives a channel that says when to look for tasks that the engine was not told of, and what
// ends it. Without other processes there are none.
func (e *Engine) lookOut() (<-chan time.Time, func()) {
	if !e.config.Shared {
		return nil, func() {}
	}
	ticker := time.NewTicker(lookEvery)
	return ticker.C, ticker.Stop
}

// lookAgain says, once in lookEvery, that the store is to be asked: for suspects, and for what the
// engine was not told of if nothing has come since it looked last.
func (e *Engine) lookAgain() {
	claimed := e.counts.claimed.Load()
	coming := claimed != e.lastClaimed
	e.lastClaimed = claimed
	if e.room() == 0 {
		return // whoever leaves a slot finds what has come, and we look again
	}
	e.suspects.Store(e.config.Lone)
	if !coming {
		e.more.Store(true)
		e.wantNow() // the slots are for what the store has next
	}
}

// lookAround has the engine look for what it was not told of, once in a beat; where others use the
// store it does so each second.
func (e *Engine) lookAround() {
	if !e.config.Shared {
		e.suspects.Store(e.config.Lone)
		e.stir()
	}
}

// send finds queued tasks a place: with engines of this process that have room, else through the
// broker with any node. Of actions that no node has nobody needs to hear.
func (e *Engine) send(queued []*task.Task) {
	left := e.hub.place(queued)
	e.mailbox.Offer(slices.DeleteFunc(slices.Clone(left), func(t *task.Task) bool {
		return t.Suspect || !e.isServed(t.Action)
	}))
}

// keep takes tasks for which the engine has a free slot, and gives the others.
func (e *Engine) keep(tasks []*task.Task) []*task.Task {
	if !e.wants(tasks) || e.mailbox == nil {
		return tasks
	}
	room := min(e.room(), e.config.Slots) - e.mailbox.Waiting()
	rooms := e.queues(room)
	_, actions := e.actionRooms(room)
	var kept, left []*task.Task
	for _, t := range tasks {
		if len(kept) >= room || t.Suspect || !e.works(t) || e.mailbox.IsPaused(t.Queue) || !takeRooms(rooms, actions, t) {
			left = append(left, t)
			continue
		}
		kept = append(kept, t)
	}
	if len(kept) > 0 {
		e.mailbox.Keep(kept)
	}
	return left
}

// takeRooms takes one place of a task's queue and one of its action, if there are both.
func takeRooms(queues, actions map[string]int, t *task.Task) bool {
	ofQueue, named := queues[t.Queue]
	if !named {
		ofQueue = queues["*"]
	}
	ofAction, limited := actions[t.Action]
	if queues != nil && ofQueue <= 0 || limited && ofAction <= 0 {
		return false
	}
	if queues != nil {
		queues[t.Queue] = ofQueue - 1
	}
	if limited {
		actions[t.Action] = ofAction - 1
	}
	return true
}

// hearAfar takes note of what nodes say, those of this process included, which know better already.
func (e *Engine) hearAfar(list []broker.Event) {
	events, doubts := make([]taskEvent, 0, len(list)), false
	for i := range list {
		switch ev := &list[i]; ev.Kind {
		case broker.Changed:
			events = append(events, changedAfar(ev))
		case broker.Progressed:
			if !e.hub.holds(ev.Task) {
				events = append(events, taskEvent{ID: ev.Task, Attempt: ev.Attempt, Progress: ev.Progress})
			}
		case broker.Cancelling:
			doubts = e.hands.Doubt(ev.Task) || doubts
		case broker.Paused, broker.Resumed:
			poke(e.pauses.look)
		}
	}
	e.subs.Hear(events)
	if doubts {
		poke(e.doubts)
	}
}

// changedAfar is what a change is to those who wait and watch: of a task that has ended they
// want the record, which the store has.
func changedAfar(ev *broker.Event) taskEvent {
	if ev.Entry.State.Final() {
		return taskEvent{ID: ev.Task, Look: true}
	}
	return taskEvent{ID: ev.Task, Attempt: ev.Attempt, Task: &task.Task{
		ID: ev.Task, State: ev.Entry.State, Attempt: ev.Attempt, History: []task.Entry{ev.Entry},
	}}
}

// tellProgress tells every engine, and every node, what actions said.
func (e *Engine) tellProgress(list []taskEvent) {
	e.hub.tell(list)
	if e.mailbox == nil || len(list) == 0 {
		return
	}
	far := make([]broker.Event, len(list))
	for i, ev := range list {
		far[i] = broker.Event{Kind: broker.Progressed, Task: ev.ID, Queue: ev.Queue, Attempt: ev.Attempt, Progress: ev.Progress}
	}
	e.mailbox.TellEvents(far)
}

// holds tells whether an engine of the hub has a task.
func (h *Hub) holds(id string) bool {
	return slices.ContainsFunc(h.members(), func(e *Engine) bool { return e.hands.Has(id) })
}
