package executor

import (
	"context"
	"sync/atomic"
	"time"
)

// States of a lane, in its lowest bits; above them is the number of the task, so that
// the monitor tells one task from the next.
const (
	laneBusy  = 1
	laneLost  = 2 // the monitor has handed the reading over
	laneBits  = 2
	slabSize  = 32       // contexts that are allocated together
	keptBytes = 64 << 10 // largest result buffer that a lane keeps

	// Reading the clock costs a tenth of a quick task, so tasks of less than timedAlone
	// are timed in groups of up to timedGroup, each at the group's mean.
	timedGroup = 8
	timedAlone = 5 * time.Microsecond
)

// Fate is what became of a task that a lane was given.
type Fate uint8

// The fates.
const (
	Answered Fate = iota // it ran, and here is its result
	IsSlow               // it was not run: its action is slow, so it should go to a slot
	IsLost               // it took long, and the lane is lost
)

// Lane runs quick tasks one after the other on its caller's goroutine, under one quick
// permit from Enter to Leave. When a task takes long, the lane is lost: HandOver has
// been called, on another goroutine, to go on with whatever the caller did, and the
// caller must do no more than return; the lane's task is delivered when it ends. A Lane
// is for one goroutine, and may be used again until it is lost.
type Lane struct {
	// HandOver is called when the current task takes long. It must not block.
	HandOver func()
	// Deliver is given the result of a task that made the lane be lost.
	Deliver func(Task, []byte)

	e        *Executor
	place    int
	state    atomic.Uint64
	left     chan struct{} // closed when the lane is lost and its attempt stands on its own
	attempt  attempt
	actions  *table        // in which attempt's action was found
	contexts []callContext // not yet used
	result   []byte
	tally    tally
	last     int64 // when the clock was read last, by Executor.now
	entered  int64 // when the permit was taken, likewise
	untimed  int64 // tasks since then
	group    int64 // how many of them make a group
}

// NewLane makes a lane. HandOver and Deliver must be set before it is used.
func (e *Executor) NewLane() *Lane {
	l := &Lane{e: e, left: make(chan struct{}), group: 1}
	l.attempt.e = e
	return l
}

// Bind says for which source the lane runs tasks from now on.
func (l *Lane) Bind(source *Source) { l.attempt.source = source }

// Enter takes a quick permit, waiting until ctx ends if there is none.
func (l *Lane) Enter(ctx context.Context) error {
	if err := l.e.pool.EnterQuick(ctx); err != nil {
		return err
	}
	l.e.monitor.enter(l)
	l.last = l.e.now()
	l.entered = l.last
	return nil
}

// Held is how long the lane has held its permit, as of the latest task that was timed.
func (l *Lane) Held() time.Duration { return time.Duration(l.last - l.entered) }

// Leave returns the permit.
func (l *Lane) Leave() {
	l.readClock()
	l.tally.flush()
	l.e.monitor.leave(l)
	l.e.pool.LeaveQuick()
}

// Run runs one task between Enter and Leave, unless its action is slow. The result is
// valid until the next call.
func (l *Lane) Run(t Task) (result []byte, fate Fate) {
	e, a := l.e, &l.attempt
	if actions := e.table.Load(); l.actions != actions || a.entry == nil || a.entry.Name != string(t.Action) {
		a.entry, a.known = e.find(t.Action) // mostly it is that of the task before
		l.actions = actions
	}
	if a.entry == nil {
		l.result = e.refuseUnknown(l.result[:0], t)
		return l.result, Answered
	}
	if isSlow(a.entry, a.known) {
		return nil, IsSlow
	}
	if stats := &a.known.actionStats; l.tally.stats != stats {
		l.readClock() // a group is of one action
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

// context takes the next context from the slab. Contexts are never used twice: an
// action may have kept one.
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

// steal hands the reading over if the lane still runs the task that the monitor saw; it
// is the monitor's.
func (l *Lane) steal(seen uint64) {
	if !l.state.CompareAndSwap(seen, seen&^laneBusy|laneLost) {
		return
	}
	l.moveOut()
}

// moveOut makes the attempt stand on its own and the reading go on elsewhere.
func (l *Lane) moveOut() {
	l.e.monitor.leave(l)
	l.attempt.deliver = l.Deliver
	l.attempt.leaveLane()
	l.HandOver()
	close(l.left)
}

// lose is for an action that ends the goroutine: the lane's goroutine is about to die.
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
	l.tally.time(l.untimed, int64(timedAlone)) // the clock now shows the long one's time, too
	l.tally.flush()
	l.attempt.settle(result, outcome, l.e.pool.LeaveOutgrown)
}

// period is how often the monitor looks: a task is taken out of its lane when it is
// seen twice, so after one to two periods.
const period = time.Millisecond
