// Package storetest is the suite that every store must pass. Each test is a sentence of the contract in package
// store; each theme has a file. A bug that is found in one store becomes a test here, so that the stores cannot
// differ.
//
// The last test runs random schedules of operations on three nodes that crash and come back, and compares the
// store with a small model. It shows what a store must never do, in whatever order the operations come.
package storetest

import (
	"fmt"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// Clock is the clock of the store under test. Advance moves it forward. It may also move by itself, but by much
// less than a second in a test. A test must not depend on how fast it runs, so a clock that cannot be stopped
// moves with the number of calls.
type Clock struct {
	Now     func() time.Time
	Advance func(time.Duration)
	// Jump sets the wall clock forward by a duration, while the steady clock of the store does not change. It
	// is nil if the store uses the clock of another machine.
	Jump func(time.Duration)
	// Steady is the clock that Jump does not change.
	Steady func() time.Duration
}

// ManualClock returns a clock that only Advance and Jump move.
func ManualClock() Clock {
	var passed, set atomic.Int64
	start := time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.FixedZone("", 3600))
	return Clock{
		Now:     func() time.Time { return start.Add(time.Duration(passed.Load() + set.Load())) },
		Advance: func(d time.Duration) { passed.Add(int64(d)) },
		Jump:    func(d time.Duration) { set.Add(int64(d)) },
		Steady:  func() time.Duration { return time.Duration(passed.Load()) },
	}
}

// Open opens an empty store with these limits. The suite closes it; Open registers any other cleanup with
// t.Cleanup.
type Open func(t *testing.T, limits store.Limits) (store.Store, Clock)

// sentences are the tests of one theme, by their sentences.
type sentences map[string]func(*fixture)

// Run tests a store against the contract.
func Run(t *testing.T, open Open) {
	themes := map[string]sentences{
		"accept": accept(), "accept and start": acceptAndStart(), "reserved": reserved(), "unentered": unentered(), "entered": entered(), "list": list(), "keys": keys(), "kept keys": keptKeys(), "claim": claim(), "claim by id": claimByID(),
		"priority": priority(), "lease": lease(), "adoption": adoption(), "deaths": deaths(), "releases": releases(), "workers": workers(), "record": record(), "stale": stale(), "table": table(), "cancel": cancel(),
		"retry": retry(), "pick": pick(), "crash": crash(), "living": living(), "answering": answering(), "suspects": suspects(), "schedule": schedule(), "expire": expire(),
		"keep": keep(), "spans": spans(), "maintenance": maintenance(), "queues": queues(), "waiting": waiting(), "bounds": bounds(), "nodes": nodes(),
		"history": history(), "copy": copying(), "concurrency": concurrency(), "races": races(), "closing": closing(), "texts": texts(), "owners": owners(), "access keys": accessKeys(), "operations": operations(), "secret": secrets(), "audit": audit(),
	}
	for theme, tests := range themes {
		t.Run(theme, func(t *testing.T) {
			t.Parallel()
			for sentence, test := range tests {
				t.Run(sentence, func(t *testing.T) {
					t.Parallel()
					test(newFixture(t, open))
				})
			}
		})
	}
	t.Run("model", func(t *testing.T) {
		t.Parallel()
		Model(t, open)
	})
}

// fixture is the store of one test, with helpers. A helper ends the test when its call fails.
type fixture struct {
	*testing.T
	store.Store
	clock Clock
	open  Open
	made  int
}

// The limits of each test's store.
const (
	manyQueues   = 8
	manyEntries  = 8 // of the audit
	smallBacklog = 3 // of the queue "small"
)

func newFixture(t *testing.T, open Open) *fixture {
	s, clock := open(t, store.Limits{Queues: manyQueues, Audit: manyEntries, Backlogs: map[string]int{"small": smallBacklog}})
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return &fixture{T: t, Store: s, clock: clock, open: open}
}

// ulid returns the n-th id. Ids are sorted by n.
func ulid(n int) string { return fmt.Sprintf("01JE%022d", n) }

// edit changes the ordinary task.
type edit func(*task.Task)

// draft returns the ordinary task, with a new id. It is not accepted yet.
func (f *fixture) draft(edits ...edit) task.Task {
	f.made++
	t := task.Task{ID: ulid(f.made), Action: "upper", Payload: task.Body{Inline: []byte(`"hola"`)}}
	t.Options = task.Options{Queue: "default", Timeout: time.Minute, MaxAttempts: 3, Keep: time.Hour, KeepFailed: time.Hour}
	for _, e := range edits {
		e(&t)
	}
	return t
}

func inQueue(name string) edit          { return func(t *task.Task) { t.Queue = name } }
func withKey(key string) edit           { return func(t *task.Task) { t.Key = key } }
func withEcho(t *task.Task)             { t.Action = "echo" }
func withAction(name string) edit       { return func(t *task.Task) { t.Action = name } }
func withPriority(p task.Priority) edit { return func(t *task.Task) { t.Priority = p } }

// in makes a task start after d. within makes it expire unless it starts within d.
func (f *fixture) in(d time.Duration) edit {
	at := f.clock.Now().Add(d)
	return func(t *task.Task) { t.RunAt = at }
}

func (f *fixture) within(d time.Duration) edit {
	return func(t *task.Task) { t.ExpiresIn = d }
}

// must returns the value of a call, and ends the test if the call fails.
func must[V any](f *fixture) func(V, error) V {
	return func(v V, err error) V {
		f.Helper()
		if err != nil {
			f.Fatal(err)
		}
		return v
	}
}

// offer accepts a task and returns the whole answer.
func (f *fixture) offer(edits ...edit) store.Accepted {
	f.Helper()
	return must[[]store.Accepted](f)(f.Accept(f.Context(), []task.Task{f.draft(edits...)}))[0]
}

// accept accepts a task and returns it as stored.
func (f *fixture) accept(edits ...edit) task.Task {
	f.Helper()
	answer := f.offer(edits...)
	if answer.Refusal != nil || answer.Duplicate {
		f.Fatalf("the answer to a new task is %+v", answer)
	}
	return answer.Task
}

// claim claims tasks for the ordinary node.
func (f *fixture) claim(edits ...func(*store.Claim)) []task.Task {
	f.Helper()
	by := store.Claim{Node: "n1", Actions: []string{"upper"}, Limit: 100}
	for _, e := range edits {
		e(&by)
	}
	return must[[]task.Task](f)(f.Claim(f.Context(), by))
}

func limit(n int) func(*store.Claim)          { return func(by *store.Claim) { by.Limit = n } }
func node(name string) func(*store.Claim)     { return func(by *store.Claim) { by.Node = name } }
func isolated(by *store.Claim)                { by.Isolated, by.Quarantined = true, true }
func beside(ids ...string) func(*store.Claim) { return func(by *store.Claim) { by.Beside = ids } }
func isolatedOnly(by *store.Claim)            { by.Isolated = true }
func only(ids ...string) func(*store.Claim)   { return func(by *store.Claim) { by.IDs = ids } }
func actions(a ...string) func(*store.Claim)  { return func(by *store.Claim) { by.Actions = a } }
func actionSlots(slots map[string]int) func(*store.Claim) {
	return func(by *store.Claim) { by.ActionSlots = slots }
}
func from(q map[string]int) func(*store.Claim) { return func(by *store.Claim) { by.Queues = q } }

// take claims exactly one task and enters it.
func (f *fixture) take(edits ...func(*store.Claim)) task.Task {
	f.Helper()
	return f.enter(f.reserve(edits...))
}

// enter reports that the action of a claimed task has just been entered.
func (f *fixture) enter(t task.Task) task.Task {
	f.Helper()
	got := must[[]store.Recorded](f)(f.Enter(f.Context(), []store.Entered{{ID: t.ID, Fence: t.Fence}}))[0]
	if got.Stale {
		f.Fatalf("task %s was not entered", t.ID)
	}
	got.Task.Payload = t.Payload
	return got.Task
}

// reserve claims exactly one task.
func (f *fixture) reserve(edits ...func(*store.Claim)) task.Task {
	f.Helper()
	got := f.claim(append([]func(*store.Claim){limit(1)}, edits...)...)
	if len(got) != 1 {
		f.Fatalf("claimed %d tasks, want one", len(got))
	}
	return got[0]
}

// start accepts a task, claims it and enters it.
func (f *fixture) start(edits ...edit) task.Task {
	f.Helper()
	return f.take(only(f.accept(edits...).ID))
}

// end records how an attempt of a task ended.
func (f *fixture) end(t task.Task, change task.Change) store.Recorded {
	f.Helper()
	return f.outcome(store.Outcome{ID: t.ID, Fence: t.Fence, Change: change})
}

func (f *fixture) outcome(o store.Outcome) store.Recorded {
	f.Helper()
	return must[[]store.Recorded](f)(f.Record(f.Context(), []store.Outcome{o}))[0]
}

func (f *fixture) get(t task.Task) task.Task {
	f.Helper()
	return must[[]task.Task](f)(f.Get(f.Context(), []string{t.ID}))[0]
}

func (f *fixture) cancel(t task.Task) store.Changed {
	f.Helper()
	return must[[]store.Changed](f)(f.Cancel(f.Context(), []string{t.ID}))[0]
}

func (f *fixture) retry(t task.Task) store.Changed {
	f.Helper()
	return must[[]store.Changed](f)(f.Retry(f.Context(), []string{t.ID}))[0]
}

// after advances the clock and runs the maintenance.
func (f *fixture) after(d time.Duration) store.Maintained {
	f.Helper()
	f.clock.Advance(d)
	return must[store.Maintained](f)(f.Maintain(f.Context(), 1000))
}

// dies lets the leases of all running tasks end.
func (f *fixture) dies() store.Maintained { f.Helper(); return f.after(task.LeaseTime) }

// beat sends a heartbeat of a node.
func (f *fixture) beat(n store.Node) {
	f.Helper()
	if err := f.Beat(f.Context(), n); err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) queue(name string) store.Queue {
	f.Helper()
	for _, q := range must[[]store.Queue](f)(f.Queues(f.Context())) {
		if q.Name == name {
			return q
		}
	}
	return store.Queue{}
}

// want compares a value with the expected one.
func (f *fixture) want(what string, got, want any) {
	f.Helper()
	if !reflect.DeepEqual(got, want) {
		f.Errorf("%s: %v, want %v", what, got, want)
	}
}

// state checks the state of a task in the store, and returns the task.
func (f *fixture) state(t task.Task, want task.State) task.Task {
	f.Helper()
	got := f.get(t)
	f.want("state", got.State, want)
	return got
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }

// ids returns the ids of tasks in their order.
func ids(tasks []task.Task) []string {
	list := []string{}
	for _, t := range tasks {
		list = append(list, t.ID)
	}
	return list
}
