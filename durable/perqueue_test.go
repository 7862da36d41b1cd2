package durable_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/posta-tasks/posta/task"
)

func TestEndsAndWaitsAreCountedByQueue(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		w.finished(n, w.accept(n, "ok", task.Options{Queue: "mail"}).ID)
		w.finished(n, w.accept(n, "never", task.Options{Queue: "mail"}).ID)
		later := w.accept(n, "ok", task.Options{Queue: "slow", RunAt: time.Now().Add(time.Hour)})
		if refusal := n.Pause(t.Context(), "slow", true); refusal != nil {
			t.Fatal(refusal)
		}
		w.after(time.Hour + 10*time.Minute) // ten minutes after it was due
		if refusal := n.Pause(t.Context(), "slow", false); refusal != nil {
			t.Fatal(refusal)
		}
		w.finished(n, later.ID)
		s := n.Stats()
		mail, slow := s.ByQueue["mail"], s.ByQueue["slow"]
		if mail.Done != 1 || mail.Failed != 1 || mail.Cancelled != 0 || mail.Waits[0] != 2 {
			t.Errorf("mail: %+v", mail)
		}
		if slow.Done != 1 || slow.WaitSeconds < 600 || slow.WaitSeconds > 610 {
			t.Errorf("slow: %+v", slow)
		}
		if bounds := s.WaitBounds; len(slow.Waits) != len(bounds)+1 || bounds[len(bounds)-1] != 86400 {
			t.Errorf("bounds: %v", bounds)
		}
	})
}

func TestQueuesBeyondTheLimitAreCountedTogether(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		for i := range task.MaxQueues + 5 {
			w.accept(n, "ok", task.Options{Queue: fmt.Sprintf("q%d", i), Keep: time.Millisecond})
			w.after(2 * time.Second) // it is deleted, and its queue with it
		}
		s := n.Stats()
		if other := s.ByQueue["other queues"]; len(s.ByQueue) != task.MaxQueues+1 || other.Done != 5 {
			t.Errorf("%d names, and %+v", len(s.ByQueue), other)
		}
	})
}
