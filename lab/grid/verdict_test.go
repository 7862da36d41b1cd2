package grid_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/sqlite"
	"github.com/posta-tasks/posta/task"
)

// verdict compares the answers to clients with what the store has in the end.
type verdict struct {
	testing.TB
	asks  []*ask
	fault string
	tasks map[string]*task.Task
	blobs *blob.Dir
}

// judge opens the store of a process that has ended and checks the promises.
func (v *verdict) judge(database, blobs string) {
	v.load(database, blobs)
	v.promises()
}

// load reads all that is in the store.
func (v *verdict) load(database, blobs string) {
	s, err := sqlite.Open(sqlite.Config{Path: database})
	if err != nil {
		v.Fatal(err)
	}
	defer s.Close()
	dir, err := blob.OpenDir(blobs)
	if err != nil {
		v.Fatal(err)
	}
	v.Cleanup(func() { _ = dir.Close() })
	v.tasks, v.blobs = map[string]*task.Task{}, dir
	page, err := s.List(v.Context(), store.Query{Limit: 1000})
	if err != nil {
		v.Fatal(err)
	}
	for _, listed := range page.Tasks {
		whole, err := s.Get(v.Context(), []string{listed.ID})
		if err != nil {
			v.Fatal(err)
		}
		v.tasks[listed.ID] = &whole[0]
	}
}

func (v *verdict) promises() {
	v.nothingIsLost()
	v.nothingIsUnrequested()
	for _, one := range v.tasks {
		v.life(one)
		v.end(one)
	}
}

// nothingIsLost wants each task that was acknowledged, and the same one for each key.
func (v *verdict) nothingIsLost() {
	acknowledged, recovered := map[string]bool{}, 0
	keys := map[string]string{}
	for _, a := range v.asks {
		if a.task == "" {
			continue
		}
		acknowledged[a.task] = true
		if v.tasks[a.task] == nil && !a.vanishes {
			v.Errorf("lost: task %s, %s of %.20s, was acknowledged and is not there", a.task, a.action, a.payload)
		}
		if first := keys[a.key]; a.key != "" && first != "" && first != a.task {
			v.Errorf("the key %s was answered with the tasks %s and %s", a.key, first, a.task)
		}
		if a.key != "" {
			keys[a.key] = a.task
		}
		v.answers(a)
	}
	for id := range v.tasks {
		if !acknowledged[id] {
			recovered++
		}
	}
	v.Logf("%d tasks acknowledged, %d in the store, %d of them without an acknowledgement", len(acknowledged), len(v.tasks), recovered)
}

// answers checks that the answers about a task are still true.
func (v *verdict) answers(a *ask) {
	t := v.tasks[a.task]
	if t == nil {
		return
	}
	if a.cancelled == "cancelled" && t.State != task.Cancelled {
		v.Errorf("task %s was answered cancelled and is %s", a.task, t.State)
	}
	if a.cancelled == "cancelling" && t.State != task.Cancelled && t.State != task.Done {
		v.Errorf("task %s was answered cancelling and is %s", a.task, t.State)
	}
	if a.retried && t.Generation != 1 {
		v.Errorf("the retry of task %s was acknowledged, and it has generation %d", a.task, t.Generation)
	}
	for _, state := range append(a.finals, a.pushed...) {
		if state != string(t.State) {
			v.Errorf("task %s was answered %s and is %s", a.task, state, t.State)
		}
	}
}

// nothingIsUnrequested wants for each task an enqueue that asked for it, and for
// each enqueue one task at most.
func (v *verdict) nothingIsUnrequested() {
	asked := map[string]int{}
	for _, a := range v.asks {
		if n := asked[a.action+a.payload]; a.key == "" || n == 0 {
			asked[a.action+a.payload]++
		}
	}
	for _, t := range v.tasks {
		payload := v.body(blob.Payload(t.ID), t.Payload)
		if asked[t.Action+payload]--; asked[t.Action+payload] < 0 {
			v.Errorf("task %s, %s of %.20s, was not requested", t.ID, t.Action, payload)
		}
	}
}

// life checks a task's history: each step one that the table allows, one end in each
// generation, and as many starts as attempts.
func (v *verdict) life(t *task.Task) {
	starts, ends := 0, map[int]int{}
	var before task.Entry
	for i, e := range t.History {
		if i > 0 && !follows(before, e) {
			v.Errorf("task %s went from %+v to %+v", t.ID, before, e)
		}
		if e.State == task.Running {
			starts++
		} else if before.State == task.Running && e.Attempt == before.Attempt-1 {
			starts-- // its worker gave it back
		}
		if e.State.Final() {
			ends[e.Generation]++
		}
		if e.Attempt != starts {
			v.Errorf("task %s has attempt %d at its start number %d", t.ID, e.Attempt, starts)
		}
		before = e
	}
	if starts != t.Attempt || before.State != t.State || before.Generation != t.Generation {
		v.Errorf("task %s has %d starts, and ends %+v; its row says attempt %d, %s", t.ID, starts, before, t.Attempt, t.State)
	}
	for generation := range t.Generation + 1 {
		if ends[generation] != 1 {
			v.Errorf("task %s ended %d times in generation %d: %+v", t.ID, ends[generation], generation, t.History)
		}
	}
}

// follows reports whether one entry of a history may stand after another.
func follows(before, now task.Entry) bool {
	if before.State.Final() {
		return now.State == task.Queued && now.Generation == before.Generation+1
	}
	for _, change := range task.Changes() {
		to, ok := change.Apply(before.State)
		if ok && to == now.State && now.Generation == before.Generation {
			return true
		}
	}
	return false
}

// end checks how a task ended: with the result of its own payload, and failed only if it
// had to. A process that died costs nobody anything.
func (v *verdict) end(t *task.Task) {
	payload := v.body(blob.Payload(t.ID), t.Payload)
	result := ""
	if t.State == task.Done {
		result = v.body(blob.Result(t.ID, t.Fence), t.Result)
	}
	want := task.Done
	failures, code := 0, task.Code("")
	switch payload {
	case `"bad"`:
		want, failures, code = task.Failed, 1, task.ActionFailed
	case "3599.5":
		want, failures, code = task.Failed, 2, task.TimedOut
	case `"far"`, `"held"`, "3598.5":
		want = task.Cancelled
	case `"e"`:
		if t.Attempt == 0 {
			want, code = task.Failed, task.Expired
		}
	}
	if v.fault == "result.put=error@1" && t.Result.IsBlob() {
		failures = t.Failures // it may be the one whose result could not be stored at first
	}
	crashes := 0
	if v.fault == "abandon.committed=kill@1" {
		crashes = 1 // the task that was given back may be running again, alone, when the process dies
	}
	if t.State != want || t.Failures != failures || t.Code != code || t.Crashes > crashes {
		v.Errorf("task %s, %s of %.20s, ended %s %s with %d failures and %d crashes; want %s %s, %d and none: %+v", t.ID, t.Action,
			payload, t.State, t.Code, t.Failures, t.Crashes, want, code, failures, t.History)
	}
	if want == task.Done && t.Action != "sleep" {
		upper := payload
		if t.Action == "upper" {
			upper = strings.ToUpper(payload)
		}
		if result != `{"ok":true,"data":`+upper+`}` {
			v.Errorf("task %s of %.20s has the result %.40s", t.ID, payload, result)
		}
	}
}

// body reads a body wherever it is.
func (v *verdict) body(key blob.Key, b task.Body) string {
	if !b.IsBlob() {
		return string(b.Inline)
	}
	stream, err := v.blobs.Get(context.Background(), key, blob.Sum{Size: b.Size, SHA256: b.SHA256})
	if err != nil {
		v.Errorf("the body %s: %v", key, err)
		return ""
	}
	text, err := io.ReadAll(stream)
	if err = errors.Join(err, stream.Close()); err != nil {
		v.Errorf("the body %s: %v", key, err)
	}
	return string(text)
}
