package wire_test

import (
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

func TestAListThatWouldBeTooLongHasFewerTasks(t *testing.T) {
	t.Parallel()
	tasks := make([]task.Task, 5)
	for i := range tasks {
		tasks[i] = task.Task{ID: strings.Repeat("0", 25) + string(rune('A'+i)), Action: "echo", State: task.Done}
		tasks[i].Meta = map[string]string{"large": strings.Repeat("x", 300<<10)}
		tasks[i].Payload, tasks[i].Result = task.Body{Inline: []byte("1")}, task.Body{Inline: []byte("2")}
	}
	got := string(wire.AppendList(nil, tasks, "the end"))
	if count := strings.Count(got, `"task":`); count != 3 || !strings.HasSuffix(got, `],"cursor":"`+tasks[2].ID+`"}`) {
		t.Errorf("%d tasks, and the end is %s", count, got[len(got)-60:])
	}
	if strings.Contains(got, "payload") || strings.Contains(got, "result") {
		t.Error("the list has bodies")
	}
	tasks[0].Meta["large"] = strings.Repeat("x", 2<<20)
	if got := string(wire.AppendList(nil, tasks, "")); strings.Count(got, `"task":`) != 1 {
		t.Error("a task that is too long by itself must be alone")
	}
	if got := string(wire.AppendList(nil, nil, "")); got != `{"ok":true,"tasks":[]}` {
		t.Errorf("an empty list is %s", got)
	}
}

func TestResultsOfQueuesAndNodes(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	queues := []task.Queue{
		{Name: "a", Queued: 2, OldestAge: 1500 * time.Millisecond, RateIn: 0.5, Accepted: 9},
		{Name: "b", Paused: true, Unserved: true},
	}
	want := `{"ok":true,"queues":[{"queue":"a","paused":false,"scheduled":0,"queued":2,"running":0,"failed":0,"oldest_s":1.5,"rate_in":0.5,"rate_out":0,"unserved":false},` +
		`{"queue":"b","paused":true,"scheduled":0,"queued":0,"running":0,"failed":0,"oldest_s":0,"rate_in":0,"rate_out":0,"unserved":true}]}`
	if got := string(wire.AppendQueues(nil, queues)); got != want {
		t.Errorf("got %s", got)
	}
	nodes := []task.Node{{Name: "n\"1", PID: 7, Actions: []string{"echo", "upper"}, Slots: 8, Stuck: 2, Started: now, Seen: now}}
	want = `{"ok":true,"nodes":[{"node":"n\"1","pid":7,"actions":["echo","upper"],"queues":[],"slots":8,"stuck":2,"started_at":"2030-01-01T00:00:00.000Z","seen_at":"2030-01-01T00:00:00.000Z"}]}`
	if got := string(wire.AppendNodes(nil, nodes)); got != want {
		t.Errorf("got %s", got)
	}
}

func TestALineWithoutItsIDIsAnObject(t *testing.T) {
	t.Parallel()
	got := string(wire.Bare(wire.AppendState(nil, nil, &task.Task{ID: "01J", State: task.Cancelled}, false)))
	if got != `{"status":"cancelled","task":"01J"}`+"\n" {
		t.Errorf("got %s", got)
	}
}
