package executor

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/actions"
)

func TestALaneAnswersQuickTasksOnItsOwnGoroutine(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		e := newExecutor(t, Config{QuickSlots: 1})
		r := newResults()
		laneRun(t, e, e.NewSource(), r, nil, newTask("1", "echo", `[1]`), newTask("2", "upper", `"é"`), newTask("3", "nope", "null"), newTask("4", "fib", "30"))
		r.want(t, "1", `{"ok":true,"data":[1]}`)
		r.want(t, "2", `{"ok":true,"data":"É"}`)
		r.want(t, "3", `{"ok":false,"error":"unknown action nope"}`)
		r.want(t, "4", `{"ok":true,"fib":832040}`)
		checkIdle(t, e)
		stats := e.Stats().ByAction
		if stats["echo"].Done != 1 || stats["upper"].Done != 1 || stats[Unknown].Failed != 1 || stats["fib"].Done != 1 {
			t.Errorf("they count as %+v", stats)
		}
	})
}

func TestATaskThatTakesLongLeavesItsLaneWithinTwoLooksAndIsDeliveredOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		goOn := make(chan bool)
		e := newExecutor(t, Config{QuickSlots: 1}, lazy(goOn))
		source, r := e.NewSource(), newResults()
		handedOver := make(chan bool)
		begun := time.Now()
		go laneRun(t, e, source, r, handedOver, newTask("1", "echo", "1"), newTask("2", "lazy", "null"), newTask("3", "echo", "3"))
		<-handedOver
		if took := time.Since(begun); took > 3*period {
			t.Errorf("the reading was handed over after %s", took)
		}
		r.want(t, "1", `{"ok":true,"data":1}`)
		laneRun(t, e, source, r, nil, newTask("3", "echo", "3")) // with the only quick permit
		r.want(t, "3", `{"ok":true,"data":3}`)
		if s := e.Stats(); s.SlotsBusy != 1 || s.QuickBusy != 0 {
			t.Errorf("the task that left its lane is not in a slot: %+v", s)
		}
		goOn <- true
		r.want(t, "2", `{"ok":true,"data":"done"}`)
		r.wantNone(t)
		checkIdle(t, e)
	})
}

func TestQuickTasksAreAnsweredWhileSleepsTakeAllSlots(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		e := newExecutor(t, Config{Slots: 2, QuickSlots: 1, PoolWait: time.Second})
		source, r := e.NewSource(), newResults()
		for range 20 {
			source.Start(newTask("s", "sleep", "600"), r.deliver)
		}
		for range 100 {
			if result, err := e.Run(t.Context(), newTask("1", "echo", "1")); err != nil || string(result) != `{"ok":true,"data":1}` {
				t.Fatalf("%s, %v", result, err)
			}
		}
		laneRun(t, e, source, r, nil, newTask("2", "echo", "2"))
		r.want(t, "2", `{"ok":true,"data":2}`)
		source.Cancel()
	})
}

// TestQuickTasksAreAnsweredAlsoWhenTasksOutgrewEveryLane: sleeps take the slots, and
// tasks of unknown length as many lanes as there are.
func TestQuickTasksAreAnsweredAlsoWhenTasksOutgrewEveryLane(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		goOn := make(chan bool)
		e := newExecutor(t, Config{Slots: 2, QuickSlots: 2, PoolWait: time.Second}, lazy(goOn))
		source, r := e.NewSource(), newResults()
		for range 4 {
			source.Start(newTask("s", "sleep", "600"), r.deliver)
		}
		for range 4 { // two of them before their action is known to be slow
			handedOver := make(chan bool, 1)
			go laneRun(t, e, source, r, handedOver, newTask("l", "lazy", "null"))
			<-time.After(10 * period)
		}
		if result, err := e.Run(t.Context(), newTask("1", "echo", "1")); err != nil {
			t.Errorf("%s, %v; %+v", result, err, e.Stats())
		}
		source.Cancel()
	})
}

func TestASlowActionIsFoundOutAndForgiven(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		goOn := make(chan bool)
		e := newExecutor(t, Config{Slots: 1, QuickSlots: 1}, lazy(goOn))
		source, r := e.NewSource(), newResults()
		entry, known := e.find([]byte("lazy"))
		lost := 0
		for !isSlow(entry, known) {
			handedOver := make(chan bool)
			go laneRun(t, e, source, r, handedOver, newTask("1", "lazy", "null"))
			<-handedOver
			goOn <- true
			r.want(t, "1", `{"ok":true,"data":"done"}`)
			if lost++; lost > 5 {
				t.Fatal("the action is not found out")
			}
		}
		if lost != 2 {
			t.Errorf("it was found out after %d tasks, want 2", lost)
		}
		laneRun(t, e, source, r, nil, newTask("2", "lazy", "null")) // goes to a slot: nothing to hand over
		goOn <- true
		r.want(t, "2", `{"ok":true,"data":"done"}`)
		close(goOn) // quick from now on
		for n := 0; isSlow(entry, known); n++ {
			source.Start(newTask("3", "lazy", "null"), r.deliver)
			r.want(t, "3", `{"ok":true,"data":"done"}`)
			if n > slowMost {
				t.Fatal("the action is not forgiven")
			}
		}
		laneRun(t, e, source, r, nil, newTask("4", "lazy", "null"))
		r.want(t, "4", `{"ok":true,"data":"done"}`)
		checkIdle(t, e)
	})
}

func TestAnActionThatEndsItsGoroutineLosesItsLaneOnly(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		e := newExecutor(t, Config{Slots: 1, QuickSlots: 1},
			actions.New("exit", func(context.Context, *actions.Call) (any, error) { runtime.Goexit(); return nil, nil }),
			actions.New("later", func(context.Context, *actions.Call) (any, error) {
				<-time.After(time.Second)
				runtime.Goexit()
				return nil, nil
			}))
		source, r := e.NewSource(), newResults()
		for _, action := range []string{"exit", "later", "exit"} {
			handedOver := make(chan bool, 1)
			go laneRun(t, e, source, r, handedOver, newTask("1", action, "null"), newTask("2", "echo", "1"))
			<-handedOver
			r.want(t, "1", `{"ok":false,"error":"the action ended its goroutine instead of returning"}`)
			synctest.Wait()
			checkIdle(t, e)
		}
		r.wantNone(t)
	})
}

// TestAnActionThatCallsItselfQuickIsNeverTakenForSlow, and its context is one that never ends.
func TestAnActionThatCallsItselfQuickIsNeverTakenForSlow(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		goOn := make(chan bool)
		hasty := deaf(goOn)
		hasty.Slow, hasty.Quick = false, true
		e := newExecutor(t, Config{Slots: 1, QuickSlots: 1}, hasty)
		source, r := e.NewSource(), newResults()
		for range 5 {
			handedOver := make(chan bool)
			go laneRun(t, e, source, r, handedOver, newTask("1", "deaf", "null"))
			<-handedOver
			goOn <- true
			r.want(t, "1", `{"ok":true,"data":"heard"}`)
		}
		handedOver := make(chan bool, 1)
		go laneRun(t, e, source, r, handedOver, withTimeout(newTask("2", "deaf", "null"), time.Second))
		r.want(t, "2", `{"ok":false,"error":"timed out after 1s"}`)
		source.Cancel()
		goOn <- true
		r.wantNone(t)
		checkIdle(t, e)
	})
}

func TestTheMonitorRestsWhileNothingRuns(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		e := newExecutor(t, Config{QuickSlots: 2}, lazy(nil))
		for range 2 { // after that the action is known to be slow
			synctest.Wait()
			<-time.After(time.Second)
			if e.monitor.awake.Load() {
				t.Error("it looks at empty lanes for ever")
			}
			source, r, handedOver := e.NewSource(), newResults(), make(chan bool)
			begun := time.Now()
			go laneRun(t, e, source, r, handedOver, newTask("1", "lazy", "null"))
			<-handedOver
			if took := time.Since(begun); took > 3*period {
				t.Errorf("woken from its rest, it takes %s to see a slow task", took)
			}
			source.Cancel()
			r.want(t, "1", `{"ok":false,"error":"cancelled"}`)
		}
	})
}

func TestEnterEndsWithItsContext(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		e := newExecutor(t, Config{QuickSlots: 1})
		first, second := e.NewLane(), e.NewLane()
		if err := first.Enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := second.Enter(ctx); err == nil {
			t.Error("two lanes share a permit")
		}
		first.Leave()
		if err := second.Enter(t.Context()); err != nil {
			t.Error(err)
		}
		second.Leave()
		checkIdle(t, e)
	})
}

func TestALaneDoesNotEnterAnActionThatIsHeldBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		calls := 0
		e := newExecutor(t, Config{Slots: 1, QuickSlots: 1}, actions.Action{
			Name: "busy", Quick: true, Run: func(context.Context, *actions.Call) (any, error) {
				if calls++; calls == 1 {
					return nil, actions.SlowDown(errors.New("503"), time.Minute)
				}
				return "fine", nil
			},
		})
		r := newResults()
		run := func(id string) { laneRun(t, e, e.NewSource(), r, nil, newTask(id, "busy", "null")) }
		run("1")
		r.want(t, "1", `{"ok":false,"error":"503"}`)
		run("2")
		r.want(t, "2", `{"ok":false,"error":"action busy is held back for 1m0s: what it depends on asked for that"}`)
		if result, err := e.Run(t.Context(), newTask("3", "busy", "null")); err != nil || !strings.Contains(string(result), "held back") {
			t.Errorf("over Run: %s, %v", result, err)
		}
		if stats := e.Stats().ByAction["busy"]; calls != 1 || stats.Failed != 3 {
			t.Errorf("it was called %d times; %+v", calls, stats)
		}
		<-time.After(time.Minute)
		run("4")
		r.want(t, "4", `{"ok":true,"data":"fine"}`)
	})
}
