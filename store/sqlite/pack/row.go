package pack

import (
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/posta-tasks/posta/task"
)

// Columns are what Row makes a task of; the payload comes behind them where it is wanted.
const Columns = `id, state, lane, attempt, failures, crashes, suspect + 2*cancelling, run_at, due,
	spec, progress, outcome, history`

// payloadColumn is the place of the payload in a row.
const payloadColumn = 13

// unpackDue gives due the meaning that follows from the state.
func unpackDue(due int64, t *task.Task) {
	switch {
	case t.State == task.Running:
		t.Lease = Time(due)
	case t.State.Final():
		t.FinishedAt = t.History[len(t.History)-1].At
	}
}

// Row makes a task of Columns, with the newest entries of its history, at most so many.
func Row(row []driver.Value, entries int) (task.Task, Timeline, error) {
	var t task.Task
	t.ID, _ = row[0].(string)
	line, err := unpackHistory(Blob(row[12]), entries)
	if err == nil && len(line.entries) == 0 {
		err = ErrDamaged
	}
	if err == nil {
		err = unpackSpec(Blob(row[9]), &t)
	}
	if err == nil {
		err = unpackProgress(Blob(row[10]), &t)
	}
	if err == nil {
		err = unpackOutcome(Blob(row[11]), &t)
	}
	if err != nil {
		return task.Task{}, line, fmt.Errorf("task %s: %w", t.ID, err)
	}
	flags := Int(row[6])
	t.State, t.Suspect, t.Cancelling = stateOf(Int(row[1])), flags&1 != 0, flags&2 != 0
	t.Attempt, t.Failures, t.Crashes = int(Int(row[3])), int(Int(row[4])), int(Int(row[5]))
	t.RunAt, t.StartedAt, t.Node, t.History = Time(Int(row[7])), Time(line.started), line.node, line.entries
	t.Generation = t.History[len(t.History)-1].Generation
	if t.Generation > 0 {
		t.Expires = time.Time{}
	}
	unpackDue(Int(row[8]), &t)
	if len(row) > payloadColumn {
		t.Payload.Inline = Blob(row[payloadColumn])
	}
	return t, line, nil
}

// blob and integer give a column that may be NULL.
func Blob(v driver.Value) []byte {
	b, _ := v.([]byte)
	return b
}

// Int gives a column that may be NULL; that is 0.
func Int(v driver.Value) int64 {
	n, _ := v.(int64)
	return n
}
