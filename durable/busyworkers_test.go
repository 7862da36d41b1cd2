package durable_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/worker"
)

// TestASuspectOfADeadProcessGetsAWorkerThoughAllAreBusy: nothing tells a node of the suspects that another process left.
func TestASuspectOfADeadProcessGetsAWorkerThoughAllAreBusy(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		pool := worker.NewPool()
		n := w.node("n1", func(c *durable.Config) { c.RunsSuspects, c.Workers = true, pool })
		pushed := make(chan string, 10)
		s, _, _ := pool.Join(worker.Options{
			ID: []byte(`"w"`), Name: "w", Node: "n1", Actions: []string{"resize"}, Slots: 1,
			Send: func(line []byte) {
				var push struct{ Lease, Task string }
				if json.Unmarshal(line, &push) == nil && push.Lease != "" {
					pushed <- push.Lease
				}
			},
		})
		s.Open(nil)
		defer s.Close(worker.Left)
		first := w.accept(n, "resize")
		lease := <-pushed

		suspect := task.Task{ID: "01JE0000000000000000000000", Action: "resize", Payload: task.Body{Inline: []byte("1")}, Options: first.Options}
		_, err := w.store.Accept(t.Context(), []task.Task{suspect})
		if err == nil {
			_, err = w.store.Claim(t.Context(), store.Claim{Node: "n0", IDs: []string{suspect.ID}, Actions: []string{"resize"}, Limit: 1})
		}
		if err == nil {
			_, err = w.store.Reap(t.Context(), "n0", []store.Held{{ID: suspect.ID, Fence: 1}}, "its worker died")
		}
		if err != nil {
			t.Fatal(err)
		}
		ran := false
		for range 100 { // the worker is never idle
			w.accept(n, "resize")
			w.after(time.Second)
			pool.Finish([]byte(lease), "", worker.Ending{Kind: worker.Done})
			if lease = <-pushed; lease[:len(suspect.ID)] == suspect.ID {
				ran = true
				break
			}
		}
		if !ran {
			t.Error("the suspect has had no turn")
		}
		pool.Finish([]byte(lease), "", worker.Ending{Kind: worker.Done})
		w.wantState(w.finished(n, suspect.ID), task.Done, 2)
	})
}
