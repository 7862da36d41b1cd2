package worker_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/worker"
)

// TestASlotIsFreedOnce: the slot of an attempt whose time is over stays occupied until its worker answers, and then one more
// task is pushed, and not two.
func TestASlotIsFreedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pool := worker.NewPool()
		s, _, _ := pool.Join(worker.Options{ID: []byte(`"w"`), Name: "w", Node: "n", Actions: []string{"greet"}, Slots: 1, Send: func([]byte) {}})
		s.Open(nil)
		defer s.Close(worker.Left)
		group := pool.Groups("n")[0]
		ended := make(chan worker.Kind, 10)
		push := func(number int) bool {
			return group.Push(worker.Task{
				Lease: fmt.Sprintf("T%d.1", number), Action: "greet", Timeout: time.Second, Durable: &task.Task{ID: fmt.Sprintf("T%d", number)},
				Ended: func(e worker.Ending) { ended <- e.Kind },
			}, func(_, _ string) bool { return true })
		}
		want := func(number int, free bool) {
			t.Helper()
			if got := push(number); got != free {
				t.Errorf("pushed: %v, want %v", got, free)
			}
		}
		want(1, true)
		want(2, false)
		if kind := <-ended; kind != worker.TimedOut {
			t.Errorf("the attempt ended as %d, want TimedOut", kind)
		}
		want(2, false)
		for range 2 { // the second answer comes when the slot has another task
			if verdict := pool.Finish([]byte("T1.1"), "", worker.Ending{Kind: worker.Done}); verdict != worker.Unknown {
				t.Errorf("the answer is %d, want Unknown", verdict)
			}
			push(3)
			want(4, false)
		}
		if verdict := pool.Finish([]byte("T3.1"), "", worker.Ending{Kind: worker.Done}); verdict != worker.Accepted {
			t.Errorf("the answer is %d, want Taken", verdict)
		}
		want(5, true)
		want(6, false)
	})
}
