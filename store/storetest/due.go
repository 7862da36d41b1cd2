package storetest

import (
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

func schedule() sentences {
	return sentences{
		"a scheduled task cannot be claimed before it is promoted, and not promoted before its time": func(f *fixture) {
			t := f.accept(f.in(time.Minute))
			f.want("promoted", len(f.after(59*time.Second).Promoted), 0)
			f.want("claimed", len(f.claim())+len(f.claim(only(t.ID))), 0)
			f.want("promoted", ids(f.after(time.Second).Promoted), []string{t.ID})
			f.want("claimed", len(f.claim()), 1)
		},
		"next is when the next task of any kind is due": func(f *fixture) {
			f.want("nothing", f.after(0).Next, time.Time{})
			f.accept()
			f.want("a queued task", f.after(0).Next, time.Time{})
			kept := f.end(f.start(), task.Succeed).Task
			if next, gone := f.after(0).Next, kept.FinishedAt.Add(time.Hour); next.Before(gone) || next.After(gone.Add(store.DeleteGrace)) {
				f.Errorf("kept until %s, but next is %s", gone, next)
			}
			timed := f.accept(f.in(50 * time.Minute))
			f.want("scheduled", f.after(0).Next, timed.RunAt)
			expires := f.accept(f.within(40 * time.Minute))
			f.want("expires", f.after(0).Next, expires.Expires)
			f.want("leased", f.after(0).Next, expires.Expires)
			running := f.start()
			f.want("leased", f.after(0).Next, running.Lease)
			f.want("expires again", f.after(20*time.Second).Next, expires.Expires)
		},
	}
}

// spans is about times that follow from a span of time.
func spans() sentences {
	return sentences{
		"a delay counts from the accept, by the store's clock": func(f *fixture) {
			t := f.accept(delayed(time.Minute))
			f.want("run_at", []any{t.State, t.RunAt, t.Delay}, []any{task.Scheduled, t.CreatedAt.Add(time.Minute), time.Duration(0)})
			f.want("kept", f.get(t).RunAt, t.RunAt)
			f.want("promoted", len(f.after(59*time.Second).Promoted), 0)
			f.want("promoted", ids(f.after(time.Second).Promoted), []string{t.ID})
		},
		"maintenance returns the store's time, so that nobody needs another clock": func(f *fixture) {
			t := f.accept(delayed(time.Minute))
			maintained := f.after(10 * time.Second)
			f.want("until the next", maintained.Next.Sub(maintained.Now) <= 50*time.Second, true)
			f.want("since the accept", maintained.Now.Sub(t.CreatedAt) >= 10*time.Second, true)
		},
		"the age of the oldest task follows the store's clock": func(f *fixture) {
			f.want("none", f.start().State, task.Running)
			f.want("age", f.queue("default").OldestAge, time.Duration(0))
			f.accept()
			f.after(time.Minute)
			age := f.queue("default").OldestAge
			f.want("age", age >= time.Minute && age < 2*time.Minute, true)
		},
		"when the clock is set, running tasks keep their leases": func(f *fixture) {
			for _, by := range f.jumps() {
				t := f.start()
				if err := f.Beat(f.Context(), store.Node{Name: "n1"}); err != nil {
					f.Fatal(err)
				}
				f.clock.Jump(by)
				f.want("alive", len(must[[]store.Node](f)(f.Nodes(f.Context()))), 1)
				f.want("reaped", len(f.after(14*time.Second).Reaped), 0)
				f.want("lost", must[[]store.Renewed](f)(f.Renew(f.Context(), "n1", []store.Held{{ID: t.ID, Fence: t.Fence}}))[0].Lost, false)
				f.want("reaped", ids(f.after(task.LeaseTime).Reaped), []string{t.ID})
				f.end(f.take(isolated), task.Succeed)
			}
		},
		"when the clock is set, delays and backoffs keep their lengths": func(f *fixture) {
			for _, by := range f.jumps() {
				again := f.start()
				f.outcome(store.Outcome{ID: again.ID, Fence: 1, Change: task.Again, Delay: time.Minute})
				t := f.accept(delayed(time.Minute))
				f.clock.Jump(by)
				f.want("promoted", len(f.after(59*time.Second).Promoted), 0)
				f.want("promoted", len(f.after(time.Second).Promoted), 2)
				f.want("moved", f.get(t).RunAt.Sub(t.RunAt).Round(time.Minute), by)
				f.end(f.take(), task.Succeed)
				f.end(f.take(), task.Succeed)
			}
		},
		"when the clock is set, a task still expires after its span of time": func(f *fixture) {
			for _, by := range f.jumps() {
				queued, both := f.accept(f.within(time.Minute)), f.accept(f.within(time.Minute), delayed(30*time.Second))
				f.clock.Jump(by)
				f.want("expired", len(f.after(59*time.Second).Expired), 0)
				f.want("expired", ids(f.after(time.Second).Expired), []string{queued.ID, both.ID})
			}
		},
		"when the clock is set, a task with a start time still starts at that time": func(f *fixture) {
			f.jumps()
			t := f.accept(f.in(2 * time.Hour))
			f.clock.Jump(time.Hour)
			f.want("promoted", len(f.after(59*time.Minute).Promoted), 0)
			f.want("promoted", ids(f.after(time.Minute).Promoted), []string{t.ID})
			f.want("run_at", f.get(t).RunAt, t.RunAt)
		},
	}
}

// jumps returns how far clocks are set. It skips the test if the clock cannot be set.
func (f *fixture) jumps() []time.Duration {
	if f.clock.Jump == nil {
		f.Skip("this store uses the clock of another machine")
	}
	return []time.Duration{time.Hour, -time.Hour}
}

// delayed makes a task start d after its accept.
func delayed(d time.Duration) edit { return func(t *task.Task) { t.Delay = d } }

func expire() sentences {
	return sentences{
		"a task that does not start in time fails as expired": func(f *fixture) {
			queued, timed := f.accept(f.within(time.Minute)), f.accept(f.in(time.Hour), f.within(time.Minute))
			f.want("expired", len(f.after(59*time.Second).Expired), 0)
			f.want("expired", ids(f.after(time.Second).Expired), []string{queued.ID, timed.ID})
			got := f.state(queued, task.Failed)
			f.want("task", []any{got.Code, got.Error != "", got.Attempt}, []any{task.Expired, true, 0})
			f.state(timed, task.Failed)
		},
		"a task is not claimed after its time, even before maintenance fails it": func(f *fixture) {
			t := f.accept(f.within(time.Minute))
			f.clock.Advance(time.Minute)
			f.want("claimed", len(f.claim())+len(f.claim(only(t.ID))), 0)
		},
		"a task that is due to start and also expired fails as expired": func(f *fixture) {
			f.accept(f.in(time.Second), f.within(time.Minute))
			got := f.after(time.Hour)
			f.want("expired, promoted", []int{len(got.Expired), len(got.Promoted)}, []int{1, 0})
		},
		"a task that has started never expires": func(f *fixture) {
			released, again, reaped := f.start(f.within(time.Minute)), f.start(f.within(time.Minute)), f.start(f.within(time.Minute))
			f.end(released, task.Release)
			f.outcome(store.Outcome{ID: again.ID, Fence: 1, Change: task.Again})
			f.want("expired", len(f.after(time.Hour).Expired), 0)
			f.want("claimed", len(f.claim()), 2)
			f.want("suspect", ids(f.claim(isolated)), []string{reaped.ID})
		},
		"an expired task can be retried": func(f *fixture) {
			t := f.accept(f.within(time.Minute))
			f.after(time.Minute)
			f.retry(t)
			f.want("expired", len(f.after(time.Second).Expired), 0)
			f.want("claimed", len(f.claim()), 1)
		},
	}
}

func keep() sentences {
	return sentences{
		"a failed task is kept for keep_failed, however it failed": func(f *fixture) {
			long := func(t *task.Task) { t.Keep, t.KeepFailed = time.Minute, 8*24*time.Hour }
			done, failed := f.start(long), f.start(long)
			waits := f.accept(long)
			f.end(done, task.Succeed)
			f.end(failed, task.Fail)
			f.cancel(waits)
			expired := f.accept(long, f.within(time.Minute))
			crashed := f.start(long)
			f.outcome(store.Outcome{ID: crashed.ID, Fence: 1, Change: task.Crash, Error: "no"})
			again := f.start(long, func(t *task.Task) { t.MaxAttempts = 1 })
			f.outcome(store.Outcome{ID: again.ID, Fence: 1, Change: task.Again, Error: "no"})
			f.want("deleted", sorted(ids(f.after(time.Minute+store.DeleteGrace).Deleted)), sorted([]string{done.ID, waits.ID}))
			f.want("deleted", len(f.after(7*24*time.Hour).Deleted), 0)
			f.want("deleted", sorted(ids(f.after(2*24*time.Hour).Deleted)), sorted([]string{failed.ID, expired.ID, crashed.ID, again.ID}))
		},
		"a failed task may be kept for a shorter time than others": func(f *fixture) {
			short := func(t *task.Task) { t.Keep, t.KeepFailed = time.Hour, 0 }
			done, failed := f.start(short), f.start(short)
			f.end(done, task.Succeed)
			f.end(failed, task.Fail)
			f.want("deleted", ids(f.after(time.Minute).Deleted), []string{failed.ID})
		},
		"a failed task that is retried keeps its keep times": func(f *fixture) {
			t := f.start(func(t *task.Task) { t.Keep, t.KeepFailed = time.Minute, time.Hour })
			f.end(t, task.Fail)
			f.retry(t)
			f.end(f.take(), task.Fail)
			f.want("deleted", len(f.after(59*time.Minute).Deleted), 0)
			f.want("deleted", ids(f.after(2*time.Minute).Deleted), []string{t.ID})
		},
		"a finished task is kept for its time and then deleted with its blobs": func(f *fixture) {
			t := f.start(withKey("k"), func(t *task.Task) { t.Payload = task.Body{Size: 9, SHA256: "ab"} })
			f.outcome(store.Outcome{ID: t.ID, Fence: 1, Change: task.Succeed, Result: task.Body{Size: 8, SHA256: "cd"}})
			f.want("deleted", len(f.after(59*time.Minute).Deleted), 0)
			f.state(t, task.Done)
			deleted := f.after(time.Minute).Deleted
			f.want("deleted", ids(deleted), []string{t.ID})
			f.want("blobs", []task.Body{deleted[0].Payload, deleted[0].Result}, []task.Body{{Size: 9, SHA256: "ab"}, {Size: 8, SHA256: "cd"}})
			f.want("task", f.get(t), task.Task{})
			f.want("list", len(must[store.Page](f)(f.List(f.Context(), store.Query{Limit: 9})).Tasks), 0)
			f.want("cancel and retry", []any{f.cancel(t), f.retry(t)}, []any{store.Changed{ID: t.ID}, store.Changed{ID: t.ID}})
		},
		"tasks of each final state are kept equally long": func(f *fixture) {
			for _, s := range []task.State{task.Done, task.Failed, task.Cancelled} {
				f.inState(s, task.Claim)
			}
			f.want("deleted", len(f.after(time.Hour).Deleted), 3)
		},
		"an unfinished task is kept for ever": func(f *fixture) {
			for _, s := range []task.State{task.Scheduled, task.Queued, task.Running} {
				f.inState(s, task.Claim)
			}
			f.want("deleted", len(f.after(1000*time.Hour).Deleted)+len(f.after(0).Deleted), 0)
		},
		"the keep of a retried task begins with its second end": func(f *fixture) {
			t := f.start()
			f.end(t, task.Fail)
			f.clock.Advance(50 * time.Minute)
			f.retry(t)
			f.end(f.take(), task.Succeed)
			f.want("deleted", len(f.after(50*time.Minute).Deleted), 0)
			f.want("deleted", len(f.after(10*time.Minute).Deleted), 1)
		},
	}
}

func maintenance() sentences {
	return sentences{
		"at most limit of each kind are done, longest due first, and more reports whether there are others": func(f *fixture) {
			var want []string
			for n := range 5 {
				want = append([]string{f.accept(f.in(time.Duration(10-n) * time.Second)).ID}, want...)
			}
			f.clock.Advance(time.Minute)
			var got []string
			for _, more := range []bool{true, true, false} {
				maintained := must[store.Maintained](f)(f.Maintain(f.Context(), 2))
				got = append(got, ids(maintained.Promoted)...)
				f.want("more", maintained.More, more)
			}
			f.want("order", got, want)
		},
		"the limit applies to each kind separately": func(f *fixture) {
			f.start()
			f.end(f.start(), task.Succeed)
			f.accept(f.in(time.Minute))
			f.accept(f.within(time.Minute))
			f.clock.Advance(time.Hour)
			got := must[store.Maintained](f)(f.Maintain(f.Context(), 1))
			f.want("tended", []int{len(got.Expired), len(got.Promoted), len(got.Reaped), len(got.Deleted)}, []int{1, 1, 1, 1})
		},
		"repeating the maintenance does nothing": func(f *fixture) {
			f.start()
			f.accept(f.in(time.Second))
			f.after(time.Minute)
			got := f.after(0)
			f.want("tended", len(got.Promoted)+len(got.Reaped)+len(got.Crashed), 0)
		},
	}
}
