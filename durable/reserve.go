package durable

import (
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// reservation is slots of this engine for tasks that the store claims for it when it accepts them, which saves
// their claims.
type reservation struct {
	a      *acceptor // nil: nothing is reserved
	places int
	until  time.Time // the end of the leases
}

// reserve reserves a slot for each task, up to the number of free slots, unless older tasks may wait for these. It
// sets this node in the tasks. The caller releases the reservation when the store has answered.
func (a *acceptor) reserve(tasks []task.Task) reservation {
	if !a.starts.Enter() {
		return reservation{}
	}
	r, now := reservation{a: a, until: leaseEnd()}, a.storeNow()
	free := 0
	if a.running.Load() && !a.draining.Load() && !a.claimer.mayHave.Load() {
		if free = a.capacity.free(); a.mailbox != nil {
			free -= a.mailbox.Waiting() // these have their slots
		}
	}
	for i := 0; i < len(tasks) && r.places < free; i++ {
		if t := &tasks[i]; a.mayClaim(t) && t.Delay == 0 && !t.RunAt.After(now) {
			t.Node = a.config.Node
			r.places++
		}
	}
	a.capacity.reserved.Add(int64(r.places))
	return r
}

// mayClaim reports whether the engine would claim a task if it had one more slot.
func (a *acceptor) mayClaim(t *task.Task) bool {
	return a.works(t) && !a.config.limits(t.Queue) && !a.config.Executor.IsLimited(t.Action) && !t.Payload.IsBlob() && (a.mailbox == nil || !a.mailbox.IsPaused(t.Queue))
}

// release frees the slots. Attempts from add occupy their own.
func (r reservation) release() {
	if r.a != nil {
		r.a.capacity.reserved.Add(int64(-r.places))
		r.a.starts.Leave()
	}
}

// add adds the tasks that the store has claimed for this node. again means that the call was repeated after a lost
// answer; then duplicates may be tasks of the first call.
func (r reservation) add(asked []task.Task, answers []store.Accepted, again bool) {
	if r.places == 0 {
		return
	}
	a := r.a
	var claimed []*attempt
	for i := range answers {
		t := answers[i].Task
		ours := asked[i].Node != "" && t.ID == asked[i].ID && t.Reserved == a.config.Node && t.Fence == 1
		if !ours || answers[i].Duplicate && !(again && a.attempts.Find(t.ID, 1) == nil) {
			continue
		}
		t.Payload = asked[i].Payload
		claimed = append(claimed, a.attempts.Add(&t, r.until))
	}
	a.counts.claimedByAccept.Add(int64(len(claimed)))
	a.launcher.add(claimed)
	if a.capacity.free() == 0 {
		a.claimer.wantNow()
	}
}
