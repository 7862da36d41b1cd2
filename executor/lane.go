package executor

import (
	"context"
	"sync/atomic"
	"time"
)

// The states of a lane, in the lowest bits of Lane.state. The number of the task is in the bits above, so that the
// monitor can tell one task from the next.
const (
	laneBusy  = 1
	laneLost  = 2 // another goroutine reads the connection
	laneBits  = 2
	slabSize  = 32       // contexts in one allocation
	keptBytes = 64 << 10 // largest result buffer that a lane reuses

	// To read the clock costs a tenth of a quick task. So tasks that take less than timedAlone are timed in groups
	// of up to timedGroup, and each counts with the mean of its group.
	timedGroup = 8
	timedAlone = 5 * time.Microsecond
)

// Fate is what Lane.Run did with a task.
type Fate uint8

// The fates.
const (
	Answered Fate = iota // the task ran, and its result is returned
	IsSlow               // the task did not run: its action is slow, so it needs a slot
	IsLost               // the task took long, and the lane is lost
)

// Lane runs quick tasks one after the other on the goroutine of its caller. It holds one quick permit from Enter to
// Leave. When a task takes long, the lane is lost: HandOver was called on another goroutine, which continues the
// work of the caller. The caller must only return. Deliver gets the result of the task when it ends. One goroutine
// at a time may use a Lane, until the lane is lost.
type Lane struct {
	// HandOver is called when the current task takes long. It must not block.
	HandOver func()
	// Deliver gets the result of the task that took long.
	Deliver func(Task, []byte)

	e        *Executor
	place    int
	state    atomic.Uint64
	left     chan struct{} // closed when the lane is lost and its attempt independent of it
	attempt  attempt
	actions  *table        // where the action of attempt was found
	contexts []callContext // not yet used
	result   []byte
	tally    tally
	last     int64 // when the clock was last read, by Executor.now
	entered  int64 // when the permit was taken, by Executor.now
	untimed  int64 // tasks since last
	group    int64 // after how many of them the clock is read
}

// NewLane returns a lane. HandOver and Deliver must be set before its first use.
func (e *Executor) NewLane() *Lane {
	l := &Lane{e: e, left: make(chan struct{}), group: 1}
	l.attempt.e = e
	return l
}

// Bind sets the source of the tasks that the lane runs from now on.
func (l *Lane) Bind(source *Source) { l.attempt.source = source }

// Enter takes a quick permit. It waits for one until ctx ends.
func (l *Lane) Enter(ctx context.Context) error {
	if err := l.e.pool.EnterQuick(ctx); err != nil {
		return err
	}
	l.e.monitor.enter(l)
	l.last = l.e.now()
	l.entered = l.last
	return nil
}

// Held returns how long the lane has held its permit, as of the last reading of the clock.
func (l *Lane) Held() time.Duration { return time.Duration(l.last - l.entered) }

// Leave returns the permit.
func (l *Lane) Leave() {
	l.readClock()
	l.tally.flush()
	l.e.monitor.leave(l)
	l.e.pool.LeaveQuick()
}

// Run runs one task, unless its action is slow. It must be called between Enter and Leave. The result is valid
// until the next call.
func (l *Lane) Run(t Task) (result []byte, fate Fate) {
	e, a := l.e, &l.attempt
	if actions := e.table.Load(); l.actions != actions || a.entry == nil || a.entry.Name != string(t.Action) {
		a.entry, a.known = e.find(t.Action) // usually it is the action of the task before
		l.actions = actions
	}
	if a.entry == nil {
		if e.hasRemote(t.Action) || e.hasPeer(&t) {
			return nil, IsSlow
		}
		l.result = e.refuseUnknown(l.result[:0], t)
		return l.result, Answered
	}
	if isSlow(a.entry, a.known) {
		return nil, IsSlow
	}
	if stats := &a.known.actionStats; l.tally.stats != stats {
		l.readClock() // all tasks of a group have the same action
		l.tally.begin(stats)
	}
	a.task, a.began = t, l.last
	if a.known.held(l.last) > 0 { // l.last may be a little behind
		if held := a.known.held(e.now()); held > 0 {
			l.result = appendFailure(l.result[:0], a.heldBack(held))
			l.account(Failed)
			return l.result, Answered
		}
	}
	a.ctx = nil
	if !a.entry.Quick {
		a.ctx = l.context(l.last + int64(a.timeout()))
	}
	idle := l.state.Load()
	busy := (idle>>laneBits+1)<<laneBits | laneBusy
	l.state.Store(busy)
	result, outcome := a.perform(l.result[:0], l.lose)
	if !l.state.CompareAndSwap(busy, busy&^laneBusy) {
		l.settle(result, outcome)
		return nil, IsLost
	}
	a.ctx.end(endedByCancel)
	if cap(result) <= keptBytes {
		l.result = result
	}
	l.tally.stats.wasQuick()
	l.account(outcome)
	return result, Answered
}

// context takes the next context from the slab. No context is used twice, since an action may keep its context.
func (l *Lane) context(deadline int64) *callContext {
	if len(l.contexts) == 0 {
		l.contexts = make([]callContext, slabSize)
	}
	c := &l.contexts[0]
	l.contexts = l.contexts[1:]
	c.e, c.deadline = l.e, deadline
	return c
}

// account counts a task that ended in the lane.
func (l *Lane) account(outcome Outcome) {
	e, a := l.e, &l.attempt
	l.tally.outcomes[outcome]++
	l.untimed++
	if e.sample.wanted() {
		began := l.last
		l.readClock()
		e.sample.see(a.task, a.entry.Name, outcome, l.last-began)
	} else if l.untimed >= l.group {
		l.readClock()
	}
}

// readClock times the tasks that have not been timed yet.
func (l *Lane) readClock() {
	if l.untimed == 0 {
		return
	}
	now := l.e.now()
	each := (now - l.last) / l.untimed
	l.tally.time(l.untimed, each)
	l.last, l.untimed, l.group = now, 0, 1
	if each < int64(timedAlone) {
		l.group = timedGroup
	}
}

// steal gives up the lane if it still runs the task that the monitor saw. Only the monitor calls it.
func (l *Lane) steal(seen uint64) {
	if !l.state.CompareAndSwap(seen, seen&^laneBusy|laneLost) {
		return
	}
	l.moveOut()
}

// moveOut makes the attempt independent of the lane and calls HandOver.
func (l *Lane) moveOut() {
	l.e.monitor.leave(l)
	l.attempt.deliver = l.Deliver
	l.attempt.leaveLane()
	l.HandOver()
	close(l.left)
}

// lose gives up the lane because its action has called runtime.Goexit, which ends the goroutine of the lane.
func (l *Lane) lose(result []byte, outcome Outcome) {
	seen := l.state.Load()
	if seen&laneBusy != 0 && l.state.CompareAndSwap(seen, seen&^laneBusy|laneLost) {
		l.moveOut()
	}
	l.settle(result, outcome)
}

// settle ends the attempt of a lane that was lost.
func (l *Lane) settle(result []byte, outcome Outcome) {
	<-l.left
	l.tally.time(l.untimed, int64(timedAlone)) // not by the clock, which includes the long task
	l.tally.flush()
	l.attempt.settle(result, outcome, l.e.pool.LeaveOutgrown)
}

// period is how often the monitor looks at each lane. A task that it sees twice leaves its lane, so after one to
// two periods.
const period = time.Millisecond
