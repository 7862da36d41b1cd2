package durable_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/task"
)

// withActions gives a node's executor other actions than those of the world.
func withActions(t *testing.T, exec **executor.Executor, list ...actions.Action) func(*durable.Config) {
	t.Helper()
	return func(c *durable.Config) {
		*exec = c.Executor
		if err := c.Executor.SetActions(list...); err != nil {
			t.Fatal(err)
		}
	}
}

// slow is an action that takes as long as its payload says.
func slow(name string, d time.Duration) actions.Action {
	return actions.Action{Name: name, Slow: true, Run: func(ctx context.Context, _ *actions.Call) (any, error) { return nil, rest(ctx, d) }}
}

func TestAnActionWhoseSlotsAreFullBlocksNoOther(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var exec *executor.Executor
		few := slow("few", 50*time.Second)
		few.Slots = 1
		n := w.node("a", withActions(t, &exec, few, slow("other", 10*time.Second)))
		w.after(time.Second) // it works
		var waiting []string
		for range 20 {
			waiting = append(waiting, w.accept(n, "few").ID)
		}
		w.after(time.Second) // the first one has its slot
		for range 6 {        // three at a time, since four slots are there
			waiting = append(waiting, w.accept(n, "other").ID)
		}
		w.after(time.Second)
		running := map[string]int{}
		for _, id := range waiting {
			record := w.get(id)
			if record.State == task.Running || record.Reserved != "" {
				running[record.Action]++
			}
		}
		if running["few"] != 1 || running["other"] != 3 {
			t.Errorf("in the slots, or claimed for them: %v, want 1 of few, and 3 of the other", running)
		}
		w.after(20 * time.Second)
		for _, id := range waiting[20:] {
			if record := w.get(id); record.State != task.Done {
				t.Errorf("a task of another action is %s", record.State)
			}
		}
		for _, id := range waiting[:20] {
			w.finished(n, id)
			if record := w.get(id); record.State != task.Done || record.Attempt != 1 || states(record) != "queued running done" {
				t.Errorf("a task that waited for its slot is %s: %s", record.State, states(record))
			}
		}
	})
}

func TestDirectTasksOfAnActionDoNotStarveDurableOnes(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var exec *executor.Executor
		few := slow("few", time.Second)
		few.Slots = 1
		n := w.node("a", withActions(t, &exec, few))
		ctx, cancel := context.WithCancel(t.Context())
		for range 3 {
			go func() {
				for ctx.Err() == nil {
					_, _ = exec.Run(ctx, executor.Task{Action: []byte("few")})
				}
			}()
		}
		w.after(time.Second)
		if record := w.finished(n, w.accept(n, "few").ID); record.State != task.Done {
			t.Errorf("the durable task is %s", record.State)
		}
		cancel()
	})
}

func TestAnActionThatAsksForItIsLeftAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var exec *executor.Executor
		var calls atomic.Int32
		busy := actions.Action{Name: "busy", Slow: true, Slots: 1, Run: func(context.Context, *actions.Call) (any, error) {
			if calls.Add(1) == 1 {
				return nil, actions.SlowDown(errors.New("503"), 10*time.Minute)
			}
			return "fine", nil
		}}
		n := w.node("a", withActions(t, &exec, busy, slow("other", 0)))
		first := w.accept(n, "busy")
		w.after(time.Second)
		began, second := time.Now(), w.accept(n, "busy")
		if other := w.finished(n, w.accept(n, "other").ID); other.State != task.Done || time.Since(began) > time.Minute {
			t.Errorf("another action waits as well: it was done after %s", time.Since(began))
		}
		w.after(9 * time.Minute)
		if record := w.get(second.ID); calls.Load() != 1 || record.State != task.Queued || record.Attempt != 0 || len(record.History) != 1 {
			t.Errorf("the action was called %d times; the task that waits is %s, attempt %d", calls.Load(), record.State, record.Attempt)
		}
		if result, _ := exec.Run(t.Context(), executor.Task{Action: []byte("busy")}); calls.Load() != 1 || string(result) == "" {
			t.Errorf("a direct task was run: %s", result)
		}
		w.after(2 * time.Minute)
		for _, id := range []string{first.ID, second.ID} {
			if record := w.get(id); record.State != task.Done {
				t.Errorf("the task is %s two minutes later", record.State)
			}
		}
	})
}

func TestActionsThatComeLaterFindTheirTasks(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var exec *executor.Executor
		n := w.node("a", withActions(t, &exec, slow("old", time.Minute/2)))
		old, fresh := w.accept(n, "old"), w.accept(n, "fresh")
		w.after(time.Second)
		if err := exec.SetActions(slow("fresh", 0)); err != nil {
			t.Fatal(err)
		}
		n.ActionsChanged()
		if record := w.finished(n, fresh.ID); record.State != task.Done {
			t.Errorf("the task of the new action is %s", record.State)
		}
		if record := w.finished(n, old.ID); record.State != task.Done {
			t.Errorf("the task that ran while its action was taken away is %s: %s", record.State, record.Error)
		}
		late := w.accept(n, "old")
		w.after(time.Minute)
		if record := w.get(late.ID); record.State != task.Queued {
			t.Errorf("a task of an action that is gone is %s", record.State)
		}
	})
}

func TestATaskThatIsClaimedWhileItsActionIsTakenAwayStaysQueued(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var exec *executor.Executor
		second := slow("second", time.Second)
		n := w.node("a", withActions(t, &exec, slow("ok", 0), second))
		w.acceptMany(n, 400, "ok", task.Options{}) // tasks are quick, so more are claimed than slots are there
		ids := w.acceptMany(n, 20, "second", task.Options{MaxAttempts: 1})
		w.after(20 * time.Millisecond)
		claimed := 0
		for _, id := range ids {
			if record := w.get(id); record.State == task.Running || record.Reserved != "" {
				claimed++
			}
		}
		if claimed <= 4 {
			t.Fatalf("%d tasks are claimed, want more than there are slots", claimed)
		}
		if err := exec.SetActions(slow("ok", 0)); err != nil {
			t.Fatal(err)
		}
		n.ActionsChanged()
		w.after(time.Minute)
		waiting := 0
		for _, id := range ids {
			switch record := w.get(id); {
			case record.State == task.Queued && record.Attempt == 0:
				waiting++
			case record.State != task.Done:
				t.Errorf("a task is %s in attempt %d: %s", record.State, record.Attempt, states(record))
			}
		}
		if waiting == 0 {
			t.Error("no task waits for its action")
		}
		if err := exec.SetActions(slow("ok", 0), second); err != nil {
			t.Fatal(err)
		}
		n.ActionsChanged()
		for _, id := range ids {
			if record := w.finished(n, id); record.State != task.Done || record.Attempt != 1 {
				t.Errorf("a task is %s in attempt %d: %s", record.State, record.Attempt, states(record))
			}
		}
	})
}
