package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// copying is about store.Copy and the methods that it calls.
func copying() sentences {
	return sentences{
		"every field of a task is copied":                 everyField,
		"a store is the same after a copy there and back": thereAndBack,
		"copied tasks continue in the target":             goesOn,
		"a copy that was interrupted can be resumed":      resumed,
		"a target with other tasks is refused":            refusedTarget,
		"a task is not copied onto a key of another":      otherKey,
	}
}

// samples returns whole tasks in every state. Together they have each field of task.Task.
func (f *fixture) samples() []task.Task {
	now := f.clock.Now().UTC().Truncate(time.Millisecond)
	at := func(s int) time.Time { return now.Add(time.Duration(s) * time.Second) }
	options := func(key string) task.Options {
		return task.Options{
			Queue: "mail", Priority: task.Low, RunAt: at(-50), Timeout: time.Minute + time.Millisecond, MaxAttempts: 7, Key: key,
			Keep: time.Hour + time.Millisecond, Backoff: time.Second, BackoffMax: 90 * time.Minute, KeepFailed: 9 * time.Hour,
			Meta: map[string]string{"a": "ä", "b": ""}, Owner: "ana",
		}
	}
	queued := task.Entry{Seq: 1, State: task.Queued, At: at(-60)}
	started := task.Entry{Seq: 2, State: task.Running, Attempt: 1, At: at(-40), Node: "n1"}
	byWorker := started
	byWorker.Worker = "w1"
	running := task.Task{ // n1 has entered it, and n4 has adopted it
		ID: ulid(1), Action: "upper", Payload: task.Body{Inline: []byte(`"hola"`)}, Options: options("k1"), State: task.Running,
		Attempt: 1, Fence: 3, Failures: 2, Crashes: 1, Suspect: true, Cancelling: true, CreatedAt: at(-60), StartedAt: at(-40), Lease: at(15),
		Node: "n4", Worker: "w1", Progress: task.Progress{Percent: 33.3, Message: "third"}, History: []task.Entry{queued, byWorker},
	}
	waits := task.Task{
		ID: ulid(2), Action: "echo", Payload: task.Body{Size: 1 << 20, SHA256: "ab"}, Options: options("k2"), State: task.Scheduled,
		CreatedAt: at(-60), History: []task.Entry{{Seq: 1, State: task.Scheduled, At: at(-60)}},
	}
	waits.RunAt, waits.Expires = at(100), at(200)
	done := task.Task{
		ID: ulid(3), Action: "upper", Options: options("k3"), State: task.Done, Attempt: 1, Fence: 1, Generation: 2, CreatedAt: at(-60),
		StartedAt: at(-30), FinishedAt: at(-20), Node: "n2", Worker: "w2", Result: task.Body{Size: 99, SHA256: "cd"},
	}
	for i := range task.HistoryEntries - 2 { // a history whose oldest entries were dropped
		done.History = append(done.History, task.Entry{Seq: 700 + i, State: task.Queued, Generation: 2, At: at(-50)})
	}
	done.History = append(done.History, task.Entry{Seq: 698 + task.HistoryEntries, State: task.Running, Attempt: 1, Generation: 2, At: at(-30), Node: "n2", Worker: "w2"},
		task.Entry{Seq: 699 + task.HistoryEntries, State: task.Done, Attempt: 1, Generation: 2, At: at(-20), Node: "n2", Worker: "w2"})
	failed := task.Task{
		ID: ulid(4), Action: "upper", Options: options(""), State: task.Failed, Attempt: 1, Fence: 1, Failures: 1, CreatedAt: at(-60),
		StartedAt: at(-40), FinishedAt: at(-10), Node: "n1", Code: task.ActionFailed, Error: "no luck",
		History: []task.Entry{queued, started, {Seq: 3, State: task.Failed, Attempt: 1, At: at(-10), Node: "n1", Error: "no luck"}},
	}
	cancelled := task.Task{
		ID: ulid(5), Action: "upper", Options: options(""), State: task.Cancelled, CreatedAt: at(-60), FinishedAt: at(-10),
		History: []task.Entry{queued, {Seq: 2, State: task.Cancelled, At: at(-10)}},
	}
	fresh := task.Task{
		ID: ulid(6), Action: "upper", Options: options(""), State: task.Queued, CreatedAt: at(-60), History: []task.Entry{queued},
		Result: task.Body{}, Payload: task.Body{Inline: []byte("1")},
	}
	fresh.Queue, fresh.RunAt, fresh.Meta, fresh.Priority, fresh.Owner = "default", time.Time{}, nil, task.Normal, ""
	reserved := fresh
	reserved.ID, reserved.Reserved, reserved.Fence, reserved.Lease = ulid(8), "n3", 2, at(15)
	result := failed
	result.ID, result.Code, result.Error, result.Result.Inline = ulid(7), "", "", []byte(`{"ok":true}`)
	result.State, result.Failures = task.Done, 0
	result.History = []task.Entry{queued, started, {Seq: 3, State: task.Done, Attempt: 1, At: at(-10), Node: "n1"}}
	return []task.Task{running, waits, done, failed, cancelled, fresh, result, reserved}
}

// everyField also checks that the samples have every field of task.Task.
func everyField(f *fixture) {
	want := f.samples()
	missing := map[string]bool{}
	fieldsOf(reflect.TypeFor[task.Task](), "", func(name string, index []int) {
		missing[name] = !slices.ContainsFunc(want, func(t task.Task) bool { return !reflect.ValueOf(t).FieldByIndex(index).IsZero() })
	})
	for _, name := range []string{"Warning", "Options.Delay", "Options.ExpiresIn"} { // no store keeps these
		delete(missing, name)
	}
	for name, is := range missing {
		if is {
			f.Errorf("no sample has the field %s of task.Task: add it there, and to Import and ImportTasks of each store", name)
		}
	}
	stored := must[[]bool](f)(f.Import(f.Context(), want))
	f.want("stored", stored, slices.Repeat([]bool{true}, len(want)))
	f.wantSame(f.Store, want)
	again := must[[]bool](f)(f.Import(f.Context(), want))
	f.want("stored again", again, make([]bool, len(want)))
	f.want("running in mail", f.queue("mail").Running, int64(1))
	f.want("failed in mail", f.queue("mail").Failed, int64(1))
	f.want("queued", f.queue("default").Queued, int64(2))
}

// fieldsOf calls each for the fields of a struct, including those of nested structs of package task.
func fieldsOf(t reflect.Type, prefix string, each func(name string, index []int)) {
	for i := range t.NumField() {
		field := t.Field(i)
		if field.Type.Kind() == reflect.Struct && field.Type.PkgPath() == t.PkgPath() {
			fieldsOf(field.Type, prefix+field.Name+".", func(name string, index []int) { each(name, append([]int{i}, index...)) })
		} else {
			each(prefix+field.Name, []int{i})
		}
	}
}

// wantSame compares whole tasks with those of a store.
func (f *fixture) wantSame(s store.Store, want []task.Task) {
	f.Helper()
	got := must[[]task.Task](f)(s.Get(f.Context(), ids(want)))
	for i := range want {
		if !reflect.DeepEqual(got[i], want[i]) {
			f.Errorf("task %s is\n%+v\nwant\n%+v", want[i].ID, got[i], want[i])
		}
	}
}

// contents returns all tasks of a store, newest first, and its queues.
func (f *fixture) contents(s store.Store) ([]task.Task, []store.Queue) {
	f.Helper()
	page := must[store.Page](f)(s.List(f.Context(), store.Query{Limit: 10_000}))
	queues := must[[]store.Queue](f)(s.Queues(f.Context()))
	for i := range queues {
		queues[i].OldestAge = 0 // it changes with the clock
	}
	return must[[]task.Task](f)(s.Get(f.Context(), ids(page.Tasks))), queues
}

// another opens a second store on the same clock.
func (f *fixture) another(limits store.Limits) *fixture {
	f.Helper()
	s, clock := f.open(f.T, limits)
	f.Cleanup(func() { _ = s.Close() })
	return &fixture{T: f.T, Store: s, clock: clock, open: f.open, made: f.made}
}

func (f *fixture) copyTo(to store.Store, edits ...func(*store.CopyConfig)) (store.Copied, error) {
	cfg := store.CopyConfig{Now: f.clock.Now}
	for _, e := range edits {
		e(&cfg)
	}
	return store.Copy(f.Context(), f.Store, to, cfg)
}

// lived makes tasks with most of what can happen to a task.
func (f *fixture) lived() {
	f.Helper()
	f.pauseEmpty("stopped")
	for range 300 { // more than one batch of a copy
		f.accept(inQueue("many"), withEcho)
	}
	f.end(f.start(withKey("done")), task.Succeed)
	f.outcome(again(f.start(withPriority(task.High))))
	again := f.start()
	f.end(again, task.Fail)
	f.retry(again)
	f.cancel(f.accept(withKey("cancelled")))
	f.accept(withKey("cancelled")) // the cancelled task no longer holds the key
	f.accept(f.in(time.Hour), f.within(2*time.Hour))
	f.accept(f.within(time.Hour))
	suspect := f.start()
	f.dies()
	f.state(suspect, task.Queued)
	asked := f.start()
	f.cancel(asked)
	must[[]store.Renewed](f)(f.Renew(f.Context(), "n1", []store.Held{{ID: asked.ID, Fence: asked.Fence, Progress: &task.Progress{Percent: 5, Message: "m"}}}))
	f.accept(f.within(time.Hour))
	f.giveBack(f.reserve())
	f.accept(withPriority(task.Low))
	f.reserve()
	moved := f.accept()
	moved = f.enterBy("w1", f.reserve(only(moved.ID)))
	f.adopt("n2", held(moved))
	f.release(f.start(), uncounted)
	f.release(f.start(), uncounted, later(time.Hour))
	f.release(f.start(), later(time.Hour))
	f.pause("many", true)
	f.end(f.start(inQueue("small")), task.Succeed)
}

// again returns the outcome of an attempt after which there is another one.
func again(t task.Task) store.Outcome {
	return store.Outcome{ID: t.ID, Fence: t.Fence, Change: task.Again, Error: "not yet", Delay: time.Minute}
}

func thereAndBack(f *fixture) {
	f.lived()
	tasks, queues := f.contents(f.Store)
	memory := store.NewMemory(store.MemoryConfig{Now: f.clock.Now, Limits: store.Limits{Queues: 1, Backlog: 1}})
	calls := 0
	copied, err := f.copyTo(memory, func(cfg *store.CopyConfig) {
		cfg.Progress = func(done, total int) { calls++; f.want("total", total, len(tasks)) }
	})
	if err != nil {
		f.Fatal(err)
	}
	f.want("copied", copied.Tasks, len(tasks))
	f.want("queued in many", copied.Counts["many"][task.Queued], 300)
	f.want("progress", calls > 1, true)
	back := f.another(store.Limits{Queues: 1, Backlog: 1}) // limits do not apply to a copy
	if _, err := store.Copy(f.Context(), memory, back.Store, store.CopyConfig{Now: f.clock.Now}); err != nil {
		f.Fatal(err)
	}
	for name, s := range map[string]store.Store{"there": memory, "back": back.Store} {
		gotTasks, gotQueues := f.contents(s)
		f.want("queues "+name, gotQueues, queues)
		f.want("tasks "+name, len(gotTasks), len(tasks))
		f.wantSame(s, tasks)
	}
}

func goesOn(f *fixture) {
	running, gone := f.start(), f.end(f.start(withKey("k")), task.Succeed).Task
	late, due := f.accept(f.within(2*time.Second)), f.accept(f.in(time.Second))
	queued := f.accept()
	to := f.another(store.Limits{})
	if _, err := f.copyTo(to.Store); err != nil {
		f.Fatal(err)
	}
	f.want("of a key that is kept", to.offer(withKey("k")).Task.ID, gone.ID)
	f.want("promoted", ids(to.after(time.Second).Promoted), []string{due.ID})
	f.want("claimed", to.take(only(queued.ID)).Attempt, 1)
	f.want("stale", to.outcome(store.Outcome{ID: running.ID, Fence: running.Fence + 1, Change: task.Succeed}).Stale, true)
	f.want("expired", ids(to.after(time.Second).Expired), []string{late.ID})
	f.want("reaped", slices.Contains(ids(to.after(task.LeaseTime).Reaped), running.ID), true)
	to.state(running, task.Queued)
	f.want("deleted", slices.Contains(ids(to.after(time.Hour).Deleted), gone.ID), true)
	f.want("of a key that is free", to.offer(withKey("k")).Duplicate, false)
}

func resumed(f *fixture) {
	f.lived()
	tasks, queues := f.contents(f.Store)
	to := f.another(store.Limits{})
	ctx, interrupt := context.WithCancel(f.Context())
	_, err := store.Copy(ctx, f.Store, to.Store, store.CopyConfig{Now: f.clock.Now, Progress: func(int, int) { interrupt() }})
	if task.CodeOf(err) != task.Unavailable {
		f.Fatalf("an interrupted copy returns %v", err)
	}
	if _, err := f.copyTo(to.Store); !errors.Is(err, store.ErrNotEmpty) {
		f.Errorf("a copy to a store that is not empty returns %v", err)
	}
	resume := func(cfg *store.CopyConfig) { cfg.Resume = true }
	copied, err := f.copyTo(to.Store, resume)
	if err != nil || copied.Present != 256 || copied.Tasks != len(tasks) {
		f.Fatalf("%+v, %v", copied, err)
	}
	gotTasks, gotQueues := f.contents(to.Store)
	f.want("queues", gotQueues, queues)
	f.want("tasks", gotTasks, tasks)
	if copied, err := f.copyTo(to.Store, resume); err != nil || copied.Present != len(tasks) {
		f.Errorf("a second resume: %+v, %v", copied, err)
	}
	_, gotQueues = f.contents(to.Store)
	f.want("queues", gotQueues, queues)
	to.cancel(tasks[len(tasks)-1])
	if _, err := f.copyTo(to.Store, resume); err == nil {
		f.Error("a changed task in the target gives no error")
	}
}

func refusedTarget(f *fixture) {
	f.accept()
	to := f.another(store.Limits{})
	to.pauseEmpty("mail")
	if _, err := f.copyTo(to.Store); !errors.Is(err, store.ErrNotEmpty) {
		f.Errorf("a target with a queue returns %v", err)
	}
	to.made = 99
	to.accept()
	if _, err := f.copyTo(to.Store, func(cfg *store.CopyConfig) { cfg.Resume = true }); err == nil {
		f.Error("a target with one task more gives no error")
	}
}

func otherKey(f *fixture) {
	f.accept(withKey("k"))
	other := f.draft(withKey("k"))
	other.State, other.CreatedAt = task.Queued, f.clock.Now()
	other.History = []task.Entry{{Seq: 1, State: task.Queued, At: f.clock.Now()}}
	stored, err := f.Import(f.Context(), []task.Task{other})
	if err == nil {
		f.Errorf("it was answered %v", fmt.Sprint(stored))
	}
	f.want("tasks", f.queue("default").Queued, int64(1))
}
