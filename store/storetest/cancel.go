package storetest

import (
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

func cancel() sentences {
	return sentences{
		"a task that does not run is cancelled at once": func(f *fixture) {
			for _, in := range []time.Duration{0, time.Minute} {
				t := f.accept(f.in(in))
				answer := f.cancel(t)
				f.want("answer", []any{answer.ID, answer.Made, answer.State, answer.Task.State}, []any{t.ID, true, task.Cancelled, task.Cancelled})
				f.want("promoted", len(f.after(time.Minute).Promoted), 0)
				f.want("claimed", len(f.claim())+len(f.claim(only(t.ID))), 0)
				f.state(t, task.Cancelled)
			}
		},
		"a running task is marked once and continues": func(f *fixture) {
			t := f.start()
			answer := f.cancel(t)
			f.want("answer", []any{answer.Made, answer.State, answer.Task.Cancelling}, []any{true, task.Running, true})
			again := f.cancel(t)
			f.want("repeated", []any{again.Made, again.State, again.Task.Cancelling}, []any{false, task.Running, true})
			f.want("history", len(f.get(t).History), 2)
		},
		"a task that was asked to stop ends cancelled unless it succeeds": func(f *fixture) {
			for _, c := range []task.Change{task.Fail, task.Again, task.Release, task.Crash, task.Cancel} {
				t := f.start()
				f.cancel(t)
				f.outcome(store.Outcome{ID: t.ID, Fence: 1, Change: c, Code: task.TimedOut, Error: "no"})
				got := f.state(t, task.Cancelled)
				f.want("rest", []any{got.Code, got.Error, got.Cancelling}, []any{task.Code(""), "", false})
			}
		},
		"a task that was asked to stop is done if it succeeds first": func(f *fixture) {
			t := f.start()
			f.cancel(t)
			f.end(t, task.Succeed)
			f.want("cancelling", f.state(t, task.Done).Cancelling, false)
		},
		"a task that was asked to stop is cancelled when its node dies": func(f *fixture) {
			t := f.start()
			f.cancel(t)
			got := f.dies()
			f.want("tended", [][]string{ids(got.Cancelled), ids(got.Reaped)}, [][]string{{t.ID}, {}})
			f.state(t, task.Cancelled)
			f.want("late success", f.end(t, task.Succeed).Stale, true)
			recovered := f.start()
			f.cancel(recovered)
			must[store.Maintained](f)(f.Recover(f.Context(), "n1", nil))
			f.state(recovered, task.Cancelled)
		},
		"a cancelled task no longer holds its key": func(f *fixture) {
			waits, runs, dies := f.accept(withKey("k")), f.start(withKey("l")), f.start(withKey("m"))
			for _, t := range []task.Task{waits, runs, dies} {
				f.cancel(t)
			}
			f.want("a key of a task that is to stop", f.offer(withKey("l")).Task.ID, runs.ID)
			f.end(runs, task.Cancel)
			f.dies()
			for _, t := range []task.Task{waits, runs, dies} {
				f.state(t, task.Cancelled)
				next := f.accept(withKey(t.Key), withEcho)
				f.want("holder", f.offer(withKey(t.Key)).Task.ID, next.ID)
				f.want("key in the record", f.get(t).Key, t.Key)
			}
			f.after(time.Hour) // the cancelled ones are deleted
			f.want("holder", f.offer(withKey("k")).Duplicate, true)
		},
		"a cancelled task does not have the error of its last attempt": func(f *fixture) {
			t := f.start()
			f.outcome(store.Outcome{ID: t.ID, Fence: 1, Change: task.Again, Error: "no", Delay: time.Hour})
			f.cancel(t)
			f.want("error", f.get(t).Error, "")
		},
		"a batch has an answer for each task": func(f *fixture) {
			running, queued, done := f.start(), f.accept(), f.start()
			f.end(done, task.Succeed)
			got := must[[]store.Changed](f)(f.Cancel(f.Context(), []string{done.ID, ulid(99), queued.ID, running.ID, queued.ID}))
			var made []bool
			var states []task.State
			for _, c := range got {
				made, states = append(made, c.Made), append(states, c.State)
			}
			f.want("made", made, []bool{false, false, true, true, false})
			f.want("states", states, []task.State{task.Done, "", task.Cancelled, task.Running, task.Cancelled})
		},
	}
}

func retry() sentences {
	return sentences{
		"a retry queues a finished task in a new generation, and its attempts continue": func(f *fixture) {
			for _, c := range []task.Change{task.Succeed, task.Fail, task.Cancel} {
				t := f.start()
				f.outcome(store.Outcome{ID: t.ID, Fence: 1, Change: c, Result: task.Body{Inline: []byte("1")}, Error: "no"})
				answer := f.retry(t)
				f.want("answer", []any{answer.Made, answer.State, answer.Task.Generation}, []any{true, task.Queued, 1})
				got := f.get(t)
				f.want("counters", []int{got.Attempt, got.Failures, got.Crashes}, []int{1, 0, 0})
				f.want("rest", []any{got.Result.Inline, got.FinishedAt.IsZero()}, []any{[]byte(nil), true})
				f.want("attempt", f.take().Attempt, 2)
			}
		},
		"a retried task keeps its error until it ends again": func(f *fixture) {
			t := f.start()
			f.outcome(store.Outcome{ID: t.ID, Fence: 1, Change: task.Fail, Code: task.TimedOut, Error: "too slow"})
			seen := func(t task.Task) []any { return []any{t.State, t.Code, t.Error} }
			f.want("answer", seen(f.retry(t).Task), []any{task.Queued, task.TimedOut, "too slow"})
			f.want("queued", seen(f.get(t)), []any{task.Queued, task.TimedOut, "too slow"})
			again := f.take()
			f.want("running", seen(f.get(t)), []any{task.Running, task.TimedOut, "too slow"})
			f.end(again, task.Succeed)
			f.want("done", seen(f.get(t)), []any{task.Done, task.Code(""), ""})
			f.retry(t)
			f.want("after a success", seen(f.get(t)), []any{task.Queued, task.Code(""), ""})
		},
		"a task that waits for its next attempt has the error and the code of the last one": func(f *fixture) {
			t := f.start()
			f.outcome(store.Outcome{ID: t.ID, Fence: 1, Change: task.Again, Code: task.TimedOut, Error: "too slow", Delay: time.Hour})
			seen := func(t task.Task) []any { return []any{t.State, t.Code, t.Error} }
			f.want("scheduled", seen(f.get(t)), []any{task.Scheduled, task.TimedOut, "too slow"})
			f.want("listed", seen(must[store.Page](f)(f.List(f.Context(), store.Query{Limit: 9})).Tasks[0]), []any{task.Scheduled, task.TimedOut, "too slow"})
			f.after(time.Hour)
			f.want("queued", seen(f.get(t)), []any{task.Queued, task.TimedOut, "too slow"})
			f.outcome(store.Outcome{ID: t.ID, Fence: f.take().Attempt, Change: task.Again, Error: "no", Delay: time.Hour})
			f.want("without a code", seen(f.get(t)), []any{task.Scheduled, task.ActionFailed, "no"})
		},
		"a scheduled task is queued at once, in its generation": func(f *fixture) {
			t := f.start()
			f.outcome(store.Outcome{ID: t.ID, Fence: 1, Change: task.Again, Error: "no", Delay: time.Hour})
			answer := f.retry(t)
			f.want("answer", []any{answer.Made, answer.State, answer.Task.Generation}, []any{true, task.Queued, 0})
			got := f.get(t)
			f.want("counters", []int{got.Attempt, got.Failures, got.Generation, got.History[len(got.History)-1].Seq}, []int{1, 1, 0, 4})
			f.want("due by now", got.RunAt.After(f.clock.Now()), false)
			f.want("counts", []int64{f.queue("default").Scheduled, f.queue("default").Queued, f.queue("default").Finished}, []int64{0, 1, 0})
			f.want("attempt", f.take().Attempt, 2)
		},
		"a scheduled task that is queued at once still expires": func(f *fixture) {
			t := f.accept(f.in(time.Hour), f.within(2*time.Hour))
			f.want("made", f.retry(t).Made, true)
			f.want("too early", len(f.after(time.Hour).Expired), 0)
			f.want("expired", ids(f.after(time.Hour).Expired), []string{t.ID})
		},
		"a cancelled task is not retried while another one has its key": func(f *fixture) {
			t := f.accept(withKey("k"))
			f.cancel(t)
			next := f.accept(withKey("k"))
			for range 2 {
				answer := f.retry(t)
				f.want("answer", []any{answer.Made, answer.State, answer.KeyHolder}, []any{false, task.Cancelled, next.ID})
			}
			f.cancel(next)
			answer := f.retry(t)
			f.want("when it is free", []any{answer.Made, answer.State, answer.KeyHolder}, []any{true, task.Queued, ""})
			f.want("holder", f.offer(withKey("k")).Task.ID, t.ID)
			f.want("the other one", f.retry(next).KeyHolder, t.ID)
		},
		"of two cancelled tasks with one key, the first one retried gets the key": func(f *fixture) {
			first := f.accept(withKey("k"))
			f.cancel(first)
			second := f.accept(withKey("k"))
			f.cancel(second)
			got := must[[]store.Changed](f)(f.Retry(f.Context(), []string{first.ID, second.ID}))
			f.want("made", []bool{got[0].Made, got[1].Made}, []bool{true, false})
			f.want("holder", got[1].KeyHolder, first.ID)
		},
		"a queued or running task is not retried": func(f *fixture) {
			for _, t := range []task.Task{f.start(), f.accept()} {
				answer := f.retry(t)
				f.want("answer", []any{answer.Made, answer.State, f.get(t).Generation}, []any{false, t.State, 0})
			}
			f.want("nothing there", f.retry(task.Task{ID: ulid(99)}), store.Changed{ID: ulid(99)})
		},
		"a retried task has all its attempts again": func(f *fixture) {
			t := f.start(func(t *task.Task) { t.MaxAttempts = 1 })
			f.end(t, task.Fail)
			f.retry(t)
			again := f.take()
			f.want("failures", again.Failures, 0)
			f.end(again, task.Fail)
			f.want("failures", f.state(t, task.Failed).Failures, 1)
		},
		"an outcome of the previous generation is stale": func(f *fixture) {
			t := f.start()
			f.end(t, task.Fail)
			f.retry(t)
			f.want("queued", f.end(t, task.Succeed).Stale, true)
			f.take()
			f.want("running", f.end(t, task.Succeed).Stale, true)
		},
		"a full queue allows retries of its tasks": func(f *fixture) {
			t := f.start(inQueue("small"))
			f.end(t, task.Fail)
			for range smallBacklog {
				f.accept(inQueue("small"))
			}
			f.want("made", f.retry(t).Made, true)
			f.want("queued", f.queue("small").Queued, int64(smallBacklog+1))
		},
	}
}
