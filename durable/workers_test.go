package durable_test

import (
	"bytes"
	"context"
	"encoding/json"
	"sync"
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

// crowd is workers that run tasks, and die of poison.
type crowd struct {
	pool   *worker.Pool
	poison string // the task
	all    sync.WaitGroup
	over   chan struct{} // closed when everybody leaves

	mu     sync.Mutex // guards the field below
	deaths int
}

// join adds a worker. When it dies, another one comes.
func (c *crowd) join() {
	var s *worker.Stream
	joined := make(chan struct{})
	s, _, _ = c.pool.Join(worker.Options{
		ID: []byte(`"w"`), Node: "n1", Actions: []string{"resize"}, Slots: 4,
		Send: func(lines []byte) {
			for line := range bytes.Lines(lines) {
				var push struct{ Lease, Task string }
				if json.Unmarshal(line, &push) == nil && push.Lease != "" {
					c.all.Go(func() { <-joined; c.run(s, push.Task, push.Lease) })
				}
			}
		},
	})
	close(joined)
	s.Open(nil)
	c.all.Go(func() { <-c.over; s.Close(worker.Left) })
}

// run makes an attempt.
func (c *crowd) run(s *worker.Stream, id, lease string) {
	_ = rest(context.Background(), 20*time.Millisecond)
	if id != c.poison {
		c.pool.Finish([]byte(lease), "", worker.Ending{Kind: worker.Done})
		return
	}
	c.mu.Lock()
	c.deaths++
	c.mu.Unlock()
	s.Close(worker.Died)
	c.join()
}

// TestAPoisonTaskAmongManyTakesNoOtherWithIt has twenty workers, and a task that kills each of them that runs it.
func TestAPoisonTaskAmongManyTakesNoOtherWithIt(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		c := &crowd{pool: worker.NewPool(), over: make(chan struct{})}
		n := w.node("n1", func(d *durable.Config) { d.RunsSuspects, d.Workers = true, c.pool })
		var ids []string
		for i := range 2000 {
			ids = append(ids, w.accept(n, "resize").ID)
			if i == 700 {
				c.poison = ids[i]
			}
		}
		for range 20 {
			c.join()
		}
		for _, id := range ids {
			if id != c.poison {
				if got := w.finished(n, id); got.State != task.Done || got.Crashes > 0 {
					t.Errorf("an innocent task is %s (%s) after %d crashes", got.State, got.Code, got.Crashes)
				}
			}
		}
		if got := w.finished(n, c.poison); got.Code != task.Crashed {
			t.Errorf("the poison task is %s (%s)", got.State, got.Code)
		}
		close(c.over)
		c.mu.Lock()
		if c.deaths != 1+task.MaxCrashes {
			t.Errorf("%d workers have died, want %d", c.deaths, 1+task.MaxCrashes)
		}
		c.mu.Unlock()
		c.all.Wait()
	})
}
