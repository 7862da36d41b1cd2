package executor

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/posta-tasks/posta/task"
)

// Run runs a task of any action and waits for its result. It is for callers that run one task in a goroutine, such
// as HTTP requests. If the pool stays full, the error is overloaded. If ctx ends, Run cancels the task and the
// error is unavailable.
//
// A task that another node has passed on runs here or is refused: with not_found if the node does not have the action, and
// with overloaded if the other node is full and no slot is free here.
func (e *Executor) Run(ctx context.Context, t Task) ([]byte, *task.Error) {
	entry, known := e.find(t.Action)
	if refusal := e.admitPassedOn(&t, entry != nil); refusal != nil {
		return nil, refusal
	}
	source := e.NewSource()
	results, refusals := make(chan []byte, 1), make(chan *task.Error, 1) // a nil result: the pool was full
	deliver := func(_ Task, result []byte) { results <- result }
	source.Refused = func(_ Task, refusal *task.Error) { refusals <- refusal }
	full := time.AfterFunc(e.config.PoolWait, func() {
		if source.Drop() > 0 {
			results <- nil
		}
	})
	defer full.Stop()
	defer context.AfterFunc(ctx, func() { source.Cancel() })()
	switch {
	case entry == nil || !isSlow(entry, known):
		e.running.Add(1)
		go e.runQuick(ctx, source, t, deliver)
	case t.PassedOn == task.PassedOnFull:
		if !source.startNow(t, deliver) {
			return nil, e.refuseFull()
		}
	default:
		source.startOrGiveUp(t, deliver)
	}
	select {
	case result := <-results:
		if result != nil {
			return result, nil
		}
	case refusal := <-refusals:
		return nil, refusal
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return nil, task.Refuse(task.Unavailable, "the request was given up: %v", context.Cause(ctx))
	}
	refusal := task.Refuse(task.Overloaded, "the pool was full for %s; it has %d slots and %d quick slots",
		e.config.PoolWait, e.config.Slots, e.config.QuickSlots)
	if entry != nil && entry.Slots > 0 && known.limit.Load().Free() == 0 {
		refusal = task.Refuse(task.Overloaded, "action %s was full for %s; it has %d slots of its own", entry.Name, e.config.PoolWait, entry.Slots)
	}
	refusal.Limit, refusal.RetryAfter = "slots", time.Second
	return nil, refusal
}

// startNow is Start, but it returns false unless a slot is free.
func (s *Source) startNow(t Task, deliver func(Task, []byte)) bool {
	a, _ := s.attempt(t, deliver)
	if a == nil {
		s.startElsewhere(t, deliver)
		return true
	}
	s.e.running.Add(1)
	if started, _ := s.queue.GoNow(a.limit, a.run); started {
		return true
	}
	s.e.running.Done()
	return false
}

// startOrGiveUp is Start, but it delivers nil if the task was dropped before it could wait.
func (s *Source) startOrGiveUp(t Task, deliver func(Task, []byte)) {
	if !s.Start(t, deliver) {
		deliver(t, nil)
	}
}

// runQuick runs one task in a lane of its own. It delivers nil if the pool stays full.
func (e *Executor) runQuick(ctx context.Context, source *Source, t Task, deliver func(Task, []byte)) {
	defer e.running.Done()
	lane := e.NewLane()
	lane.Bind(source)
	lane.Deliver, lane.HandOver = deliver, func() {}
	ctx, cancel := context.WithTimeout(ctx, e.config.PoolWait)
	defer cancel()
	defer context.AfterFunc(e.stopped, cancel)()
	if lane.Enter(ctx) != nil {
		deliver(t, nil)
		return
	}
	result, fate := lane.Run(t)
	if fate == IsLost {
		return
	}
	lane.Leave()
	if fate == IsSlow { // it was found to be slow just now
		source.startOrGiveUp(t, deliver)
		return
	}
	deliver(t, bytes.Clone(result))
}

// run runs an attempt in the slot that it has got.
func (a *attempt) run() {
	e := a.e
	a.began = e.now()
	if a.ctx == nil {
		a.ctx = &callContext{e: e}
	}
	a.ctx.deadline = a.began + int64(a.timeout())
	if !a.mayEnter() {
		a.leaveUnentered()
		return
	}
	a.source.add(a)
	a.watch(a.timeout())
	if a.ctx.Err() != nil { // its client disconnected before it began
		a.leaveSlot(appendFailure(nil, cancelledText), Cancelled)
		return
	}
	if held := a.known.held(a.began); held > 0 && a.durable == nil {
		a.leaveSlot(appendFailure(nil, a.heldBack(held)), Failed)
		return
	}
	result, outcome := a.perform(nil, a.leaveSlot)
	if e.now()-a.began < int64(period) {
		a.known.wasQuick()
	}
	a.leaveSlot(result, outcome)
}

// heldBack returns the failure of a direct task whose action is held back.
func (a *attempt) heldBack(held time.Duration) string {
	return fmt.Sprintf("action %s is held back for %s: what it depends on asked for that", a.entry.Name, held.Round(time.Second))
}

// leaveSlot settles an attempt that ran in a slot.
func (a *attempt) leaveSlot(result []byte, outcome Outcome) {
	a.settle(result, outcome, func() { a.e.pool.LeaveSlot(a.limit) })
}

// refuseUnknown appends the result of a task whose action is not registered.
func (e *Executor) refuseUnknown(dst []byte, t Task) []byte {
	if e.sample.wanted() {
		e.sample.see(t, string(t.Action), Failed, 0)
	}
	e.unknown.count(Failed, 0)
	text := "unknown action " + string(t.Action)
	if e.config.Peers != nil && t.PassedOn == "" {
		text = e.config.Peers.Unknown(string(t.Action))
	}
	return appendFailure(dst, text)
}
