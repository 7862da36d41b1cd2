package storetest

import (
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// list returns the ids of the tasks in a state.
func (f *fixture) list(s task.State) []string {
	f.Helper()
	return ids(must[store.Page](f)(f.List(f.Context(), store.Query{State: s, Limit: 100})).Tasks)
}

// giveBack releases the claim of a task that was not entered.
func (f *fixture) giveBack(t task.Task) store.Recorded {
	f.Helper()
	return f.outcome(store.Outcome{ID: t.ID, Fence: t.Fence, Change: task.Release, Unentered: true})
}

// reserved is about tasks that are claimed and not entered.
func reserved() sentences {
	return sentences{
		"a reserved task is queued in every answer": func(f *fixture) {
			f.accept()
			t := f.reserve()
			got := f.get(t)
			f.want("task", []any{got.State, got.Attempt, got.Node, len(got.History)}, []any{task.Queued, 0, "", 1})
			f.want("queued", f.list(task.Queued), []string{t.ID})
			f.want("running", f.list(task.Running), []string{})
			q := f.queue("default")
			f.want("counts", []int64{q.Queued, q.Running}, []int64{1, 0})
			f.enter(t)
			f.want("running", f.list(task.Running), []string{t.ID})
			f.want("queued", f.list(task.Queued), []string{})
			q = f.queue("default")
			f.want("counts", []int64{q.Queued, q.Running}, []int64{0, 1})
		},
		"a reserved task is marked by a cancellation and cannot be retried": func(f *fixture) {
			f.accept()
			t := f.reserve()
			answer := f.cancel(t)
			f.want("cancel", []any{answer.Made, answer.State, answer.Task.Cancelling}, []any{true, task.Queued, true})
			again := f.cancel(t)
			f.want("again", []any{again.Made, again.State, again.Task.Cancelling}, []any{false, task.Queued, true})
			f.want("renewed", f.renew("n1", store.Held{ID: t.ID, Fence: 1}), []store.Renewed{{Cancelling: true}})
			retried := f.retry(t)
			f.want("retry", []any{retried.Made, retried.State}, []any{false, task.Queued})
			f.giveBack(t)
			f.want("attempt", f.state(t, task.Cancelled).Attempt, 0)
			f.want("timeline", timeline(f.get(t)), "queued/0 cancelled/0")
		},
		"a task reserved by a process that died counts as attempted, since it may have been entered": func(f *fixture) {
			f.accept()
			t := f.reserve()
			f.want("reaped", ids(f.dies().Reaped), []string{t.ID})
			got := f.state(t, task.Queued)
			f.want("task", []any{got.Attempt, got.Suspect, got.Reserved}, []any{1, true, ""})
			f.want("timeline", timeline(got), "queued/0 running/1@n1 queued/1@n1")
			f.reserve(isolated)
			must[store.Maintained](f)(f.Recover(f.Context(), "n1", nil))
			f.want("attempt", f.get(t).Attempt, 2)
			f.sameCounts()
		},
		"a reserved task whose lease ends while its process is alive is queued unchanged": func(f *fixture) {
			f.beat(n1())
			f.accept(f.within(time.Hour))
			t := f.reserve()
			f.want("reaped", ids(f.lives(n1()).Reaped), []string{t.ID})
			f.reaped(t, false, 0)
			f.want("timeline", timeline(f.get(t)), "queued/0")
			f.want("expired", len(f.after(time.Hour).Expired), 1)
			f.sameCounts()
		},
		"a reserved task that was asked to stop ends cancelled when its lease ends": func(f *fixture) {
			f.beat(n1())
			f.accept()
			t := f.reserve()
			f.cancel(t)
			f.want("cancelled", ids(f.lives(n1()).Cancelled), []string{t.ID})
			f.want("timeline", timeline(f.get(t)), "queued/0 cancelled/0")
			f.sameCounts()
		},
		"a reserved suspect makes other suspects wait, like a running one": func(f *fixture) {
			suspect(f, 2)
			t := f.reserve(isolated)
			f.want("another", len(f.claim(isolated)), 0)
			f.giveBack(t)
			f.want("suspect", f.get(t).Suspect, true)
			f.want("again", f.reserve(isolated).ID, t.ID)
		},
	}
}

// unentered is about claims that end before the action is entered.
func unentered() sentences {
	return sentences{
		"a claim that is given back leaves no trace": func(f *fixture) {
			before := f.accept(f.within(time.Hour), f.in(-time.Second))
			before = f.get(before)
			for fence := 1; fence < 4; fence++ {
				answer := f.giveBack(f.reserve())
				f.want("answer", []any{answer.Stale, answer.Task.State, answer.Task.Fence, answer.Task.Reserved}, []any{false, task.Queued, fence, ""})
			}
			after := f.get(before)
			before.Fence = 3
			f.want("task", after, before)
			f.sameCounts()
		},
		"a claim that was given back does not keep the task from expiring": func(f *fixture) {
			t := f.accept(f.within(time.Minute))
			f.giveBack(f.reserve())
			f.want("expired", ids(f.after(time.Minute).Expired), []string{t.ID})
		},
		"what has entered once never expires, however often it is given back later": func(f *fixture) {
			f.accept(f.within(time.Minute))
			f.end(f.take(), task.Release)
			f.giveBack(f.reserve())
			f.want("expired", len(f.after(time.Hour).Expired), 0)
			f.reserve()
		},
		"a node can expire a task that it has not entered": func(f *fixture) {
			f.accept(f.within(time.Minute))
			t := f.reserve()
			f.clock.Advance(time.Minute)
			answer := f.outcome(store.Outcome{ID: t.ID, Fence: 1, Change: task.Expire, Unentered: true})
			f.want("answer", []any{answer.Task.State, answer.Task.Code}, []any{task.Failed, task.Expired})
			got := f.state(t, task.Failed)
			f.want("task", []any{got.Code, got.Error != "", got.Attempt, got.History[1].Error == got.Error}, []any{task.Expired, true, 0, true})
			f.want("timeline", timeline(got), "queued/0 failed/0")
			f.sameCounts()
		},
		"what has not expired by the clock of the store is given back": func(f *fixture) {
			f.accept(f.within(time.Minute))
			t := f.reserve()
			f.clock.Advance(time.Minute - time.Second)
			expire := store.Outcome{ID: t.ID, Fence: 1, Change: task.Expire, Unentered: true}
			f.want("answer", f.outcome(expire).Task.State, task.Queued)
			f.want("timeline", timeline(f.get(t)), "queued/0")
			f.sameCounts()
			f.reserve()
			f.cancel(t)
			expire.Fence = 2
			f.outcome(expire)
			f.want("cancelled", timeline(f.get(t)), "queued/0 cancelled/0")
			f.sameCounts()
		},
		"a node can cancel a task that it has not entered": func(f *fixture) {
			f.accept()
			t := f.reserve()
			f.outcome(store.Outcome{ID: t.ID, Fence: 1, Change: task.Cancel, Unentered: true})
			f.want("timeline", timeline(f.get(t)), "queued/0 cancelled/0")
			f.sameCounts()
		},
		"unentered is ignored for a task that the store knows to be entered": func(f *fixture) {
			for _, c := range []task.Change{task.Release, task.Expire} {
				t := f.start()
				f.outcome(store.Outcome{ID: t.ID, Fence: 1, Change: c, Unentered: true})
				f.want("timeline", timeline(f.get(t)), "queued/0 running/1@n1 queued/1@n1")
				f.end(f.take(), task.Succeed)
			}
		},
		"a task that was not entered can have no result, failure or crash": func(f *fixture) {
			f.accept()
			t := f.reserve()
			for _, c := range []task.Change{task.Succeed, task.Fail, task.Again, task.Crash} {
				_, err := f.Record(f.Context(), []store.Outcome{{ID: t.ID, Fence: 1, Change: c, Unentered: true}})
				if task.CodeOf(err) != task.Internal {
					f.Errorf("%s of a task that was not entered: %v", c, err)
				}
			}
		},
		"a report for an earlier claim is stale": func(f *fixture) {
			f.accept()
			t := f.reserve()
			f.giveBack(t)
			f.reserve()
			f.want("given back", f.giveBack(t).Stale, true)
			f.want("entered", must[[]store.Recorded](f)(f.Enter(f.Context(), []store.Entered{{ID: t.ID, Fence: 1}}))[0].Stale, true)
			f.want("fence", f.get(t).Reserved, "n1")
		},
	}
}

// entered is about when and how a task becomes running.
func entered() sentences {
	return sentences{
		"an outcome enters a task that was not entered yet, at the right time": func(f *fixture) {
			ends := map[task.Change]string{
				task.Succeed: "done/1@n1", task.Fail: "failed/1@n1", task.Again: "scheduled/1@n1",
				task.Release: "queued/1@n1", task.Crash: "failed/1@n1", task.Cancel: "cancelled/1@n1",
			}
			for c, last := range ends {
				f.accept()
				t := f.reserve()
				f.clock.Advance(10 * time.Second)
				o := store.Outcome{ID: t.ID, Fence: 1, Change: c, EnteredAt: time.Now().Add(-4 * time.Second)}
				if c == task.Again {
					o.Delay = time.Hour
				}
				f.outcome(o)
				got := f.get(t)
				f.want("timeline", timeline(got), "queued/0 running/1@n1 "+last)
				f.want("flaw", flaw(got), "")
				f.want("started", got.StartedAt, got.History[1].At)
				ran := got.History[2].At.Sub(got.StartedAt)
				f.want("time that it ran", ran >= 4*time.Second && ran < 5*time.Second, true)
				f.cancel(t)
			}
			f.sameCounts()
		},
		"an entered task has been running since then, and cannot be entered twice": func(f *fixture) {
			f.accept()
			t := f.reserve()
			f.clock.Advance(10 * time.Second)
			enter := []store.Entered{{ID: t.ID, Fence: 1, At: time.Now().Add(-4 * time.Second)}, {ID: ulid(99), Fence: 1}, {ID: t.ID, Fence: 2}}
			got := must[[]store.Recorded](f)(f.Enter(f.Context(), enter))
			f.want("stale", []bool{got[0].Stale, got[1].Stale, got[2].Stale}, []bool{false, true, true})
			f.want("answer", []any{got[0].Task.State, got[0].Task.Attempt, got[0].Task.Node, len(got[0].Task.History)}, []any{task.Running, 1, "n1", 1})
			since := got[0].Task.StartedAt.Sub(t.CreatedAt)
			f.want("since", since > 5*time.Second && since < 7*time.Second, true)
			f.want("again", must[[]store.Recorded](f)(f.Enter(f.Context(), enter))[0].Stale, true)
			f.end(t, task.Succeed)
			f.want("timeline", timeline(f.get(t)), "queued/0 running/1@n1 done/1@n1")
			f.sameCounts()
		},
		"a task is never entered before it was claimed": func(f *fixture) {
			f.accept()
			t := f.reserve()
			f.outcome(store.Outcome{ID: t.ID, Fence: 1, Change: task.Succeed, EnteredAt: time.Now().Add(-time.Hour)})
			f.want("flaw", flaw(f.get(t)), "")
		},
		"a node may have a name of any length": func(f *fixture) {
			for _, n := range []int{1, 127, 128, 300} {
				name := string(make([]rune, 0, n))
				for len(name) < n {
					name += "ñ"
				}
				name = name[:n-n%2] + "x"[:n%2]
				f.accept()
				t := f.reserve(node(name))
				f.outcome(store.Outcome{ID: t.ID, Fence: 1, Change: task.Fail})
				f.want("node", f.get(t).Node, name)
				f.accept()
				t = f.reserve(node(name))
				must[store.Maintained](f)(f.Recover(f.Context(), name, nil))
				f.want("node", f.get(t).History[1].Node, name)
				f.cancel(t)
			}
		},
		"renewing a lease does not enter the action": func(f *fixture) {
			f.accept()
			t := f.reserve()
			f.clock.Advance(10 * time.Second)
			f.want("renewed", f.renew("n1", store.Held{ID: t.ID, Fence: 1}), []store.Renewed{{}})
			f.want("other node", f.renew("n2", store.Held{ID: t.ID, Fence: 1}), []store.Renewed{{Lost: true}})
			f.want("reaped", len(f.after(10*time.Second).Reaped), 0)
			f.want("state", f.state(t, task.Queued).Reserved, "n1")
		},
	}
}
