package pack

import (
	"time"

	"github.com/posta-tasks/posta/task"
)

// Accepted gives a task as it is in the state in which it was accepted, at a time in whole milliseconds. One that
// runs was started then on the node that asked names. It shares what it has with asked.
func Accepted(asked *task.Task, state task.State, at time.Time) task.Task {
	t := task.Task{ID: asked.ID, Action: asked.Action, Payload: asked.Payload, Options: asked.Options, State: state, CreatedAt: at}
	t.RunAt, t.Expires = Time(Millis(t.RunAt)), Time(Millis(t.Expires))
	t.History = []task.Entry{{Seq: 1, State: state, At: at}}
	if state == task.Running {
		t.Attempt, t.Node, t.StartedAt, t.Lease = 1, asked.Node, at, at.Add(task.LeaseTime)
		t.History = []task.Entry{{Seq: 2, State: state, Attempt: 1, At: at, Node: asked.Node}}
	}
	return t
}
