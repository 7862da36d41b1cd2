package pack

import (
	"time"

	"github.com/posta-tasks/posta/task"
)

// Accepted returns a task as it is when it has just been accepted in a state, at a time in whole milliseconds.
// If reserved is true, the task is also claimed for the node that asked names. The result shares its payload
// and options with asked.
func Accepted(asked *task.Task, state task.State, reserved bool, at time.Time) task.Task {
	t := task.Task{ID: asked.ID, Action: asked.Action, Payload: asked.Payload, Options: asked.AcceptedAt(at), State: state, CreatedAt: at}
	t.RunAt = Time(Millis(t.RunAt))
	t.History = []task.Entry{{Seq: 1, State: state, At: at}}
	if reserved {
		t.Fence, t.Reserved, t.Lease = 1, asked.Node, at.Add(task.LeaseTime)
	}
	return t
}
