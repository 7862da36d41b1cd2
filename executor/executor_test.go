package executor

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/posta-tasks/posta/actions"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newExecutor makes an executor with the built-in actions and the given ones; it
// is closed with the test.
func newExecutor(t testing.TB, config Config, list ...actions.Action) *Executor {
	t.Helper()
	registry, err := actions.NewRegistry(append(actions.Builtin(), list...)...)
	if err != nil {
		t.Fatal(err)
	}
	config.Registry = registry
	e, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(t.Context()); err != nil {
			t.Log(err)
		}
	})
	return e
}

// inBubble runs a test in which time passes when everybody waits.
func inBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

// newTask is a task with an id.
func newTask(id, action, payload string) Task {
	return Task{ID: []byte(id), Action: []byte(action), Payload: []byte(payload)}
}

// results collects what is delivered, by the task's id.
type results chan [2]string

func newResults() results { return make(results, 10_000) }

func (r results) deliver(t Task, result []byte) { r <- [2]string{string(t.ID), string(result)} }

// want waits for the next result.
func (r results) want(t *testing.T, id, result string) {
	t.Helper()
	select {
	case got := <-r:
		if got != [2]string{id, result} {
			t.Errorf("task %s gives %s, want task %s with %s", got[0], got[1], id, result)
		}
	case <-time.After(time.Hour): // an hour of a bubble is nothing
		t.Fatalf("task %s gives nothing", id)
	}
}

// wantNone looks whether something was delivered that should not.
func (r results) wantNone(t *testing.T) {
	t.Helper()
	synctest.Wait()
	select {
	case got := <-r:
		t.Errorf("task %s gives %s, want nothing", got[0], got[1])
	default:
	}
}

// checkIdle wants all permits back.
func checkIdle(t *testing.T, e *Executor) {
	t.Helper()
	if s := e.Stats(); s.SlotsBusy != 0 || s.QuickBusy != 0 || s.Waiting != 0 || s.Stuck != 0 || s.Slots != e.config.Slots {
		t.Errorf("the executor is not idle: %d of %d slots and %d of %d quick slots are taken, %d wait, %d are stuck",
			s.SlotsBusy, s.Slots, s.QuickBusy, s.QuickSlots, s.Waiting, s.Stuck)
	}
	if !e.Healthy() {
		t.Error("the executor is not healthy")
	}
}

func TestAnExecutorNeedsARegistry(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{}); err == nil {
		t.Error("it is made without one")
	}
	registry, err := actions.NewRegistry()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Registry: registry, Slots: -1}); err == nil {
		t.Error("it is made with less than no slots")
	}
	e := newExecutor(t, Config{Slots: 3, QuickSlots: 2})
	if slots, quick := e.Limits(); slots != 3 || quick != 2 {
		t.Errorf("it has %d slots and %d quick ones", slots, quick)
	}
}

func TestCloseWaitsForWhatRuns(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		e := newOwnExecutor(t, Config{})
		source, r := e.NewSource(), newResults()
		source.Start(newTask("1", "sleep", "5"), r.deliver)
		begun := time.Now()
		if err := e.Close(context.Background()); err != nil || time.Since(begun) != 5*time.Second {
			t.Errorf("closed after %s: %v", time.Since(begun), err)
		}
		r.want(t, "1", `{"ok":true,"slept":5}`)
	})
}

func TestCloseCancelsWhatRunsWhenItsTimeIsOver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		e := newOwnExecutor(t, Config{Slots: 1})
		source, r := e.NewSource(), newResults()
		source.Start(newTask("1", "sleep", "50"), r.deliver)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		begun := time.Now()
		if err := e.Close(ctx); err != nil || time.Since(begun) != 5*time.Second {
			t.Errorf("closed after %s: %v", time.Since(begun), err)
		}
		r.want(t, "1", `{"ok":false,"error":"cancelled"}`)
	})
}

func TestCloseLeavesBehindWhatDoesNotListen(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		goOn := make(chan bool)
		e := newOwnExecutor(t, Config{}, deaf(goOn))
		source, r := e.NewSource(), newResults()
		source.Start(newTask("1", "deaf", "null"), r.deliver)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		begun := time.Now()
		if err := e.Close(ctx); err == nil || time.Since(begun) != 5*time.Second+stuckGrace {
			t.Errorf("closed after %s: %v", time.Since(begun), err)
		}
		close(goOn)
		synctest.Wait()
	})
}

// TestCloseDoesNotWaitForStuckFunctions: their tasks were answered long ago.
func TestCloseDoesNotWaitForStuckFunctions(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		goOn := make(chan bool)
		e := newOwnExecutor(t, Config{TaskTimeout: time.Second}, deaf(goOn))
		source, r := e.NewSource(), newResults()
		source.Start(newTask("1", "deaf", "null"), r.deliver)
		r.want(t, "1", `{"ok":false,"error":"timed out after 1s"}`)
		<-time.After(time.Minute)
		begun := time.Now()
		if err := e.Close(context.Background()); err != nil || time.Since(begun) != 0 {
			t.Errorf("closed after %s: %v", time.Since(begun), err)
		}
		close(goOn)
		synctest.Wait()
	})
}

// newOwnExecutor is newExecutor for tests that close it themselves.
func newOwnExecutor(t *testing.T, config Config, list ...actions.Action) *Executor {
	t.Helper()
	var err error
	if config.Registry, err = actions.NewRegistry(append(actions.Builtin(), list...)...); err != nil {
		t.Fatal(err)
	}
	e, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// deaf is a slow action that ignores its context and waits for goOn.
func deaf(goOn <-chan bool) actions.Action {
	return actions.Action{Name: "deaf", Slow: true, Run: func(context.Context, *actions.Call) (any, error) {
		<-goOn
		return "heard", nil
	}}
}

// lazy is an action that does not say it is slow, waits for goOn and listens to its context.
func lazy(goOn <-chan bool) actions.Action {
	return actions.New("lazy", func(ctx context.Context, _ *actions.Call) (any, error) {
		select {
		case <-goOn:
			return "done", nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
}

var errOwn = errors.New("interrupted")

func BenchmarkLaneUpper(b *testing.B) {
	e := newExecutor(b, Config{})
	source := e.NewSource()
	enter := func() *Lane {
		lane := e.NewLane()
		lane.Bind(source)
		lane.HandOver, lane.Deliver = func() {}, func(Task, []byte) {}
		if err := lane.Enter(context.Background()); err != nil {
			b.Fatal(err)
		}
		return lane
	}
	lane, t := enter(), newTask("1", "upper", `"hola"`)
	b.ReportAllocs()
	for b.Loop() {
		if _, fate := lane.Run(t); fate == IsLost { // the machine was busy with something else
			lane = enter()
		}
	}
	lane.Leave()
}
