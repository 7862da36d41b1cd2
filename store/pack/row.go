package pack

import (
	"database/sql/driver"
	"fmt"

	"github.com/posta-tasks/posta/task"
)

// Columns are what Row makes a task of; the payload comes behind them where it is wanted.
// They are few, for each costs with every change: the flags and counts are one number, and
// state and attempt follow from the history. The last one is the node that a task is reserved for; empty if it
// was reserved when its latest claim ended, and NULL if it was entered before.
const Columns = `id, lane, suspect + 2*cancelling + 4*crashes + 1024*failures, run_at, due,
	spec, progress, outcome, history, attempt, CASE WHEN reserved = attempt THEN CASE state WHEN 3 THEN node ELSE '' END END,
	expires`

// The places of columns in a row.
const (
	fenceColumn    = 9
	reservedColumn = 10
	expiresColumn  = 11
	payloadColumn  = 12
)

// unpackDue gives due the meaning that follows from the state.
func unpackDue(due int64, t *task.Task) {
	switch {
	case t.State == task.Running, t.Reserved != "":
		t.Lease = Time(due)
	case t.State.Final():
		t.FinishedAt = t.History[len(t.History)-1].At
	}
}

// Row makes a task of Columns, with the newest entries of its history, at most so many.
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
	t.RunAt, t.StartedAt, t.Node, t.History = Time(Int(row[3])), Time(line.started), line.node, line.entries
	t.Expires = Time(Int(row[expiresColumn]))
	t.Fence = int(Int(row[fenceColumn]))
	t.Reserved, line.Reserved = row[reservedColumn].(string)
	unpackDue(Int(row[4]), &t)
	if len(row) > payloadColumn {
		t.Payload.Inline = Blob(row[payloadColumn])
	}
	return t, line, nil
}

// Blob gives a column that may be NULL.
func Blob(v driver.Value) []byte {
	b, _ := v.([]byte)
	return b
}

// Int gives a column that may be NULL; that is 0.
func Int(v driver.Value) int64 {
	n, _ := v.(int64)
	return n
}

// Due returns when time does something to a whole task that waits, in milliseconds; 0 when it does nothing.
func Due(t *task.Task) int64 {
	expires := int64(0)
	if t.Attempt == 0 { // one that has started expires no more
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

// RowState gives the state of a task's row: what is reserved has that of what runs.
func RowState(t *task.Task) int64 {
	if t.Reserved != "" {
		return StateNumber(task.Running)
	}
	return StateNumber(t.State)
}

// Reserved gives the column of a task's row that says under which fence it is reserved.
func Reserved(t *task.Task) int64 {
	if t.Reserved == "" {
		return 0
	}
	return int64(t.Fence)
}
