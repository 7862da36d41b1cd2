package durable_test

import (
	"context"
	"testing"
	"time"

	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

func TestATaskThatFindsAFreeSlotNeedsNoClaim(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.store = &distantStore{w.store} // a task that needs a claim waits for it
		n := w.node("a")
		w.after(time.Second)
		start := time.Now()
		answers := n.Accept(t.Context(), []durable.Request{{Action: "ok"}, {Action: "second"}, {Action: "ok", Payload: make([]byte, 9)}})
		for _, a := range answers {
			if a.Refusal != nil || a.Task.State != task.Queued || a.Task.Attempt != 0 || a.Task.Node != "" {
				t.Errorf("it is answered %+v", a)
			}
		}
		done := w.finished(n, answers[0].Task.ID)
		if took, n := time.Since(start), len(w.get(done.ID).History); done.Attempt != 1 || took != 0 || n != 3 {
			t.Errorf("after %s, with %d entries: %+v", took, n, done)
		}
		w.after(20 * time.Millisecond)
		if running := w.get(answers[1].Task.ID); running.State != task.Running || !running.StartedAt.Equal(running.CreatedAt) {
			t.Errorf("it is %+v", running)
		}
		if s := n.Stats(); s.Claimed != 3 {
			t.Errorf("%+v", s)
		}
	})
}

func TestWhatWaitsLongerStartsFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		old := w.acceptMany(n, 12, "second", task.Options{}) // four run, and eight wait
		w.after(2500 * time.Millisecond)                     // the last four run
		w.after(time.Second)
		old = append(old, w.acceptMany(n, 8, "second", task.Options{})...)
		w.after(500 * time.Millisecond)
		late := w.accept(n, "ok").ID
		for _, id := range old[12:] {
			if early := w.finished(n, id); early.StartedAt.After(w.finished(n, late).StartedAt) {
				t.Errorf("a task that came later was started before %s", id)
			}
		}
	})
}

func TestWhatIsNoBusinessOfTheNodeIsNotStartedByIt(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a", func(c *durable.Config) {
			c.Actions, c.Queues = []string{"ok"}, map[string]durable.QueueRule{"mail": {}, "tight": {Running: 1}}
		})
		for _, r := range []durable.Request{
			{Action: "second", Options: task.Options{Queue: "mail"}},
			{Action: "ok"},
			{Action: "ok", Options: task.Options{Queue: "mail", RunAt: time.Now().Add(time.Hour)}},
		} {
			a := n.Accept(t.Context(), []durable.Request{r})[0]
			w.after(time.Minute)
			if got := w.get(a.Task.ID); got.Attempt != 0 {
				t.Errorf("%+v is started: %+v", r, got)
			}
		}
		tight := n.Accept(t.Context(), []durable.Request{{Action: "ok", Options: task.Options{Queue: "tight"}}})[0]
		w.wantState(w.finished(n, tight.Task.ID), task.Done, 1)
	})
}

// slowAnswers stores tasks at once and takes a second to say so.
type slowAnswers struct{ store.Store }

func (s *slowAnswers) Accept(ctx context.Context, tasks []task.Task) ([]store.Accepted, error) {
	answers, err := s.Store.Accept(ctx, tasks)
	<-time.After(time.Second)
	return answers, err
}

func TestADrainGivesBackWhatAnAcceptUnderWayHasStarted(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.store = &slowAnswers{w.store}
		n := w.node("a")
		w.after(time.Second)
		accepted := make(chan string)
		go func() { accepted <- n.Accept(context.Background(), []durable.Request{{Action: "hour"}})[0].Task.ID }()
		w.after(500 * time.Millisecond)
		drained := make(chan struct{})
		go func() {
			defer close(drained)
			w.drain(n, 2*time.Second)
		}()
		id := <-accepted
		<-drained
		if got := w.get(id); got.State != task.Queued || got.Suspect || n.Stats().Held != 0 {
			t.Errorf("after the drain it is %+v", got)
		}
	})
}
