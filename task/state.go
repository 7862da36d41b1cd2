package task

import "slices"

// State is where a durable task stands.
type State string

// The states. The last three are final: only a retry by hand leaves them.
const (
	Scheduled State = "scheduled" // waits for its time, the first one or that of another attempt
	Queued    State = "queued"    // may be claimed, or is claimed and waits for a slot of its node
	Running   State = "running"   // its action has been entered
	Done      State = "done"      // an attempt succeeded
	Failed    State = "failed"    // no attempt will be made any more
	Cancelled State = "cancelled" // someone asked for that
)

// States lists the states in the order of a task's life.
func States() []State { return []State{Scheduled, Queued, Running, Done, Failed, Cancelled} }

// Final reports whether the state is one that only a retry by hand leaves.
func (s State) Final() bool { return s == Done || s == Failed || s == Cancelled }

// Change is a change of state, named for what brings it about.
type Change string

// The changes.
const (
	Promote Change = "promote" // its time has come
	Claim   Change = "claim"   // a node takes it; the fence goes up by one
	Enter   Change = "enter"   // the node enters its action; the attempt goes up by one
	Succeed Change = "succeed" // the attempt succeeded
	Fail    Change = "fail"    // the attempt failed, and no other will be made
	Again   Change = "again"   // the attempt failed, and another will be made
	Release Change = "release" // the node gives it back unfinished
	Reap    Change = "reap"    // the lease ran out: the node is dead or cut off
	Crash   Change = "crash"   // it killed its process, alone and twice
	Cancel  Change = "cancel"  // someone asked for that
	Expire  Change = "expire"  // its action was not entered in time
	Retry   Change = "retry"   // by hand; of a finished task the generation goes up by one
)

// step is a row of the table of changes.
type step struct {
	change Change
	from   []State
	to     State
}

// steps is the whole life of a task. Every statement of a store makes one of these,
// guarded by the states in from and, for a task that was claimed, by its fence. Release and
// Reap of a task that was claimed and not entered take the claim back: it stays queued.
var steps = [...]step{
	{Promote, []State{Scheduled}, Queued},
	{Claim, []State{Queued}, Queued},
	{Enter, []State{Queued}, Running},
	{Succeed, []State{Running}, Done},
	{Fail, []State{Running}, Failed},
	{Again, []State{Running}, Scheduled},
	{Release, []State{Queued, Running}, Queued},
	{Reap, []State{Queued, Running}, Queued},
	{Crash, []State{Running}, Failed},
	{Cancel, []State{Scheduled, Queued, Running}, Cancelled},
	{Expire, []State{Scheduled, Queued}, Failed},
	{Retry, []State{Scheduled, Done, Failed, Cancelled}, Queued},
}

// Changes lists the changes.
func Changes() []Change {
	list := make([]Change, len(steps))
	for i, s := range steps {
		list[i] = s.change
	}
	return list
}

// Apply returns the state that a change leads to, and false when it cannot be made in the
// state from.
func (c Change) Apply(from State) (to State, ok bool) {
	for _, s := range steps {
		if s.change == c && slices.Contains(s.from, from) {
			return s.to, true
		}
	}
	return from, false
}
