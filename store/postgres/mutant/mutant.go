// Package mutant has what the PostgreSQL store does wrong when a test asks for it, where that is more
// than a guard that is left out. In the binary that people use each of these is as it should be.
package mutant

import (
	"slices"
	"strings"
	"time"

	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/task"
)

// LeaseTime is how long the leases of a node are, in milliseconds of the database's clock.
func LeaseTime(node string) int64 {
	lease := task.LeaseTime
	if fail.Mutant("postgres-lease-by-node-clock") && strings.HasSuffix(node, "1") {
		lease -= time.Minute // so far behind is this one
	}
	return lease.Milliseconds()
}

// TwinsPass tells whether tasks with the same key in one call are stored together, which they never are.
func TwinsPass() bool { return fail.Mutant("postgres-key-as-check-then-insert") }

// AcceptsAgain tells whether an accept that failed is made once more with other ids, which it never is: nobody
// knows what became of it. It waits a moment then.
func AcceptsAgain() bool {
	if !fail.Mutant("postgres-accept-again-with-new-id") {
		return false
	}
	<-time.After(time.Second)
	return true
}

// Renamed gives tasks other ids.
func Renamed(tasks []task.Task) []task.Task {
	const digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	tasks = slices.Clone(tasks)
	for i := range tasks {
		id, end := tasks[i].ID, len(tasks[i].ID)-1
		tasks[i].ID = id[:end] + string(digits[(strings.IndexByte(digits, id[end])+1)%len(digits)])
	}
	return tasks
}
