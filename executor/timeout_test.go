package executor

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/internal/testenv"
)

// withTimeout sets a task's timeout.
func withTimeout(t Task, d time.Duration) Task {
	t.Timeout = d
	return t
}

func TestATimeoutIsAnsweredOnTimeAlsoByAFunctionThatIgnoresIt(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		goOn := make(chan bool)
		var log testenv.Buffer
		e := newExecutor(t, Config{Slots: 1, StuckSlots: 1, Logger: slog.New(slog.NewTextHandler(&log, nil))}, deaf(goOn))
		source, r := e.NewSource(), newResults()
		begun := time.Now()
		source.Start(withTimeout(newTask("1", "deaf", "null"), 2*time.Second), r.deliver)
		source.Start(newTask("2", "sleep", "1"), r.deliver)
		r.want(t, "1", `{"ok":false,"error":"timed out after 2s"}`)
		if took := time.Since(begun); took != 2*time.Second {
			t.Errorf("the answer comes after %s", took)
		}
		if s := e.Stats(); s.Stuck != 0 || s.SlotsBusy != 1 || s.Waiting != 1 {
			t.Errorf("within the grace: %+v", s)
		}
		r.want(t, "2", `{"ok":true,"slept":1}`) // in the slot that replaces the stuck one
		if took := time.Since(begun); took != 3*time.Second+stuckGrace {
			t.Errorf("the slot is replaced in time for an answer after %s", took)
		}
		if s := e.Stats(); s.Stuck != 1 || s.StuckEver != 1 || s.Slots != 2 || !e.Healthy() || !strings.Contains(log.String(), "runs on after its timeout") {
			t.Errorf("with one stuck: %+v, healthy %t, the log has %s", s, e.Healthy(), log.String())
		}
		source.Start(withTimeout(newTask("3", "deaf", "null"), 1500*time.Millisecond), r.deliver)
		r.want(t, "3", `{"ok":false,"error":"timed out after 1.5s"}`)
		<-time.After(stuckGrace + time.Millisecond)
		if s := e.Stats(); s.Stuck != 2 || s.Slots != 2 || e.Healthy() {
			t.Errorf("with two stuck: %+v, healthy %t", s, e.Healthy())
		}
		goOn <- true
		synctest.Wait()
		if s := e.Stats(); s.Stuck != 1 || !e.Healthy() {
			t.Errorf("with one back: %+v, healthy %t", s, e.Healthy())
		}
		goOn <- true
		synctest.Wait()
		checkIdle(t, e)
		r.wantNone(t)
		if s := e.Stats(); s.StuckEver != 2 || s.ByAction["deaf"].TimedOut != 2 || s.ByAction["deaf"].Done != 0 {
			t.Errorf("at the end %+v", s)
		}
	})
}

func TestATimeoutOfAQuickActionIsAnsweredOnTimeToo(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		goOn := make(chan bool)
		ignorant := deaf(goOn)
		ignorant.Slow = false
		e := newExecutor(t, Config{Slots: 1, QuickSlots: 1, StuckSlots: 1}, ignorant)
		begun := time.Now()
		result, err := e.Run(t.Context(), withTimeout(newTask("1", "deaf", "null"), time.Second))
		if err != nil || string(result) != `{"ok":false,"error":"timed out after 1s"}` || time.Since(begun) != time.Second {
			t.Errorf("after %s: %s, %v", time.Since(begun), result, err)
		}
		<-time.After(stuckGrace + time.Millisecond)
		if s := e.Stats(); s.Stuck != 1 || s.QuickBusy != 0 || s.SlotsBusy != 1 {
			t.Errorf("a stuck function keeps %+v", s)
		}
		goOn <- true
		synctest.Wait()
		checkIdle(t, e)
	})
}

// TestAnActionThatEndsAtItsTimeoutIsTimedOutWhateverItReturns: its client cannot know
// what its errors mean.
func TestAnActionThatEndsAtItsTimeoutIsTimedOutWhateverItReturns(t *testing.T) {
	endings := map[string]func(context.Context) (any, error){
		"the context's error": func(ctx context.Context) (any, error) { return nil, ctx.Err() },
		"the context's cause": func(ctx context.Context) (any, error) { return nil, context.Cause(ctx) },
		"an error of its own": func(context.Context) (any, error) { return nil, errOwn },
		"a wrapped error":     func(ctx context.Context) (any, error) { return nil, errors.Join(errOwn, ctx.Err()) },
		"a panic":             func(context.Context) (any, error) { panic("too late") },
		"a result":            func(context.Context) (any, error) { return "too late", nil },
	}
	t.Parallel()
	for name, ending := range endings {
		for _, slow := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					e := newExecutor(t, Config{}, actions.Action{Name: "listens", Slow: slow, Run: func(ctx context.Context, _ *actions.Call) (any, error) {
						<-ctx.Done()
						return ending(ctx)
					}})
					result, err := e.Run(t.Context(), withTimeout(newTask("1", "listens", "null"), 250*time.Millisecond))
					if err != nil || string(result) != `{"ok":false,"error":"timed out after 0.25s"}` {
						t.Errorf("it gives %s, %v", result, err)
					}
					synctest.Wait()
					if s := e.Stats().ByAction["listens"]; s.TimedOut != 1 || s.Failed+s.Cancelled+s.Done+s.Panicked != 0 {
						t.Errorf("it counts as %+v", s)
					}
					checkIdle(t, e)
				})
			})
		}
	}
}

func TestTheContextHasItsDeadlineAndEndsWhenTheActionHasReturned(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"a lane", "a slot", "Run, quick"} {
		t.Run(way, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				kept := make(chan context.Context, 1)
				e := newExecutor(t, Config{TaskTimeout: 7 * time.Second}, actions.Action{Name: "keeps", Slow: way == "a slot", Run: func(ctx context.Context, _ *actions.Call) (any, error) {
					kept <- ctx
					return nil, ctx.Err()
				}})
				for _, timeout := range []time.Duration{0, 3 * time.Second} {
					begun := time.Now()
					if got := runBy(t, e, way, withTimeout(newTask("1", "keeps", "null"), timeout)); got != `{"ok":true,"data":null}` {
						t.Error(got)
					}
					ctx := <-kept
					deadline, ok := ctx.Deadline()
					if timeout == 0 {
						timeout = 7 * time.Second
					}
					if !ok || deadline.Sub(begun) != timeout {
						t.Errorf("the deadline is in %s, want %s", deadline.Sub(begun), timeout)
					}
					synctest.Wait()
					select {
					case <-ctx.Done():
					default:
						t.Error("the context goes on after the action has returned")
					}
					if !errors.Is(ctx.Err(), context.Canceled) || ctx.Value("key") != nil {
						t.Errorf("it ends with %v", ctx.Err())
					}
				}
			})
		})
	}
}

func TestAContextCanBeTheParentOfOthers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		e := newExecutor(t, Config{}, actions.New("parent", func(ctx context.Context, _ *actions.Call) (any, error) {
			child, cancel := context.WithTimeout(ctx, time.Hour)
			defer cancel()
			<-child.Done()
			return nil, child.Err()
		}))
		result, err := e.Run(t.Context(), withTimeout(newTask("1", "parent", "null"), time.Second))
		if err != nil || string(result) != `{"ok":false,"error":"timed out after 1s"}` {
			t.Errorf("%s, %v", result, err)
		}
	})
}

func TestCancelEndsWhatRunsAndForgetsWhatWaits(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		e := newExecutor(t, Config{Slots: 2, QuickSlots: 1})
		gone, stays, r := e.NewSource(), e.NewSource(), newResults()
		gone.Start(newTask("1", "sleep", "10"), r.deliver)
		stays.Start(newTask("2", "sleep", "10"), r.deliver)
		for _, id := range []string{"3", "4", "5"} {
			gone.Start(newTask(id, "sleep", "1"), r.deliver)
		}
		synctest.Wait()
		if n := gone.Cancel(); n != 3 {
			t.Errorf("%d tasks are forgotten, want 3", n)
		}
		r.want(t, "1", `{"ok":false,"error":"cancelled"}`)
		r.want(t, "2", `{"ok":true,"slept":10}`)
		r.wantNone(t)
		if s := e.Stats().ByAction["sleep"]; s.Cancelled != 1 || s.Done != 1 {
			t.Errorf("they count as %+v", s)
		}
		checkIdle(t, e)
		if n := gone.Cancel(); n != 0 {
			t.Errorf("%d tasks are forgotten the second time", n)
		}
	})
}

// TestWhatComesAfterCancelIsNotRun: the connection was gone, but its reader did not know yet.
func TestWhatComesAfterCancelIsNotRun(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		ran := false
		e := newExecutor(t, Config{}, actions.Action{Name: "note", Slow: true, Run: func(context.Context, *actions.Call) (any, error) {
			ran = true
			return nil, nil
		}})
		source, r := e.NewSource(), newResults()
		source.Cancel()
		source.Start(newTask("1", "note", "null"), r.deliver)
		r.want(t, "1", `{"ok":false,"error":"cancelled"}`)
		if ran {
			t.Error("the task of a client that has gone is run")
		}
		checkIdle(t, e)
	})
}

func TestCancelReachesATaskThatHasLeftItsLane(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		e := newExecutor(t, Config{}, lazy(nil))
		source, r := e.NewSource(), newResults()
		handedOver := make(chan bool)
		go laneRun(t, e, source, r, handedOver, newTask("1", "lazy", "null"))
		<-handedOver
		source.Cancel()
		r.want(t, "1", `{"ok":false,"error":"cancelled"}`)
		synctest.Wait()
		checkIdle(t, e)
	})
}

func TestPauseKeepsTasksFromStarting(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		e := newExecutor(t, Config{Slots: 1})
		source, r := e.NewSource(), newResults()
		source.Pause()
		source.Start(newTask("1", "sleep", "1"), r.deliver)
		<-time.After(time.Minute)
		r.wantNone(t)
		source.Resume()
		r.want(t, "1", `{"ok":true,"slept":1}`)
	})
}

// laneRun runs tasks in a lane one after the other, as a connection does; when the lane is
// lost, it sends to handedOver and returns.
func laneRun(t *testing.T, e *Executor, source *Source, r results, handedOver chan bool, tasks ...Task) {
	lane := e.NewLane()
	lane.Bind(source)
	lane.Deliver, lane.HandOver = r.deliver, func() { go func() { handedOver <- true }() }
	if err := lane.Enter(context.Background()); err != nil {
		t.Error(err)
		return
	}
	for _, task := range tasks {
		result, fate := lane.Run(task)
		switch fate {
		case IsLost:
			return
		case IsSlow:
			source.Start(task, r.deliver)
		default:
			r.deliver(task, result)
		}
	}
	lane.Leave()
}
