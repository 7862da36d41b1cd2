package durable_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/worker"
)

func TestATaskForAWorkerOfAnotherProcessIsPushedAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		b := broker.NewMemory(broker.Bounds{})
		defer b.Close()
		pool := worker.NewPool()
		a := w.process("a", b)
		w.process("b", b, func(c *durable.Config) { c.Workers = pool })
		leases := make(chan string, 10)
		s, _, _ := pool.Join(worker.Options{
			ID: []byte(`"w"`), Name: "w", Node: "b", Actions: []string{"resize"}, Slots: 8,
			Send: func(line []byte) {
				if _, rest, found := bytes.Cut(line, []byte(`"lease":"`)); found {
					lease, _, _ := bytes.Cut(rest, []byte(`"`))
					leases <- string(lease)
				}
			},
		})
		s.Open(nil)
		defer s.Close(worker.Left)
		w.acquaint()
		for range 5 {
			start := time.Now()
			w.accept(a, "resize")
			lease := <-leases
			if took := time.Since(start); took > 100*time.Millisecond { // polling takes up to a second
				t.Errorf("the push came after %s", took)
			}
			pool.Finish([]byte(lease), "", worker.Ending{Kind: worker.Done})
			w.after(1300 * time.Millisecond) // the nodes look at the store at other times
		}
	})
}
