package worker_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/worker"
)

// options are those of a poll.
func options(slots int) worker.Options {
	return worker.Options{Name: "w", Node: "n", Token: "t", Actions: []string{"greet"}, Slots: slots}
}

// push pushes a task to the only group. It returns where its ending arrives.
func push(t *testing.T, pool *worker.Pool, lease string) <-chan worker.Ending {
	t.Helper()
	ended := make(chan worker.Ending, 1)
	one := worker.Task{Lease: lease, Action: "greet", Timeout: time.Minute, Durable: &task.Task{ID: lease}, Ended: func(e worker.Ending) { ended <- e }}
	if !pool.Groups("n")[0].Push(one, func(_, _ string) bool { return true }) {
		t.Fatalf("%s is not pushed", lease)
	}
	return ended
}

func TestTasksOfAPollWhoseClientGoesAreGivenBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pool := worker.NewPool()
		ctx, giveUp := context.WithCancel(t.Context())
		answers := make(chan worker.Polled, 1)
		go func() {
			got, _ := pool.Poll(ctx, options(2), time.Minute, time.Hour)
			answers <- got
		}()
		synctest.Wait()
		ended := push(t, pool, "a.1") // the poll waits for a second one
		giveUp()
		if got := <-answers; len(got.Tasks) > 0 {
			t.Errorf("a poll that was given up returns %q", got.Tasks)
		}
		if e := <-ended; e.Kind != worker.Undelivered {
			t.Errorf("its task ends as %d", e.Kind)
		}
		if list := pool.List(""); len(list) != 1 || list[0].Held != 0 {
			t.Errorf("the worker is %+v, want it to hold nothing", list)
		}
	})
}

func TestAPollTakesWhatIsPushedTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pool := worker.NewPool()
		answers := make(chan worker.Polled, 1)
		go func() {
			got, _ := pool.Poll(t.Context(), options(3), time.Minute, time.Hour)
			answers <- got
		}()
		synctest.Wait()
		push(t, pool, "a.1")
		push(t, pool, "b.1")
		got := <-answers
		if len(got.Tasks) != 2 {
			t.Errorf("the poll returns %q, want both tasks", got.Tasks)
		}
		if pool.Groups("n")[0].Free(1) != 0 {
			t.Error("a worker that does not poll has free slots")
		}
		pool.GiveBack(got) // they could not be delivered
		if list := pool.List(""); len(list) != 1 || list[0].Held != 0 {
			t.Errorf("the worker is %+v, want it to hold nothing", list)
		}
	})
}

func TestALeaseOfAPollEndsAsThatOfADeadWorker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pool := worker.NewPool()
		answers := make(chan worker.Polled, 1)
		go func() {
			got, _ := pool.Poll(t.Context(), options(1), time.Minute, 10*time.Second)
			answers <- got
		}()
		synctest.Wait()
		ended := push(t, pool, "a.1")
		if got := <-answers; len(got.Tasks) != 1 {
			t.Fatalf("the poll returns %+v", got)
		}
		begin := time.Now()
		if e := <-ended; e.Kind != worker.Gone || e.Cause != worker.Died || time.Since(begin) != 10*time.Second {
			t.Errorf("after %s the attempt ends as %+v", time.Since(begin), e)
		}
		if lost := pool.Stats("n").Lost[worker.Died]; lost != 1 {
			t.Errorf("%d attempts are counted as lost", lost)
		}
	})
}

func TestWorkersThatPollAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pool := worker.NewPool()
		var refusal *task.Error
		n := 0
		for ; refusal == nil && n < 10_000; n++ {
			_, refusal = pool.Poller("n", "t", string(rune('a'+n)), time.Minute)
		}
		if refusal == nil || refusal.Code != task.Overloaded || refusal.RetryAfter == 0 {
			t.Errorf("%d workers poll, and the last is refused with %v", n, refusal)
		}
	})
}
