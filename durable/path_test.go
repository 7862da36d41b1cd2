package durable_test

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

func TestAnAcceptedTaskRunsAndItsResultIsRecorded(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		id := w.accept(n, "ok").ID
		done := w.finished(n, id)
		w.wantState(done, "done", 1)
		if got := string(done.Result.Inline); got != `{"ok":true,"data":"fine"}` {
			t.Errorf("the result is %s", got)
		}
		if got := states(w.get(id)); got != "queued running done" {
			t.Errorf("its history is %s", got)
		}
	})
}

func TestATaskIsStartedAtOnceAndNotAtTheNextBeat(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		w.after(12345 * time.Millisecond)
		accepted := w.accept(n, "second")
		done := w.finished(n, accepted.ID)
		if took := done.FinishedAt.Sub(accepted.CreatedAt); took != time.Second {
			t.Errorf("a task of a second took %s", took)
		}
	})
}

func TestATaskWithoutAHintIsFoundWithinABeat(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.node("a")
		w.after(time.Second)
		options := task.Options{Queue: "default", Timeout: time.Minute, MaxAttempts: 1, Keep: time.Hour}
		silent := task.Task{ID: "01M0000000000000000000000A", Action: "ok", Payload: task.Body{Inline: []byte("null")}, Options: options}
		if _, err := w.store.Accept(t.Context(), []task.Task{silent}); err != nil {
			t.Fatal(err)
		}
		w.after(durable.Beat)
		if got := w.get(silent.ID); got.State != task.Done {
			t.Errorf("after a beat it is %s", got.State)
		}
	})
}

func TestAFailedAttemptIsMadeAgainAfterTheBackoffAndThenThreeTimesThat(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		accepted := w.accept(n, "third")
		done := w.finished(n, accepted.ID)
		w.wantState(done, "done", 3)
		if took := done.FinishedAt.Sub(accepted.CreatedAt); took != 24*time.Second {
			t.Errorf("two failures with waits of 5 s and 15 s, a fifth longer, took %s", took)
		}
		if got := states(w.get(accepted.ID)); got != "queued running scheduled queued running scheduled queued running done" {
			t.Errorf("its history is %s", got)
		}
	})
}

func TestTheBackoffGrowsToItsMost(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		accepted := w.accept(n, "fail", task.Options{MaxAttempts: 5, Backoff: 10 * time.Second, BackoffMax: time.Minute})
		failed := w.finished(n, accepted.ID)
		w.wantState(failed, "failed", 5)
		if took := failed.FinishedAt.Sub(accepted.CreatedAt); took != (12+36+60+60)*time.Second {
			t.Errorf("five failures took %s", took)
		}
	})
}

func TestAnOutageOf40MinutesEndsNoTask(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a", func(c *durable.Config) { c.Jitter = func() float64 { return 0 } })
		w.back = time.Now().Add(40 * time.Minute)
		accepted := w.accept(n, "away")
		done := w.finished(n, accepted.ID)
		if done.State != task.Done || done.FinishedAt.Sub(accepted.CreatedAt) < 40*time.Minute {
			t.Errorf("it is %s after %s: %s", done.State, done.FinishedAt.Sub(accepted.CreatedAt), done.Error)
		}
	})
}

func TestAnActionSaysWhenItIsTriedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		accepted := w.accept(n, "busy", task.Options{MaxAttempts: 3, Backoff: time.Second})
		done := w.finished(n, accepted.ID)
		w.wantState(done, "done", 3)
		if took := done.FinishedAt.Sub(accepted.CreatedAt); took != 14*time.Minute {
			t.Errorf("two waits of 7 minutes took %s", took)
		}
	})
}

func TestADefaultOfAQueueStandsForWhatAnEnqueueLeavesOut(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a", func(c *durable.Config) {
			c.Defaults = map[string]task.Defaults{
				"mail": {MaxAttempts: 20, Backoff: 2 * time.Hour, KeepFailed: task.Zero},
				"*":    {MaxAttempts: 7, Timeout: 9 * time.Second},
			}
		})
		cases := []struct{ asked, want task.Options }{
			{task.Options{Queue: "mail"}, task.Options{
				Timeout: 9 * time.Second, MaxAttempts: 20, Backoff: 2 * time.Hour, BackoffMax: 2 * time.Hour, Keep: 24 * time.Hour,
				KeepFailed: task.LeastKeep,
			}},
			{task.Options{Queue: "mail", MaxAttempts: 1, BackoffMax: time.Hour, Keep: task.Zero, KeepFailed: time.Minute}, task.Options{
				Timeout: 9 * time.Second, MaxAttempts: 1, Backoff: 2 * time.Hour, BackoffMax: time.Hour, Keep: task.LeastKeep,
				KeepFailed: time.Minute,
			}},
			{task.Options{Backoff: task.Zero}, task.Options{
				Timeout: 9 * time.Second, MaxAttempts: 7, BackoffMax: time.Hour, Keep: 24 * time.Hour, KeepFailed: 7 * 24 * time.Hour,
			}},
		}
		for _, c := range cases {
			c.asked.Delay = time.Minute // it waits, and can be looked at
			got := w.get(w.accept(n, "ok", c.asked).ID).Options
			c.want.Queue, c.want.RunAt = got.Queue, got.RunAt
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("%+v is %+v, want %+v", c.asked, got, c.want)
			}
		}
	})
}

func TestATaskThatWouldExpireBeforeItsTimeIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		for in, refused := range map[time.Duration]bool{time.Minute: true, time.Hour: true, 59 * time.Second: false, -time.Hour: false} {
			options := task.Options{RunAt: time.Now().Add(in), ExpiresIn: time.Minute}
			answer := n.Accept(t.Context(), []durable.Request{{Action: "ok", Options: options}})[0]
			if (answer.Refusal != nil) != refused || refused && (answer.Refusal.Code != task.InvalidRequest || answer.Refusal.Field != "expires") {
				t.Errorf("in %s: %v", in, answer.Refusal)
			}
		}
	})
}

// A node whose clock is wrong asks for spans of time, and the store's clock counts them.
func TestANodeWhoseClockIsWrongKeepsToTheStoresTimes(t *testing.T) {
	t.Parallel()
	for _, wrong := range []time.Duration{time.Hour, -time.Hour} {
		t.Run(wrong.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				n := w.node("a", func(c *durable.Config) {
					c.Now = func() time.Time { return time.Now().Add(wrong) }
				})
				w.after(durable.Beat)
				delayed := w.accept(n, "ok", task.Options{Delay: 10 * time.Second})
				timed := w.accept(n, "ok", task.Options{RunAt: time.Now().Add(10 * time.Second), ExpiresIn: 11 * time.Second})
				again := w.accept(n, "third", task.Options{Backoff: time.Second})
				expires := w.accept(n, "unheard of", task.Options{ExpiresIn: 10 * time.Second})
				for what, c := range map[string]struct {
					id  string
					end time.Duration
				}{"a delay": {delayed.ID, 10 * time.Second}, "a time": {timed.ID, 10 * time.Second}, "a backoff": {again.ID, 4800 * time.Millisecond}, "expires": {expires.ID, 10 * time.Second}} {
					if got := w.finished(n, c.id); got.FinishedAt.Sub(got.CreatedAt) != c.end {
						t.Errorf("%s by %s: it was over after %s, want %s", what, wrong, got.FinishedAt.Sub(got.CreatedAt), c.end)
					}
				}
				if id, err := ulid.Parse(delayed.ID); err != nil || ulid.Time(id.Time()).Sub(delayed.CreatedAt).Abs() > time.Second {
					t.Errorf("by %s: the id %s was made at %s, and the task at %s", wrong, id, ulid.Time(id.Time()), delayed.CreatedAt)
				}
			})
		})
	}
}

func TestAttemptsUsedUpFailTheTaskWithItsLastError(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		cases := []struct {
			action string
			code   task.Code
			why    string
			starts int
		}{
			{"fail", task.ActionFailed, "it did not work", 2},
			{"panic", task.ActionFailed, "action panic panicked: out of cheese", 2},
			{"minute", task.TimedOut, "timed out after 2s", 2},
			{"never", task.ActionFailed, "no such cheese", 1},
			{"large", task.ResultTooLarge, "the result has 65557 bytes, at most 65536 are allowed", 1},
		}
		for _, c := range cases {
			id := w.accept(n, c.action, task.Options{MaxAttempts: 2, Timeout: 2 * time.Second}).ID
			failed := w.finished(n, id)
			w.wantState(failed, "failed", c.starts)
			if failed.Code != c.code || failed.Error != c.why {
				t.Errorf("%s failed with %s, %q; want %s, %q", c.action, failed.Code, failed.Error, c.code, c.why)
			}
		}
	})
}

func TestADelayedTaskStartsAtItsMillisecond(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		w.node("b")
		for _, delay := range []time.Duration{7 * time.Millisecond, 12345 * time.Millisecond, time.Hour + time.Millisecond} {
			accepted := w.accept(n, "ok", task.Options{RunAt: time.Now().Add(delay)})
			w.wantState(accepted, "scheduled", 0)
			if late := w.finished(n, accepted.ID).StartedAt.Sub(accepted.RunAt); late != 0 {
				t.Errorf("a task with a delay of %s started %s late", delay, late)
			}
		}
	})
}

func TestATaskThatDoesNotStartInTimeExpiresAtItsTime(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		accepted := w.accept(n, "unheard of", task.Options{ExpiresIn: 90 * time.Second})
		failed := w.finished(n, accepted.ID)
		w.wantState(failed, "failed", 0)
		if late := failed.FinishedAt.Sub(accepted.Expires); failed.Code != task.Expired || late != 0 {
			t.Errorf("it failed with %s, %s late", failed.Code, late)
		}
	})
}

func TestATaskWhoseActionNoNodeHasIsAcceptedWithAWarningAndRunsWhenANodeHasIt(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a", func(c *durable.Config) { c.Actions = []string{"ok"} })
		a := n.Accept(t.Context(), []durable.Request{{Action: "fail"}, {Action: "ok"}})
		if a[0].Refusal != nil || a[0].Warning != "no live node has the action fail; the task waits for one" || a[1].Warning != "" {
			t.Errorf("%+v", a)
		}
		w.after(time.Minute)
		w.wantState(w.get(a[0].Task.ID), "queued", 0)
		b := w.node("b")
		w.wantState(w.finished(n, a[0].Task.ID), "failed", 12)
		_ = b
	})
}

func TestTheSameKeyIsTheSameTaskAndAnotherRequestWithItIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		ask := func(payload string) durable.Accepted {
			return n.Accept(t.Context(), []durable.Request{
				{Action: "ok", Payload: []byte(payload), Options: task.Options{Key: "k"}},
			})[0]
		}
		first, same, other := ask(`1`), ask(`1`), ask(`2`)
		if first.Refusal != nil || first.Duplicate || !same.Duplicate || same.Task.ID != first.Task.ID {
			t.Errorf("first %+v, same %+v", first, same)
		}
		if other.Refusal == nil || other.Refusal.Code != task.KeyConflict || other.Refusal.Task != first.Task.ID {
			t.Errorf("another request with the key: %+v", other)
		}
	})
}

func TestAPayloadThatIsTooLargeIsRefusedAndItsNeighboursAreNot(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		a := n.Accept(t.Context(), []durable.Request{{Action: "ok", Payload: make([]byte, task.InlineBytes+1)}, {Action: "ok"}})
		if a[0].Refusal == nil || a[0].Refusal.Code != task.PayloadTooLarge || a[1].Refusal != nil {
			t.Errorf("%+v", a)
		}
	})
}

func TestCallersShareCallsOfTheStore(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		slow := &slowStore{Store: w.store}
		w.store = slow
		n := w.node("a", func(c *durable.Config) { c.Actions = []string{} })
		var callers sync.WaitGroup
		for range 100 {
			callers.Go(func() { w.accept(n, "ok") })
		}
		callers.Wait()
		if s := n.Stats(); s.Accepted != 100 || s.AcceptCalls > 8 {
			t.Errorf("%d tasks were accepted in %d calls", s.Accepted, s.AcceptCalls)
		}
	})
}

// slowStore takes ten milliseconds for a commit.
type slowStore struct{ store.Store }

func (s *slowStore) Accept(ctx context.Context, list []task.Task) ([]store.Accepted, error) {
	<-time.After(10 * time.Millisecond)
	return s.Store.Accept(ctx, list)
}

func TestPrioritiesAreStartedEightFourOne(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.slots = 1
		n := w.node("a")
		blocker := w.accept(n, "minute", task.Options{Timeout: time.Hour})
		w.after(time.Second)
		priority := map[string]task.Priority{}
		for i := range 39 {
			p := []task.Priority{task.Low, task.Normal, task.High}[i%3]
			priority[w.accept(n, "second", task.Options{Priority: p}).ID] = p
		}
		w.finished(n, blocker.ID)
		w.after(13*time.Second - time.Millisecond)
		var got [3]int
		for _, id := range w.order()[1:] {
			got[priority[id]]++
		}
		if want := [3]int{task.Normal: 4, task.High: 8, task.Low: 1}; got != want {
			t.Errorf("of thirteen tasks %v were normal, high, low, want %v", got, want)
		}
	})
}

func TestNoMoreRunOfAQueueThanTheNodeAllows(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a", func(c *durable.Config) {
			c.Queues = map[string]durable.QueueRule{"mail": {Running: 1}, "*": {Running: 2}}
		})
		start := time.Now()
		for _, queue := range []string{"mail", "other"} {
			for range 4 {
				w.accept(n, "second", task.Options{Queue: queue})
			}
		}
		running := map[string]int64{"mail": 1, "other": 2}
		for range 2 {
			w.after(500 * time.Millisecond)
			list, refusal := n.Queues(t.Context())
			for _, q := range list {
				if q.Running > running[q.Name] || refusal != nil {
					t.Errorf("%d of queue %s run, %d are allowed (%v)", q.Running, q.Name, running[q.Name], refusal)
				}
			}
		}
		for _, queue := range []string{"mail", "other"} {
			page, _ := n.List(t.Context(), store.Query{Queue: queue, Limit: 10})
			var last time.Time
			for _, one := range page.Tasks {
				if at := w.finished(n, one.ID).FinishedAt; at.After(last) {
					last = at
				}
			}
			if took, want := last.Sub(start), time.Duration(4/running[queue])*time.Second; took != want {
				t.Errorf("queue %s took %s, want %s", queue, took, want)
			}
		}
	})
}

func TestAPausedQueueRestsAndGoesOnAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		w.finished(n, w.accept(n, "ok", task.Options{Queue: "q"}).ID)
		if refusal := n.Pause(t.Context(), "q", true); refusal != nil {
			t.Fatal(refusal)
		}
		id := w.accept(n, "ok", task.Options{Queue: "q"}).ID
		w.after(time.Hour + 1234*time.Millisecond)
		w.wantState(w.get(id), "queued", 0)
		resumed := time.Now()
		if refusal := n.Pause(t.Context(), "q", false); refusal != nil {
			t.Fatal(refusal)
		}
		if late := w.finished(n, id).StartedAt.Sub(resumed).Round(time.Millisecond); late > 0 {
			t.Errorf("it started %s after the queue was resumed", late)
		}
	})
}

func TestAWaiterGetsTheEndOfATaskOnAnotherNode(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a := w.node("a", func(c *durable.Config) { c.Actions = []string{} })
		b := w.node("b")
		id := w.accept(a, "second").ID
		start := time.Now()
		done := w.finished(a, id)
		w.wantState(done, "done", 1)
		if done.Node != "b" || time.Since(start) != time.Second {
			t.Errorf("it ran on %s, and the waiter was notified after %s", done.Node, time.Since(start))
		}
		_ = b
	})
}

func TestAWaiterIsAnsweredWithinASecondIfTheEventIsLost(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a := w.node("a", func(c *durable.Config) { c.Actions = []string{} })
		w.hub = durable.NewHub() // b's events do not reach a
		w.node("b")
		id := w.accept(a, "ok").ID
		w.finished(a, id)
		if late := time.Since(w.get(id).FinishedAt); late > time.Second {
			t.Errorf("a was notified after %s", late)
		}
	})
}

func TestAWaitWhoseTimeIsOverGivesTheTaskAsItStands(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		id := w.accept(n, "minute").ID
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		stands, refusal := n.Wait(ctx, id)
		if refusal != nil || stands.State != task.Running || stands.Attempt != 1 {
			t.Errorf("%+v, %v", stands, refusal)
		}
		if _, refusal := n.Wait(t.Context(), "01J00000000000000000000000"); refusal == nil || refusal.Code != task.NotFound {
			t.Errorf("a wait for nothing: %v", refusal)
		}
	})
}

func TestWaitsAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a", func(c *durable.Config) { c.Waits = 1 })
		id := w.accept(n, "minute").ID
		go func() { _, _ = n.Wait(t.Context(), id) }()
		w.after(time.Second)
		if _, refusal := n.Wait(t.Context(), id); refusal == nil || refusal.Code != task.Overloaded {
			t.Errorf("a second wait: %v", refusal)
		}
		w.after(time.Minute)
		if _, refusal := n.Wait(t.Context(), id); refusal != nil || n.Stats().Waiting != 0 {
			t.Errorf("a wait later: %v, %d wait", refusal, n.Stats().Waiting)
		}
	})
}

func TestAWatchTellsTheHistoryThenWhatComesThenTheEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		id := w.accept(n, "third").ID
		w.after(1500 * time.Millisecond)
		watch := func(after int) (got string) {
			for event, refusal := range n.Watch(t.Context(), id, after) {
				if refusal != nil {
					t.Fatal(refusal)
				}
				got += fmt.Sprintf("%d%c ", event.Entry.Seq, event.Entry.State[0])
				if event.Final != nil {
					got += "end"
				}
			}
			return got
		}
		if got := watch(2); got != "3s 4q 5r 6s 7q 8r 9d end" {
			t.Errorf("watched from 2: %s", got)
		}
		if got := watch(9); got != "9d end" {
			t.Errorf("watched from the end: %s", got)
		}
		id = w.accept(n, "second").ID
		if got := watch(99); got != "3d end" {
			t.Errorf("watched from beyond the end: %s", got)
		}
		for _, refusal := range n.Watch(t.Context(), "nothing", 0) {
			if refusal == nil || refusal.Code != task.NotFound {
				t.Errorf("watched nothing: %v", refusal)
			}
		}
	})
}

func TestProgressIsSentTenTimesASecondAndStored(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		n := w.node("a")
		id := w.accept(n, "tell").ID
		reports, last := 0, -1.0
		for event, refusal := range n.Watch(t.Context(), id, 0) {
			if refusal != nil {
				t.Fatal(refusal)
			}
			if p := event.Progress; p != nil {
				if p.Percent <= last || p.Message != "on it" || event.Entry.Attempt != 1 {
					t.Errorf("after %g percent came %+v of attempt %d", last, p, event.Entry.Attempt)
				}
				reports, last = reports+1, p.Percent
			}
		}
		if reports < 8 || reports > 11 {
			t.Errorf("%d reports in a second", reports)
		}
		if p := w.get(id).Progress; p.Percent != 99 {
			t.Errorf("the last report is not kept, but %+v", p)
		}
	})
}
