package durable

import (
	"maps"
	"slices"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/durable/mailbox"
	"github.com/posta-tasks/posta/task"
)

// newMailbox returns the mailbox of the engine.
func (e *Engine) newMailbox() *mailbox.Mailbox {
	interest := broker.Interest{Actions: e.actions()}
	if _, all := e.config.Queues["*"]; e.config.Queues != nil && !all {
		interest.Queues = slices.Sorted(maps.Keys(e.config.Queues))
	}
	return mailbox.New(mailbox.Config{
		Broker: e.config.Broker, Interest: interest, Want: e.claimer.wanted, Wake: e.claimer.wake.Set,
		Behind: e.claimer.look, Receive: e.receiveRemote, Missed: e.poller.gap.Set,
		Refused: func(id string, err error) { e.blame("publish", id, err) },
	})
}

// receive handles events of the engines of this process.
func (e *Engine) receive(list []taskEvent) {
	for i := range list {
		if t := list[i].Task; t != nil && t.Cancelling {
			if a := e.attempts.Find(t.ID, t.Fence); a != nil {
				e.launcher.stop(a, stopCancelled)
			}
		}
	}
	e.subs.Publish(list)
}

// receiveRemote handles events of all nodes from the broker. It ignores those of this process, which receive
// handles.
func (e *Engine) receiveRemote(list []broker.Event) {
	events := make([]taskEvent, 0, len(list))
	for i := range list {
		switch ev := &list[i]; ev.Kind {
		case broker.Changed:
			events = append(events, remoteChange(ev))
		case broker.Progressed:
			if !e.hub.hasAttempt(ev.Task) {
				events = append(events, taskEvent{ID: ev.Task, Attempt: ev.Attempt, Progress: ev.Progress})
			}
		case broker.Cancelling:
			e.attempts.Recheck(ev.Task)
		case broker.Paused, broker.Resumed:
			e.pauses.changed.Set()
		case broker.Waiting:
			e.dispatcher.look()
		}
	}
	e.subs.Publish(events)
}

// remoteChange returns the event of a change on another node. When a task has ended, subscribers need its record,
// which they read from the store.
func remoteChange(ev *broker.Event) taskEvent {
	if ev.Entry.State.Final() {
		return taskEvent{ID: ev.Task, Look: true}
	}
	return taskEvent{ID: ev.Task, Attempt: ev.Attempt, Task: &task.Task{
		ID: ev.Task, State: ev.Entry.State, Attempt: ev.Attempt, History: []task.Entry{ev.Entry},
	}}
}
