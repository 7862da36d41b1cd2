package durable_test

import (
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// cancel cancels one task and gives the answer.
func (w *world) cancel(n *node, id string) durable.Changed {
	w.t.Helper()
	changed, refusal := n.Cancel(w.t.Context(), []string{id})
	if refusal != nil {
		w.t.Fatal(refusal)
	}
	return changed[0]
}

func TestACancelledTaskThatHadNotStartedNeverRuns(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		id := w.accept(n, "ok", task.Options{RunAt: time.Now().Add(time.Minute)}).ID
		if c := w.cancel(n, id); !c.Made || c.Task.State != task.Cancelled || c.Refusal != nil {
			t.Errorf("%+v", c)
		}
		w.after(time.Hour)
		w.wantState(w.get(id), "cancelled", 0)
		if c := w.cancel(n, id); c.Made || c.Refusal != nil || c.Task.State != task.Cancelled {
			t.Errorf("cancelled once more: %+v", c)
		}
		if w.runs(id) != 0 {
			t.Error("it ran")
		}
	})
}

func TestACancelledTaskThatRunsIsStoppedAtOnceOnWhicheverNode(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a := w.node("a", func(c *durable.Config) { c.Actions = []string{} })
		w.node("b")
		for _, action := range []string{"hour", "stormy"} {
			id := w.accept(a, action, task.Options{Timeout: time.Hour}).ID
			w.after(1234 * time.Millisecond)
			start := time.Now()
			if c := w.cancel(a, id); !c.Made || c.Task.State != task.Running || !c.Task.Cancelling {
				t.Errorf("%s: %+v", action, c)
			}
			w.wantState(w.finished(a, id), "cancelled", 1)
			if took := time.Since(start); took != 0 {
				t.Errorf("%s was stopped after %s", action, took)
			}
		}
	})
}

func TestACancelWhoseEventIsLostIsNoticedAtTheNextRenewal(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a := w.node("a", func(c *durable.Config) { c.Actions = []string{} })
		w.hub = durable.NewHub()
		w.node("b")
		id := w.accept(a, "hour", task.Options{Timeout: time.Hour}).ID
		w.after(6 * time.Second)
		start := time.Now()
		w.cancel(a, id)
		w.wantState(w.finished(a, id), "cancelled", 1)
		if took := time.Since(start); took > task.LeaseRenew+time.Second {
			t.Errorf("it was stopped after %s", took)
		}
	})
}

func TestATaskThatSucceedsAllTheSameIsDoneThoughItWasCancelled(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		id := w.accept(n, "deaf", task.Options{Timeout: time.Hour}).ID
		w.after(time.Second)
		w.cancel(n, id)
		w.wantState(w.finished(n, id), "done", 1)
		if c := w.cancel(n, id); c.Refusal == nil || c.Refusal.Code != task.Conflict || c.Refusal.State != "done" {
			t.Errorf("a cancel of a done task: %+v", c)
		}
	})
}

func TestARetryByHandBeginsANewGeneration(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		id := w.accept(n, "fail", task.Options{MaxAttempts: 2}).ID
		running := w.accept(n, "hour", task.Options{Timeout: time.Hour}).ID
		w.after(time.Second)
		if c, _ := n.Retry(t.Context(), []string{running, "nothing"}); c[0].Refusal == nil ||
			c[0].Refusal.Code != task.Conflict || c[1].Refusal.Code != task.NotFound {
			t.Errorf("a retry of an unfinished task, and of none: %+v", c)
		}
		w.wantState(w.finished(n, id), "failed", 2)
		c, refusal := n.Retry(t.Context(), []string{id})
		if refusal != nil || !c[0].Made || c[0].Task.State != task.Queued || c[0].Task.Generation != 1 {
			t.Errorf("%+v, %v", c, refusal)
		}
		w.wantState(w.finished(n, id), "failed", 4)
	})
}

func TestARetryOfAScheduledTaskRunsItAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		start := time.Now()
		id := w.accept(n, "ok", task.Options{RunAt: start.Add(time.Hour)}).ID
		c, refusal := n.Retry(t.Context(), []string{id})
		if refusal != nil || c[0].Refusal != nil || c[0].Task.State != task.Queued || c[0].Task.Generation != 0 {
			t.Errorf("%+v, %v", c, refusal)
		}
		w.wantState(w.finished(n, id), "done", 1)
		if took := time.Since(start); took >= time.Hour {
			t.Errorf("it was done after %s", took)
		}
	})
}

func TestARetryOfACancelledTaskNamesTheTaskThatHasItsKey(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		later := task.Options{RunAt: time.Now().Add(time.Hour), Key: "k"}
		first := w.accept(n, "ok", later).ID
		w.cancel(n, first)
		second := w.accept(n, "ok", later).ID
		c, _ := n.Retry(t.Context(), []string{first})
		r := c[0].Refusal
		if r == nil || r.Code != task.Conflict || r.Task != first || r.State != "cancelled" || !strings.Contains(r.Message, second) {
			t.Errorf("%+v", r)
		}
	})
}

func TestATaskThatWaitsForAnotherAttemptShowsTheErrorOfTheLast(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		id := w.accept(n, "fail", task.Options{}).ID
		w.after(0)
		got, refusal := n.Get(t.Context(), id, false)
		if refusal != nil || got.State != task.Scheduled || got.Error == "" || got.Code != task.ActionFailed {
			t.Errorf("%+v, %v", got, refusal)
		}
	})
}

// Nobody receives the event of its end: waiters read the store each second.
func TestAWaitOnAnotherNodeFindsATaskThatIsHardlyKept(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a := w.node("a", func(c *durable.Config) { c.Actions = []string{} })
		w.hub = durable.NewHub()
		w.node("b", func(c *durable.Config) { c.Shared = true })
		id := w.accept(a, "ok", task.Options{Keep: 100 * time.Millisecond}).ID
		w.wantState(w.finished(a, id), "done", 1)
	})
}

func TestAnActionThatIgnoresItsContextShowsAsStuckWhileItsTaskGoesOn(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		id := w.accept(n, "deaf", task.Options{Timeout: time.Second, MaxAttempts: 2}).ID
		w.after(30 * time.Second)
		if got := w.get(id); got.Attempt < 2 {
			t.Errorf("it has made %d attempts", got.Attempt)
		}
		if list, refusal := n.Nodes(t.Context()); refusal != nil || len(list) != 1 || list[0].Stuck == 0 {
			t.Errorf("%+v, %v", list, refusal)
		}
		w.after(10 * time.Minute) // they end by themselves
	})
}

func TestAFilterChangesWhatItSelectsAndSaysWhetherThereIsMore(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a", func(c *durable.Config) { c.Slots = 1 })
		for range 3 {
			w.accept(n, "never", task.Options{Meta: map[string]string{"of": "me"}})
		}
		w.after(time.Second)
		hour := task.Options{Queue: "q", Timeout: time.Hour}
		w.accept(n, "hour", hour)
		w.after(time.Second)
		for range 3 {
			w.accept(n, "hour", hour)
		}
		w.after(time.Second)
		check := func(got durable.Bulk, refusal *task.Error, want durable.Bulk) {
			t.Helper()
			if refusal != nil || got != want {
				t.Errorf("%+v, %v; want %+v", got, refusal, want)
			}
		}
		got, refusal := n.CancelWhere(t.Context(), store.Query{Queue: "q", Limit: 2})
		check(got, refusal, durable.Bulk{Matched: 2, Changed: 1, Cancelling: 1, More: true})
		got, refusal = n.CancelWhere(t.Context(), store.Query{Queue: "q", Limit: 1000})
		check(got, refusal, durable.Bulk{Matched: 2, Changed: 2})
		got, refusal = n.CancelWhere(t.Context(), store.Query{Queue: "q", Limit: 1000})
		check(got, refusal, durable.Bulk{}) // what is to stop already is not counted again
		got, refusal = n.RetryWhere(t.Context(), store.Query{Meta: map[string]string{"of": "me"}, State: "failed", Limit: 2})
		check(got, refusal, durable.Bulk{Matched: 2, Changed: 2, More: true})
		got, refusal = n.RetryWhere(t.Context(), store.Query{State: "done", Limit: 2})
		check(got, refusal, durable.Bulk{})
	})
}
