package executor

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/task"
)

func TestRunGivesUpOnAFullPoolAfterItsWait(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		e := newExecutor(t, Config{Slots: 1, QuickSlots: 1, PoolWait: 3 * time.Second})
		source, r := e.NewSource(), newResults()
		source.Start(newTask("1", "sleep", "10"), r.deliver)
		begun := time.Now()
		result, err := e.Run(t.Context(), newTask("2", "sleep", "1"))
		if err == nil || err.Code != task.Overloaded || err.RetryAfter <= 0 || !strings.Contains(err.Message, "3s") || time.Since(begun) != 3*time.Second {
			t.Errorf("after %s: %s, %v", time.Since(begun), result, err)
		}
		begun = time.Now()
		<-time.After(5 * time.Second)
		if result, err := e.Run(t.Context(), newTask("3", "sleep", "1")); err != nil || string(result) != `{"ok":true,"slept":1}` {
			t.Errorf("within the wait: %s, %v after %s", result, err, time.Since(begun))
		}
		r.want(t, "1", `{"ok":true,"slept":10}`)
		checkIdle(t, e)
	})
}

func TestARefusalNamesTheActionWhoseOwnSlotsAreFull(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		few := actions.Action{Name: "few", Slow: true, Slots: 1, Run: func(ctx context.Context, _ *actions.Call) (any, error) { <-ctx.Done(); return nil, ctx.Err() }}
		e := newExecutor(t, Config{Slots: 4, QuickSlots: 1, PoolWait: 3 * time.Second}, few)
		source, r := e.NewSource(), newResults()
		source.Start(newTask("1", "few", "null"), r.deliver)
		_, err := e.Run(t.Context(), newTask("2", "few", "null"))
		if err == nil || err.Code != task.Overloaded || err.RetryAfter <= 0 || err.Message != "action few was full for 3s; it has 1 slots of its own" {
			t.Errorf("%v", err)
		}
		source.Cancel()
		synctest.Wait()
		checkIdle(t, e)
	})
}

func TestRunGivesUpAfterItsWaitAlsoWhenNoMoreMayWait(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		e := newExecutor(t, Config{Slots: 1, PoolWait: 3 * time.Second})
		source, r := e.NewSource(), newResults()
		for range maxWaiting + 1 {
			if !source.TryStart(newTask("1", "sleep", "3600"), r.deliver) {
				t.Fatal("a task that may wait is refused")
			}
		}
		if source.TryStart(newTask("1", "sleep", "3600"), r.deliver) {
			t.Fatal("more tasks wait than may")
		}
		begun := time.Now()
		if _, err := e.Run(t.Context(), newTask("2", "sleep", "1")); err == nil || err.Code != task.Overloaded || time.Since(begun) > 3*time.Second {
			t.Errorf("after %s: %v", time.Since(begun), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := e.Run(ctx, newTask("3", "sleep", "1")); err == nil {
			t.Error("it runs")
		}
		source.Cancel()
		synctest.Wait()
		checkIdle(t, e)
	})
}

func TestRunOfAQuickTaskGivesUpWhenNoQuickSlotIsFree(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		e := newExecutor(t, Config{Slots: 1, QuickSlots: 1, PoolWait: 3 * time.Second})
		lane := e.NewLane()
		if err := lane.Enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if _, err := e.Run(t.Context(), newTask("1", "echo", "1")); err == nil || err.Code != task.Overloaded || time.Since(begun) != 3*time.Second {
			t.Errorf("after %s: %v", time.Since(begun), err)
		}
		lane.Leave()
		if result, err := e.Run(t.Context(), newTask("2", "echo", "1")); err != nil || string(result) != `{"ok":true,"data":1}` {
			t.Errorf("%s, %v", result, err)
		}
	})
}

func TestARequestThatIsGivenUpCancelsItsTask(t *testing.T) {
	for _, action := range []string{"sleep", "lazy"} {
		inBubbleOf(t, action, func(t *testing.T) {
			e := newExecutor(t, Config{Slots: 1}, lazy(nil))
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			begun := time.Now()
			result, err := e.Run(ctx, newTask("1", action, "50"))
			if err == nil || err.Code != task.Unavailable || time.Since(begun) != 2*time.Second {
				t.Errorf("after %s: %s, %v", time.Since(begun), result, err)
			}
			synctest.Wait()
			checkIdle(t, e)
			if s := e.Stats().ByAction[action]; s.Cancelled != 1 {
				t.Errorf("it counts as %+v", s)
			}
		})
	}
}

func TestARequestThatIsGivenUpWhileItWaitsIsNotRun(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		e := newExecutor(t, Config{Slots: 1, QuickSlots: 1})
		source, r := e.NewSource(), newResults()
		source.Start(newTask("1", "sleep", "10"), r.deliver)
		lane := e.NewLane()
		if err := lane.Enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, action := range []string{"sleep", "echo"} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, err := e.Run(ctx, newTask("2", action, "1")); err == nil || err.Code != task.Unavailable {
				t.Errorf("%s: %v", action, err)
			}
			cancel()
		}
		lane.Leave()
		r.want(t, "1", `{"ok":true,"slept":10}`)
		synctest.Wait()
		checkIdle(t, e)
		if s := e.Stats().ByAction; s["echo"].Done != 0 || s["sleep"].Done != 1 {
			t.Errorf("they ran for nobody: %+v", s)
		}
	})
}

// inBubbleOf is inBubble for one case of several.
func inBubbleOf(t *testing.T, name string, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { inBubble(t, f) })
}

func TestStatisticsAddUp(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		e := newExecutor(t, Config{Slots: 2, TaskTimeout: 30 * time.Second}, actions.Action{Name: "fails", Slow: true, Run: func(context.Context, *actions.Call) (any, error) {
			<-time.After(70 * time.Millisecond)
			return nil, errOwn
		}})
		source, r := e.NewSource(), newResults()
		for _, payload := range []string{"0.04", "0.2", "2", "20", "400"} {
			source.Start(newTask("1", "sleep", payload), r.deliver)
		}
		source.Start(newTask("2", "fails", "null"), r.deliver)
		for range 6 {
			<-r
		}
		synctest.Wait()
		stats := e.Stats()
		s := stats.ByAction["sleep"]
		if s.Done != 4 || s.TimedOut != 1 || s.Failed != 0 || s.SumSeconds != 0.04+0.2+2+20+30 {
			t.Errorf("sleep: %+v", s)
		}
		if len(s.Buckets) != len(stats.Bounds)+1 {
			t.Fatalf("%d buckets, %d bounds", len(s.Buckets), len(stats.Bounds))
		}
		for i, n := range s.Buckets {
			want := int64(0)
			if i < len(stats.Bounds) && strings.Contains(" 0.05 0.25 2.5 30 ", fmt.Sprintf(" %g ", stats.Bounds[i])) {
				want = 1
			}
			if i < len(stats.Bounds) && stats.Bounds[i] == 30 { // 20 s, and what ended at its timeout
				want = 2
			}
			if n != want {
				t.Errorf("bucket %d has %d, want %d", i, n, want)
			}
		}
		if f := stats.ByAction["fails"]; f.Failed != 1 || f.SumSeconds != 0.07 {
			t.Errorf("fails: %+v", f)
		}
	})
}

func TestOutcomesHaveNames(t *testing.T) {
	t.Parallel()
	var names []string
	for o := range outcomeCount {
		names = append(names, o.String())
	}
	if got := strings.Join(names, " "); got != "done failed panicked timed_out cancelled" {
		t.Error(got)
	}
}
