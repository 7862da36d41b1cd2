package task

import (
	"slices"
	"time"
)

// State is the state of a durable task.
type State string

// The states. The last three are final: a task leaves them only if a client retries it.
const (
	Scheduled State = "scheduled" // waits for the time of its first or next attempt
	Queued    State = "queued"    // may be claimed, or was claimed and waits for a slot of its node
	Running   State = "running"   // the node has entered its action
	Done      State = "done"      // an attempt succeeded
	Failed    State = "failed"    // there will be no further attempt
	Cancelled State = "cancelled" // a client cancelled it
)

// States lists the states in the order of a task's life.
func States() []State { return []State{Scheduled, Queued, Running, Done, Failed, Cancelled} }

// Final reports whether the state is final: a task leaves it only if a client retries it.
func (s State) Final() bool { return s == Done || s == Failed || s == Cancelled }

// Change is a change of a task's state, named after its cause.
type Change string

// The changes.
const (
	Promote Change = "promote" // its time has come
	Claim   Change = "claim"   // a node claims it; the fence goes up by one
	Enter   Change = "enter"   // the node enters its action; the attempt goes up by one
	Succeed Change = "succeed" // the attempt succeeded
	Fail    Change = "fail"    // the attempt failed, and it was the last one
	Again   Change = "again"   // the attempt failed, and there will be another one
	Release Change = "release" // the node returns it unfinished
	// Postpone is a Release of a task that may start again only after a while.
	Postpone Change = "postpone"
	Reap     Change = "reap"   // the lease ran out: the node is dead or cut off
	Crash    Change = "crash"  // its process died twice while it was the only suspect there
	Cancel   Change = "cancel" // a client cancelled it
	Expire   Change = "expire" // no attempt started in time
	Retry    Change = "retry"  // a client retries it; if it was finished, the generation goes up by one
)

// step is a row of the table of changes.
type step struct {
	change Change
	from   []State
	to     State
}

// steps has every change of a task. Each statement of a store that changes a task makes one of these steps. Its
// guard is the states in from and, for a task that was claimed, the fence. Release and Reap of a task that was
// claimed but not entered undo the claim: the task stays queued.
var steps = [...]step{
	{Promote, []State{Scheduled}, Queued},
	{Claim, []State{Queued}, Queued},
	{Enter, []State{Queued}, Running},
	{Succeed, []State{Running}, Done},
	{Fail, []State{Running}, Failed},
	{Again, []State{Running}, Scheduled},
	{Release, []State{Queued, Running}, Queued},
	{Postpone, []State{Queued, Running}, Scheduled},
	{Reap, []State{Queued, Running}, Queued},
	{Crash, []State{Running}, Failed},
	{Cancel, []State{Scheduled, Queued, Running}, Cancelled},
	{Expire, []State{Scheduled, Queued}, Failed},
	{Retry, []State{Scheduled, Done, Failed, Cancelled}, Queued},
}

// Changes returns all changes.
func Changes() []Change {
	list := make([]Change, len(steps))
	for i, s := range steps {
		list[i] = s.change
	}
	return list
}

// Apply returns the state after a change. ok is false if the state from does not allow the change.
func (c Change) Apply(from State) (to State, ok bool) {
	for _, s := range steps {
		if s.change == c && slices.Contains(s.from, from) {
			return s.to, true
		}
	}
	return from, false
}

// IsLeased reports whether a node has the task: it is running, or reserved.
func (t *Task) IsLeased() bool { return t.State == Running || t.Reserved != "" }

const (
	// SuspectsDoubleAfter is how long a process must survive its suspects until twice as many may run in it. A task that
	// kills its process usually does so at once.
	SuspectsDoubleAfter = 250 * time.Millisecond
	// suspectsDoubleMost is the largest number of doublings.
	suspectsDoubleMost = 16
)

// SuspectsAllowed returns how many suspects may run in a process that has survived the first of them for so long.
func SuspectsAllowed(survived time.Duration) int {
	return 1 << min(survived/SuspectsDoubleAfter, suspectsDoubleMost)
}
