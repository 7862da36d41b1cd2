package durable

import (
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// startSome has the store start some of the tasks that it is about to accept, which spares each of them a claim:
// as many as have a slot here, unless older ones may wait for it. What it gives is called with the answers; again says
// that the accept was repeated since its answer was lost, so that what is there already is ours.
func (e *Engine) startSome(tasks []task.Task) (take func(answers []store.Accepted, again bool)) {
	if !e.starts.Enter() {
		return func([]store.Accepted, bool) {} // a drain waits for those under way
	}
	room, n, now := 0, 0, e.storeNow()
	if e.running.Load() && !e.draining.Load() && !e.more.Load() {
		room = e.room()
		if e.mailbox != nil {
			room -= e.mailbox.Waiting() // they have their slots
		}
	}
	for i := 0; i < len(tasks) && n < room; i++ {
		if t := &tasks[i]; e.mayStart(t) && t.Delay == 0 && !t.RunAt.After(now) {
			t.Node = e.config.Node
			n++
		}
	}
	e.starting.Add(int64(n))
	until := leaseEnd()
	return func(answers []store.Accepted, again bool) {
		defer e.starts.Leave()
		defer e.starting.Add(int64(-n))
		if n > 0 {
			e.hold(tasks, answers, claimed{until: until, again: again})
		}
	}
}

// mayStart tells whether the engine would claim a task as soon as it had one more slot.
func (e *Engine) mayStart(t *task.Task) bool {
	return e.works(t) && !e.limits(t.Queue) && !e.limitsAction(t.Action) && !t.Payload.IsBlob() && (e.mailbox == nil || !e.mailbox.IsPaused(t.Queue))
}

// claimed says until when what was started is ours, and whether it was asked for again.
type claimed struct {
	until time.Time
	again bool
}

// hold takes into its hands what the store has started.
func (e *Engine) hold(asked []task.Task, answers []store.Accepted, by claimed) {
	var held []*attempt
	for i := range answers {
		t := answers[i].Task
		ours := asked[i].Node != "" && t.ID == asked[i].ID && t.Reserved == e.config.Node && t.Fence == 1
		if !ours || answers[i].Duplicate && !(by.again && e.hands.Find(t.ID, 1) == nil) {
			continue
		}
		t.Payload = asked[i].Payload
		held = append(held, e.hands.Take(&t, by.until))
	}
	e.counts.started.Add(int64(len(held)))
	e.ahead.Put(held)
	e.limitTime(held)
	poke(e.slots)
	if e.room() == 0 {
		e.wantNow()
	}
}

// limitTime ends attempts that are not entered when they expire.
func (e *Engine) limitTime(list []*attempt) {
	for _, h := range list {
		if !h.Task.Expires.IsZero() {
			e.hands.AtExpiry(h, func() { e.giveUp(h) })
		}
	}
}

// giveUp ends an attempt that was not entered, and tells whether that is so.
func (e *Engine) giveUp(h *attempt) bool {
	reason, first := e.hands.EndUnentered(h)
	if !first {
		return false
	}
	if reason != stopLost {
		e.records.put(h, e.hands.Outcome(h, reason))
	}
	e.freed(h)
	return true
}
