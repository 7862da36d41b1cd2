package durable_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// spiked is a store that refuses a call as a whole, though it is there, when it sees a poisoned item: a
// task whose idempotency key is the name of the call.
type spiked struct {
	store.Store
	takes time.Duration // an accept; 0: a millisecond

	mu    sync.Mutex          // guards the two below
	ids   map[string][]string // by the name of the call
	calls map[string]int      // that were refused
}

func (s *spiked) poison(call string, ids ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids[call] = append(s.ids[call], ids...)
}

// check refuses a call that has a poisoned item.
func (s *spiked) check(call string, ids ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		if slices.Contains(s.ids[call], id) {
			s.calls[call]++
			return task.Refuse(task.Internal, "%s: poison", call)
		}
	}
	return nil
}

func (s *spiked) Accept(ctx context.Context, list []task.Task) ([]store.Accepted, error) {
	if err := rest(ctx, max(s.takes, time.Millisecond)); err != nil { // meanwhile others come
		return nil, task.Refuse(task.UnknownOutcome, "the store did not answer in time")
	}
	for i := range list {
		if list[i].Key == "accept" {
			return nil, task.Refuse(task.Internal, "poison")
		}
	}
	for i := range list {
		s.poison(list[i].Key, list[i].ID)
	}
	return s.Store.Accept(ctx, list)
}

func (s *spiked) Get(ctx context.Context, ids []string) ([]task.Task, error) {
	<-time.After(time.Millisecond)
	if err := s.check("get", ids...); err != nil {
		return nil, err
	}
	return s.Store.Get(ctx, ids)
}

func (s *spiked) Claim(ctx context.Context, by store.Claim) ([]task.Task, error) {
	if err := s.check("claim", by.IDs...); err != nil {
		return nil, err
	}
	return s.Store.Claim(ctx, by)
}

func (s *spiked) Renew(ctx context.Context, node string, held []store.Held) ([]store.Renewed, error) {
	for _, claim := range held {
		if err := s.check("renew", claim.ID); err != nil {
			return nil, err
		}
		if claim.Progress != nil {
			if err := s.check("progress", claim.ID); err != nil {
				return nil, err
			}
		}
	}
	return s.Store.Renew(ctx, node, held)
}

func (s *spiked) Enter(ctx context.Context, list []store.Entered) ([]store.Recorded, error) {
	for _, en := range list {
		if err := s.check("enter", en.ID); err != nil {
			return nil, err
		}
	}
	return s.Store.Enter(ctx, list)
}

func (s *spiked) Record(ctx context.Context, list []store.Outcome) ([]store.Recorded, error) {
	for _, o := range list {
		if err := s.check("record", o.ID); err != nil {
			return nil, err
		}
		if o.Error != "the outcome of the attempt could not be recorded" {
			if err := s.check("outcome", o.ID); err != nil {
				return nil, err
			}
		}
	}
	return s.Store.Record(ctx, list)
}

func (s *spiked) Cancel(ctx context.Context, ids []string) ([]store.Changed, error) {
	if err := s.check("change", ids...); err != nil {
		return nil, err
	}
	return s.Store.Cancel(ctx, ids)
}

func (s *spiked) Retry(ctx context.Context, ids []string) ([]store.Changed, error) {
	if err := s.check("change", ids...); err != nil {
		return nil, err
	}
	return s.Store.Retry(ctx, ids)
}

// spikedBroker is the same of a broker's hints.
type spikedBroker struct {
	broker.Broker
	store *spiked
}

func (b spikedBroker) Publish(ctx context.Context, hints []broker.Hint) error {
	for _, hint := range hints {
		if err := b.store.check("publish", hint.ID); err != nil {
			return err
		}
	}
	return b.Broker.Publish(ctx, hints)
}

// spike poisons the world's store, and collects what its nodes log of tasks that are refused.
func (w *world) spike() (*spiked, *faultLog) {
	s := &spiked{Store: w.store, ids: map[string][]string{}, calls: map[string]int{}}
	w.store = s
	return s, &faultLog{}
}

// faultLog collects log lines about tasks, of the level of errors.
type faultLog struct {
	slog.Handler
	mu    sync.Mutex // guards the one below
	lines []string   // call/task
}

func (l *faultLog) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelError }
func (l *faultLog) WithAttrs([]slog.Attr) slog.Handler               { return l }
func (l *faultLog) WithGroup(string) slog.Handler                    { return l }

func (l *faultLog) Handle(_ context.Context, r slog.Record) error {
	call, id := "record", ""
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "call":
			call = a.Value.String()
		case "task":
			id = a.Value.String()
		}
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, call+"/"+id)
	return nil
}

func (l *faultLog) to(c *durable.Config) { c.Logger = slog.New(l) }

// want checks that these were logged, once each, and nothing else.
func (l *faultLog) want(t *testing.T, call string, ids ...string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var want []string
	for _, id := range ids {
		want = append(want, call+"/"+id)
	}
	slices.Sort(want)
	got := slices.Sorted(slices.Values(l.lines))
	if !slices.Equal(got, want) {
		t.Errorf("logged was %v, want %v", got, want)
	}
}

// acceptSome has tasks of an action accepted together, of which these places have the key.
func (w *world) acceptSome(n *node, action string, count int, key string, places ...int) (ids []string, culprits []string) {
	w.t.Helper()
	requests := make([]durable.Request, count)
	for i := range requests {
		requests[i].Action, requests[i].Options.Timeout = action, 24*time.Hour
		if slices.Contains(places, i) {
			requests[i].Options.Key = key
			requests[i].Options.Queue = fmt.Sprint("q", i) // where its key is the only one
		}
	}
	for i, a := range n.Accept(w.t.Context(), requests) {
		switch {
		case a.Refusal != nil:
			w.t.Fatalf("task %d is refused: %v", i, a.Refusal)
		case slices.Contains(places, i):
			culprits = append(culprits, a.Task.ID)
		default:
			ids = append(ids, a.Task.ID)
		}
	}
	return ids, culprits
}

func TestOnePoisonedAcceptIsRefusedAndItsNeighboursAreAccepted(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, logged := w.spike()
		n := w.node("a", logged.to)
		var wait sync.WaitGroup
		for caller := range 50 { // they share calls with each other
			wait.Go(func() {
				requests := make([]durable.Request, 20)
				for i := range requests {
					requests[i].Action = "ok"
				}
				bad := caller%10 == 3
				if bad {
					requests[7].Options.Key, requests[7].Options.Queue = "accept", fmt.Sprint("q", caller)
				}
				for i, a := range n.Accept(t.Context(), requests) {
					guilty := bad && i == 7
					if guilty != (a.Refusal != nil) || guilty && a.Refusal.Code != task.Internal || guilty != (a.Task.ID == "") {
						t.Errorf("caller %d, task %d: %+v", caller, i, a)
					}
					if !guilty {
						w.wantState(w.finished(n, a.Task.ID), task.Done, 1)
					}
				}
			})
		}
		wait.Wait()
		logged.mu.Lock()
		defer logged.mu.Unlock()
		if slices.Sort(logged.lines); len(logged.lines) != 5 || len(slices.Compact(logged.lines)) != 5 {
			t.Errorf("logged was %v", logged.lines)
		}
	})
}

func TestNeighboursOfAPoisonedAcceptAreNotBlamedHoweverLongItTakesToFindIt(t *testing.T) {
	for name, test := range map[string]struct {
		takes    time.Duration // each call of the store
		poisoned int           // every so many tasks
		refused  task.Code     // some innocent ones
	}{
		"longer than one call may take": {500 * time.Millisecond, 40, ""},
		"longer than there is time for": {1900 * time.Millisecond, 2, task.UnknownOutcome},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				s, _ := w.spike()
				s.takes = test.takes
				n := w.node("a", func(c *durable.Config) { c.Shared = true })
				requests := make([]durable.Request, 40)
				for i := range requests {
					requests[i].Action = "ok"
					if i%test.poisoned == 0 {
						requests[i].Options.Key, requests[i].Options.Queue = "accept", fmt.Sprint("q", i)
					}
				}
				for i, a := range n.Accept(t.Context(), requests) {
					var code task.Code
					if a.Refusal != nil {
						code = a.Refusal.Code
					}
					switch guilty := i%test.poisoned == 0; {
					case guilty && code == task.Internal, !guilty && code == "":
					case test.refused != "" && code == test.refused && a.Refusal.Task == a.Task.ID && a.Task.ID != "":
					default:
						t.Errorf("task %d, poisoned: %t: %+v", i, guilty, a)
					}
				}
			})
		})
	}
}

func TestOneTaskThatCannotBeReadHarmsNoOtherReader(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, logged := w.spike()
		n := w.node("a", logged.to)
		ids, culprits := w.acceptSome(n, "hour", 100, "get", 40, 41)
		var wait sync.WaitGroup
		for _, id := range append(slices.Clone(ids), culprits...) {
			wait.Go(func() {
				_, refusal := n.Get(t.Context(), id, true)
				if guilty := slices.Contains(culprits, id); guilty != (refusal != nil) || guilty && refusal.Code != task.Internal {
					t.Errorf("%s: %v", id, refusal)
				}
			})
		}
		wait.Wait()
		logged.want(t, "get", culprits...)
	})
}

func TestATaskThatCannotBeReadDelaysNoOther(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s, logged := w.spike()
		worker := w.node("worker")
		far := w.node("far", logged.to, func(c *durable.Config) { c.Hub, c.Actions = durable.NewHub(), []string{} }) // it receives no hints
		ids, culprits := w.acceptSome(worker, "second", 8, "", 3)
		var wait sync.WaitGroup
		for _, id := range append(slices.Clone(ids), culprits...) {
			wait.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				now, refusal := far.Wait(ctx, id)
				if guilty := slices.Contains(culprits, id); refusal != nil || guilty == (now.State == task.Done) {
					t.Errorf("%s: %s, %v", id, now.State, refusal)
				}
			})
		}
		w.after(500 * time.Millisecond)
		s.poison("get", culprits...)
		wait.Wait()
		logged.want(t, "get", culprits...)
	})
}

func TestOneIDThatCannotBeClaimedKeepsNoOtherFromBeingClaimed(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.slots = 40
		_, logged := w.spike()
		memory := broker.NewMemory(broker.Bounds{})
		defer memory.Close()
		door := w.process("door", memory, func(c *durable.Config) { c.Actions = []string{} })
		w.process("worker", memory, logged.to)
		w.acquaint()
		start := time.Now()
		ids, culprits := w.acceptSome(door, "ok", 30, "claim", 5, 20)
		for _, id := range ids {
			w.wantState(w.finished(door, id), task.Done, 1)
		}
		if took := time.Since(start); took >= time.Second {
			t.Errorf("the neighbours took %s: they were found by the poll", took)
		}
		logged.want(t, "claim", culprits...)
		for _, id := range culprits {
			w.wantState(w.finished(door, id), task.Done, 1) // the poll needs no ids
		}
	})
}

func TestOneLeaseThatCannotBeRenewedCostsNoOther(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, logged := w.spike()
		n := w.node("a", logged.to, func(c *durable.Config) { c.RunsSuspects = true })
		ids, culprits := w.acceptSome(n, "hour", 4, "renew", 1)
		w.after(time.Minute)
		for _, id := range ids {
			w.wantState(w.get(id), task.Running, 1)
		}
		if again := w.get(culprits[0]); again.Attempt < 2 {
			t.Errorf("its lease did not end: %+v", again)
		}
		logged.want(t, "renew", culprits...)
	})
}

func TestProgressThatCannotBeKeptCostsNoLease(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s, logged := w.spike()
		n := w.node("a", logged.to, func(c *durable.Config) { c.Beat = 100 * time.Millisecond })
		ids, culprits := w.acceptSome(n, "tell", 4, "progress", 2)
		for _, id := range append(ids, culprits...) {
			w.wantState(w.finished(n, id), task.Done, 1)
		}
		if s.calls["progress"] == 0 {
			t.Error("no progress was refused")
		}
		logged.want(t, "renew", culprits...)
	})
}

func TestOneOutcomeThatCannotBeRecordedKeepsNoOther(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.slots = 64
		_, logged := w.spike()
		n := w.node("a", logged.to)
		ids, culprits := w.acceptSome(n, "second", 60, "outcome", 0, 30, 59)
		start := time.Now()
		for _, id := range ids {
			w.wantState(w.finished(n, id), task.Done, 1)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("the neighbours took %s", took)
		}
		for _, id := range culprits { // they do not run for ever
			done := w.finished(n, id)
			w.wantState(done, task.Failed, task.DefaultMaxAttempts)
			if done.Code != task.ActionFailed || !strings.Contains(done.Error, "could not be recorded") {
				t.Errorf("%+v", done)
			}
		}
		logged.want(t, "record", culprits...)
	})
}

func TestOneTaskThatCannotBeGivenBackKeepsNoOther(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, logged := w.spike()
		n := w.node("a", logged.to)
		ids, culprits := w.acceptSome(n, "hour", 4, "record", 2)
		w.after(time.Second)
		w.drain(n, time.Second)
		for _, id := range ids {
			w.wantState(w.get(id), task.Queued, 1)
		}
		logged.want(t, "record", culprits...)
	})
}

func TestOneTaskThatCannotBeChangedKeepsNoOther(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, logged := w.spike()
		n := w.node("a", logged.to, func(c *durable.Config) { c.Actions = []string{} })
		ids, culprits := w.acceptSome(n, "ok", 50, "change", 10)
		for _, change := range []func(context.Context, []string) ([]durable.Changed, *task.Error){n.Cancel, n.Retry} {
			asked := append(slices.Clone(ids), culprits...)
			answers, refusal := change(t.Context(), asked)
			if refusal != nil || len(answers) != len(asked) {
				t.Fatalf("%d answers, %v", len(answers), refusal)
			}
			for i, a := range answers {
				guilty := i >= len(ids)
				if guilty != (a.Refusal != nil) || !guilty && (!a.Made || a.Task.ID != asked[i]) || guilty && a.Refusal.Code != task.Internal {
					t.Errorf("task %d: %+v", i, a)
				}
			}
		}
		logged.want(t, "change", culprits...)
	})
}

func TestOneHintThatCannotBePublishedKeepsNoOther(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.slots = 40
		s, logged := w.spike()
		memory := broker.NewMemory(broker.Bounds{})
		defer memory.Close()
		door := w.process("door", spikedBroker{memory, s}, logged.to, func(c *durable.Config) { c.Actions = []string{} })
		w.process("worker", memory)
		w.acquaint()
		start := time.Now()
		ids, culprits := w.acceptSome(door, "ok", 30, "publish", 5)
		for _, id := range ids {
			w.wantState(w.finished(door, id), task.Done, 1)
		}
		if took := time.Since(start); took >= time.Second {
			t.Errorf("the neighbours took %s: they were found by the poll", took)
		}
		logged.want(t, "publish", culprits...)
		w.wantState(w.finished(door, culprits[0]), task.Done, 1)
	})
}

func TestOneTaskThatCannotBeNotedAsRunningKeepsNoOtherAndIsAskedForOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		s, logged := w.spike()
		n := w.node("a", logged.to)
		ids, culprits := w.acceptSome(n, "minute", 4, "enter", 1)
		w.after(time.Second)
		for _, id := range ids {
			w.wantState(w.get(id), task.Running, 1)
		}
		for _, id := range append(ids, culprits...) {
			w.wantState(w.finished(n, id), task.Done, 1)
			if got := w.get(id); states(got) != "queued running done" {
				t.Errorf("task %s: %s", id, states(got))
			}
		}
		if calls := s.calls["enter"]; calls > 3 { // for all four, for two of them, and for itself
			t.Errorf("the store was asked %d times to note the task that it cannot", calls)
		}
		logged.want(t, "enter", culprits...)
	})
}

// slowRecord takes a while for its answers to Record.
type slowRecord struct{ store.Store }

func (s slowRecord) Record(ctx context.Context, list []store.Outcome) ([]store.Recorded, error) {
	<-time.After(100 * time.Millisecond)
	return s.Store.Record(ctx, list)
}

func TestAnOutcomeThatCannotBeRecordedDoesNotKeepOthersFromBeingMarked(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.spike()
		w.slots, w.store = 1, slowRecord{w.store}
		n := w.node("a")
		_, culprits := w.acceptSome(n, "second", 1, "record", 0)
		w.after(100 * time.Millisecond)
		w.wantState(w.get(culprits[0]), task.Running, 1)
		next := w.accept(n, "minute").ID
		w.after(2 * time.Second)
		w.wantState(w.get(next), task.Running, 1)
	})
}
