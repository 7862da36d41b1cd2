package pack

import (
	"database/sql/driver"
	"fmt"

	"github.com/posta-tasks/posta/task"
)

// Columns are the columns that Row reads. Where the payload is wanted, it is one more column after them. There
// are few columns because each one makes every change slower: the flags and counts share one number, and state
// and attempt follow from the history. The last but one column is the node that has reserved the task. It is
// empty if the task was reserved when its latest claim ended, and NULL if its action was entered before that.
const Columns = `id, lane, suspect + 2*cancelling + 4*crashes + 1024*failures, run_at, due,
	spec, progress, outcome, history, attempt, CASE WHEN reserved = attempt THEN CASE state WHEN 3 THEN node ELSE '' END END,
	expires`

// The indexes of columns in a row.
const (
	fenceColumn    = 9
	reservedColumn = 10
	expiresColumn  = 11
	payloadColumn  = 12
)

// unpackDue sets the field that the column due means in the task's state.
func unpackDue(due int64, t *task.Task) {
	switch {
	case t.State == task.Running, t.Reserved != "":
		t.Lease = Time(due)
	case t.State.Final():
		t.FinishedAt = t.History[len(t.History)-1].At
	}
}

// Row builds a task from Columns, with the newest entries of its history, at most as many as entries says.
func Row(row []driver.Value, entries int) (task.Task, Timeline, error) {
	var t task.Task
	t.ID, _ = row[0].(string)
	line, err := unpackHistory(Blob(row[8]), entries)
	if err == nil && len(line.entries) == 0 {
		err = ErrDamaged
	}
	if err == nil {
		err = unpackSpec(Blob(row[5]), &t)
	}
	if err == nil {
		err = unpackProgress(Blob(row[6]), &t)
	}
	if err == nil {
		err = unpackOutcome(Blob(row[7]), &t)
	}
	if err != nil {
		return task.Task{}, line, fmt.Errorf("task %s: %w", t.ID, err)
	}
	counts, last := Int(row[2]), line.entries[len(line.entries)-1]
	t.Suspect, t.Cancelling = counts&1 != 0, counts&2 != 0
	t.Crashes, t.Failures = int(counts>>2&0xff), int(counts>>10)
	t.State, t.Attempt, t.Generation = last.State, last.Attempt, last.Generation
	t.RunAt, t.StartedAt, t.History = Time(Int(row[3])), Time(line.started), line.entries
	t.Node, t.Worker = line.node, line.worker
	t.Expires = Time(Int(row[expiresColumn]))
	t.Fence = int(Int(row[fenceColumn]))
	t.Reserved, line.Reserved = row[reservedColumn].(string)
	unpackDue(Int(row[4]), &t)
	if len(row) > payloadColumn {
		t.Payload.Inline = Blob(row[payloadColumn])
	}
	return t, line, nil
}

// Blob returns a column of bytes; NULL is nil.
func Blob(v driver.Value) []byte {
	b, _ := v.([]byte)
	return b
}

// Int returns a column of integers; NULL is 0.
func Int(v driver.Value) int64 {
	n, _ := v.(int64)
	return n
}

// Due returns the column due of a scheduled or queued task that is not reserved: when the task is started or
// expires, in milliseconds. It is 0 when neither will happen.
func Due(t *task.Task) int64 {
	expires := int64(0)
	if t.Attempt == 0 { // a task that has started does not expire
		expires = Millis(t.Expires)
	}
	switch {
	case t.State == task.Queued:
		return expires
	case t.State != task.Scheduled:
		return 0
	case expires != 0 && t.Expires.Before(t.RunAt):
		return expires
	default:
		return Millis(t.RunAt)
	}
}

// RowState returns the number of the state in a task's row. A reserved task has that of a running one.
func RowState(t *task.Task) int64 {
	if t.Reserved != "" {
		return StateNumber(task.Running)
	}
	return StateNumber(t.State)
}

// Reserved returns the column reserved of a task's row: the fence under which the task is reserved, or 0.
func Reserved(t *task.Task) int64 {
	if t.Reserved == "" {
		return 0
	}
	return int64(t.Fence)
}
