package durable

import (
	"testing"

	"github.com/posta-tasks/posta/task"
)

func subscribersOf(most int) *subscribers {
	return newSubscribers(most, func(id string) *task.Error { return task.Refuse(task.Draining, "%s", id) })
}

// entryEvent is an event of a task that has got an entry.
func entryEvent(id string, seq int, state task.State) taskEvent {
	return taskEvent{ID: id, Task: &task.Task{ID: id, State: state, History: []task.Entry{{Seq: seq, State: state}}}}
}

func TestAWaiterGetsTheEndAndAWatcherEveryEvent(t *testing.T) {
	t.Parallel()
	a := subscribersOf(10)
	waits, _ := a.Add("1", false)
	watches, _ := a.Add("1", true)
	other, _ := a.Add("2", true)
	a.Publish([]taskEvent{entryEvent("1", 2, task.Running), {ID: "1", Attempt: 1, Progress: task.Progress{Percent: 5}}})
	if got := waits.Receive(); len(got.Entries) > 0 || got.Progress != nil || got.Final != nil {
		t.Errorf("the wait received %+v", got)
	}
	if got := watches.Receive(); len(got.Entries) != 1 || got.Progress == nil || got.Progress.Percent != 5 || got.Final != nil {
		t.Errorf("the watch received %+v", got)
	}
	a.Publish([]taskEvent{entryEvent("1", 3, task.Done)})
	if waits.Receive().Final == nil || watches.Receive().Final == nil {
		t.Error("the end was not heard")
	}
	select {
	case <-other.Signal:
		t.Error("another task was heard of")
	default:
	}
	a.Remove(waits)
	a.Remove(watches)
	if ids := a.WaitedFor(); a.Len() != 1 || len(ids) != 1 || ids[0] != "2" {
		t.Errorf("left are %d, for %v", a.Len(), ids)
	}
}

func TestASlowSubscriberIsToldToReadTheStore(t *testing.T) {
	t.Parallel()
	a := subscribersOf(1)
	slow, _ := a.Add("1", true)
	for seq := range 100_000 {
		a.Publish([]taskEvent{entryEvent("1", seq, task.Running)})
	}
	if got := slow.Receive(); !got.Missed || len(got.Entries) > 64 {
		t.Errorf("it missed something: %t; it has %d entries", got.Missed, len(got.Entries))
	}
	a.Publish([]taskEvent{{ID: "1", Look: true}})
	if got := slow.Receive(); !got.Missed || len(got.Entries) > 0 {
		t.Errorf("it does not read the store: %+v", got)
	}
}

func TestSubscribersHaveABoundAndAnEnd(t *testing.T) {
	t.Parallel()
	a := subscribersOf(1)
	if _, refusal := a.Add("1", false); refusal != nil {
		t.Fatal(refusal)
	}
	if _, refusal := a.Add("2", false); refusal == nil || refusal.Code != task.Overloaded {
		t.Errorf("the second came: %v", refusal)
	}
	a.Drain()
	if _, refusal := a.Add("2", false); refusal == nil || refusal.Code != task.Draining {
		t.Errorf("after the end came: %v", refusal)
	}
}
