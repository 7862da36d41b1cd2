package worker_test

import (
	"testing"
	"time"

	"github.com/posta-tasks/posta/worker"
)

// TestAWorkerThatEndsWhileItHoldsARunLeavesTheOthers: the run ends, and the next one goes to the worker that remains.
func TestAWorkerThatEndsWhileItHoldsARunLeavesTheOthers(t *testing.T) {
	t.Parallel()
	pool := worker.NewPool()
	lines := make(chan string, 10)
	join := func(name string) *worker.Stream {
		s, _, _ := pool.Join(worker.Options{
			ID: []byte(`"w"`), Name: name, Node: "n", Actions: []string{"greet"}, Slots: 1, Send: func(p []byte) { lines <- name + " " + string(p) },
		})
		s.Open(nil)
		return s
	}
	streams := map[string]*worker.Stream{"a": join("a"), "b": join("b")}
	for range 2 {
		ended := make(chan worker.Ending, 1)
		if _, ok := pool.Run(worker.Task{Action: "greet", Timeout: time.Minute, Payload: []byte("1"), Ended: func(e worker.Ending) { ended <- e }}); !ok {
			t.Fatal("too many runs wait")
		}
		holder := (<-lines)[:1]
		streams[holder].Close(worker.Died)
		if e := <-ended; e.Kind != worker.Gone || e.Worker != holder {
			t.Errorf("the run of %s ended as %d of %q", holder, e.Kind, e.Worker)
		}
	}
}
