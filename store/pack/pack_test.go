package pack_test

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/task"
)

// row builds the columns of a task from its packed parts.
func row(t *task.Task, history []byte) []driver.Value {
	return []driver.Value{
		t.ID, int64(4), int64(4*t.Crashes + 1024*t.Failures),
		pack.Millis(t.RunAt), pack.Millis(t.Lease), pack.Spec(t), pack.Progress(&t.Progress),
		pack.Outcome(t.Code, t.Error, &t.Result), history, int64(t.Fence), nil, pack.Millis(t.Expires), t.Payload.Inline,
	}
}

func at(s int64) time.Time { return time.Unix(s, 0).UTC() }

func TestATaskIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	want := task.Task{
		ID: "01JE", Action: "upper", Payload: task.Body{Size: 1 << 20, SHA256: "ab"},
		Options: task.Options{
			Queue: "mail", Priority: task.Low, RunAt: at(5), Timeout: time.Minute + 1, MaxAttempts: 7, Key: "k",
			Keep: time.Hour, Expires: at(99), Backoff: time.Second, BackoffMax: time.Minute, KeepFailed: 2 * time.Hour, Meta: map[string]string{"a": "ä", "b": ""},
		},
		State: task.Running, Attempt: 1, Fence: 3, Failures: 2, Crashes: 1, CreatedAt: at(1), StartedAt: at(7), Lease: at(22), Node: "n1",
		Progress: task.Progress{Percent: 33.3, Message: "third"}, Result: task.Body{Inline: []byte{}}, Code: "c", Error: "e",
		History: []task.Entry{
			{Seq: 1, State: task.Queued, At: at(1)},
			{Seq: 2, State: task.Running, Attempt: 1, At: at(7), Node: "n1"},
		},
	}
	history := append([]byte(pack.NoHistory), pack.Entry(task.Queued, 1000, "", "")...)
	history = append(history, pack.Entry(task.Running, 7000, "n1", "")...)
	got, line, err := pack.Row(row(&want, history), 10)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v\nwant %+v", got, err, want)
	}
	if line.Before != task.Queued || line.Stored != 2 {
		t.Errorf("timeline %+v", line)
	}
}

func TestARowOfAnOlderReleaseHasTheDefaultsOfNewerFields(t *testing.T) {
	t.Parallel()
	columns := row(&task.Task{Options: task.Options{Keep: time.Minute}}, append([]byte(pack.NoHistory), pack.Entry(task.Queued, 1000, "", "")...))
	spec := pack.Blob(columns[5])
	columns[5] = spec[:len(spec)-3] // the former release ended with the labels
	got, _, err := pack.Row(columns, 10)
	want := []time.Duration{task.DefaultBackoff, task.DefaultBackoffMax, time.Minute}
	if have := []time.Duration{got.Backoff, got.BackoffMax, got.KeepFailed}; err != nil || !reflect.DeepEqual(have, want) {
		t.Errorf("%v, %v; want %v", have, err, want)
	}
}

func TestADamagedColumnReturnsAnErrorAndDoesNotPanic(t *testing.T) {
	t.Parallel()
	sound := task.Task{Options: task.Options{Meta: map[string]string{"a": "b"}}}
	history := append([]byte(pack.NoHistory), pack.Entry(task.Queued, 1000, "", "why")...)
	whole := row(&sound, history)
	former := len(pack.Spec(&sound)) - 3
	for _, column := range []int{5, 8} {
		for cut := range len(pack.Blob(whole[column])) {
			damaged := append([]driver.Value{}, whole...)
			if damaged[column] = pack.Blob(whole[column])[:cut]; column == 5 && cut == former {
				continue // a complete row of an older release
			}
			if _, _, err := pack.Row(damaged, 10); !errors.Is(err, pack.ErrDamaged) {
				t.Errorf("column %d cut at %d: %v", column, cut, err)
			}
		}
	}
}

// life is the history of a task that is retried after each success.
func life(changes int) []byte {
	history := []byte(pack.NoHistory)
	for i := range changes {
		history = append(history, step(i)...)
	}
	return history
}

func step(i int) []byte {
	return pack.Entry([]task.State{task.Queued, task.Running, task.Done}[i%3], int64(i)*1000, fmt.Sprint("n", i), "")
}

func TestATrimmedHistoryContinuesLikeTheWholeOne(t *testing.T) {
	t.Parallel()
	for changes := task.HistoryEntries - 3; changes < task.HistoryEntries+7; changes++ {
		trimmed, err := pack.TrimHistory(life(changes))
		if err != nil {
			t.Fatal(err)
		}
		trimmed = append(append([]byte{}, trimmed...), step(changes)...)
		want, _, err := pack.Row(row(&task.Task{}, life(changes+1)), task.HistoryEntries-1)
		if err != nil {
			t.Fatal(err)
		}
		got, line, err := pack.Row(row(&task.Task{}, trimmed), task.HistoryEntries-1)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("after %d changes: %+v, %v", changes, got, err)
		}
		if line.Stored > task.HistoryEntries+1 {
			t.Errorf("%d entries are left", line.Stored)
		}
	}
}

func TestTheMarksOfAdoptionsAreNoEntriesAndChangeTheNode(t *testing.T) {
	t.Parallel()
	history := append([]byte(pack.NoHistory), pack.Entry(task.Queued, 1000, "", "")...)
	history = append(history, pack.Entry(task.Running, 2000, "n1", "")...)
	history = append(history, pack.Adopted("n2")...)
	want := []task.Entry{{Seq: 1, State: task.Queued, At: at(1)}, {Seq: 2, State: task.Running, Attempt: 1, At: at(2), Node: "n1"}}
	check := func(history []byte) task.Task {
		t.Helper()
		got, line, err := pack.Row(row(&task.Task{}, history), 10)
		if err != nil || !reflect.DeepEqual(got.History, want) || got.Node != "n2" || got.StartedAt != at(2) || line.Stored != len(want) {
			t.Errorf("%+v of %s since %s, %d entries, %v", got.History, got.Node, got.StartedAt, line.Stored, err)
		}
		return got
	}
	got := check(history)
	check(pack.History(&got))
	history = append(history, pack.Entry(task.Done, 3000, "", "")...)
	want = append(want, task.Entry{Seq: 3, State: task.Done, Attempt: 1, At: at(3), Node: "n2"})
	got = check(history)
	check(pack.History(&got))
}

func TestAnAttemptThatIsTakenBackDoesNotCount(t *testing.T) {
	t.Parallel()
	history := append([]byte(pack.NoHistory), pack.Entry(task.Queued, 1000, "", "")...)
	history = append(history, pack.Entry(task.Running, 2000, "n1", "")...)
	history = append(history, pack.TakenBack(task.Scheduled, 3000)...)
	history = append(history, pack.Entry(task.Queued, 4000, "", "")...)
	history = append(history, pack.Entry(task.Running, 5000, "n1", "")...)
	history = append(history, pack.Entry(task.Scheduled, 6000, "", "\x00-")...) // an error that looks like the mark
	got, _, err := pack.Row(row(&task.Task{}, history), 10)
	want := []int{0, 1, 0, 0, 1, 1}
	for i, e := range got.History {
		if e.Attempt != want[i] || i < 5 && e.Error != "" {
			t.Errorf("entry %d: %+v, want attempt %d", i, e, want[i])
		}
	}
	again, _, failed := pack.Row(row(&task.Task{}, pack.History(&got)), 10)
	if err != nil || failed != nil || got.Attempt != 1 || !reflect.DeepEqual(again.History, got.History) {
		t.Errorf("attempt %d, %+v, %v, %v\nwant %+v", got.Attempt, again.History, err, failed, got.History)
	}
}

func TestTheWorkerOfAnAttemptIsInThePlaceOfAnError(t *testing.T) {
	t.Parallel()
	begun := append(append(pack.Begun(2000), "\x02n1"...), pack.Worker("w1", "d1")...)
	history := append(append([]byte(pack.NoHistory), pack.Entry(task.Queued, 1000, "", "")...), begun...)
	history = append(history, pack.Entry(task.Scheduled, 3000, "", "busy")...)
	got, _, err := pack.Row(row(&task.Task{}, history), 2)
	want := []task.Entry{
		{Seq: 2, State: task.Running, Attempt: 1, At: at(2), Node: "n1", Worker: "w1", Definition: "d1"},
		{Seq: 3, State: task.Scheduled, Attempt: 1, At: at(3), Node: "n1", Worker: "w1", Error: "busy"},
	}
	if err != nil || got.Worker != "w1" || !reflect.DeepEqual(got.History, want) {
		t.Errorf("%+v of %s, %v", got.History, got.Worker, err)
	}
	for from := range want { // a history whose oldest entries were dropped
		kept := got
		kept.History = want[from:]
		again, _, err := pack.Row(row(&task.Task{}, pack.History(&kept)), 10)
		if err != nil || again.Worker != "w1" || again.Node != "n1" || !reflect.DeepEqual(again.History, want[from:]) {
			t.Errorf("%+v of %s on %s, %v", again.History, again.Worker, again.Node, err)
		}
	}
}
