package durable

import (
	"cmp"
	"context"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/durable/mailbox"
	"github.com/posta-tasks/posta/task"
)

// never is longer than any wait.
const never = time.Duration(math.MaxInt64)

// publisher notifies the engines of this process, and other nodes, of changes of tasks.
type publisher struct {
	*core
	registry *registry
	mailbox  *mailbox.Mailbox // nil without a broker
}

// publish offers queued tasks to claimers, and tells maintenance when the first scheduled task is due.
func (p *publisher) publish(tasks []*task.Task) {
	first := never
	var queued []*task.Task
	for _, t := range tasks {
		if t.Reserved != "" {
			continue // a node has claimed it
		}
		due := t.Expires
		switch t.State {
		case task.Queued:
			queued = append(queued, t)
		case task.Scheduled:
			if due.IsZero() || t.RunAt.Before(due) {
				due = t.RunAt
			}
		}
		if !due.IsZero() { // relative to the time of the store, since ours may differ
			at := t.CreatedAt
			if n := len(t.History); n > 0 {
				at = t.History[n-1].At
			}
			first = min(first, due.Sub(at))
		}
	}
	if len(queued) > 0 && p.mailbox == nil {
		p.hub.offer(queued)
	} else if len(queued) > 0 {
		p.place(queued)
	}
	if first != never {
		p.hub.due(first)
	}
}

// place offers queued tasks to engines of this process with free slots, and the others to the broker if a live node
// has their action.
func (p *publisher) place(queued []*task.Task) {
	left := p.hub.place(queued)
	p.wakeRemoteWorkers(left)
	p.mailbox.Offer(slices.DeleteFunc(slices.Clone(left), func(t *task.Task) bool {
		return t.Suspect || !p.registry.isServed(t.Action)
	}))
}

// wakeRemoteWorkers wakes the dispatchers of other nodes if their workers have the action of one of these tasks. Nodes take hints
// only for their own actions.
func (p *publisher) wakeRemoteWorkers(queued []*task.Task) {
	i := slices.IndexFunc(queued, func(t *task.Task) bool { return !t.Suspect && p.registry.isForWorkersElsewhere(t.Action) })
	if i >= 0 { // one event is enough, since a dispatcher claims as much as its workers can take
		p.mailbox.SendEvents([]broker.Event{{Kind: broker.Waiting, Task: queued[i].ID, Queue: queued[i].Queue}})
	}
}

// notify sends changes to every engine and every node, and counts and logs them.
func (p *publisher) notify(tasks []task.Task) {
	list := make([]taskEvent, len(tasks))
	for i := range tasks {
		list[i] = taskEvent{Task: &tasks[i], ID: tasks[i].ID, Attempt: tasks[i].Attempt}
	}
	p.hub.notify(list)
	if p.mailbox != nil {
		p.mailbox.SendChanges(tasks)
	}
	p.byQueue.note(tasks)
	p.log(pointers(tasks))
}

// sendProgress sends the progress of actions to every engine and every node.
func (p *publisher) sendProgress(list []taskEvent) {
	p.hub.notify(list)
	if p.mailbox == nil || len(list) == 0 {
		return
	}
	events := make([]broker.Event, len(list))
	for i, ev := range list {
		events[i] = broker.Event{Kind: broker.Progressed, Task: ev.ID, Queue: ev.Queue, Attempt: ev.Attempt, Progress: ev.Progress}
	}
	p.mailbox.SendEvents(events)
}

// log logs failed attempts with their errors, and all other changes at the level debug.
func (p *publisher) log(tasks []*task.Task) {
	logger := p.config.Logger
	debug := logger.Enabled(context.Background(), slog.LevelDebug)
	for _, t := range tasks {
		why := failureOf(t)
		if why == "" && !debug {
			continue
		}
		about := []any{
			"task", t.ID, "state", string(t.State), "attempt", t.Attempt, "action", t.Action, "queue", t.Queue, "code", string(t.Code),
		}
		if t.Node != "" && t.Node != p.config.Node {
			about = append(about, "ran_on", t.Node) // node is the one that logs
		}
		if t.Worker != "" {
			about = append(about, "worker", t.Worker)
		}
		if why != "" {
			logger.Info("attempt failed", append(about, "error", why)...)
		} else {
			logger.Debug("task changed", about...)
		}
	}
}

// failureOf returns why an attempt of a task has just failed, or "".
func failureOf(t *task.Task) string {
	switch {
	case t.State == task.Failed:
		return cmp.Or(t.Error, string(t.Code))
	case t.State == task.Scheduled && len(t.History) > 0:
		return t.History[len(t.History)-1].Error
	}
	return ""
}
