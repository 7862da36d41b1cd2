package storetest

import (
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

func cancel() sentences {
	return sentences{
		"a task that does not run is cancelled at once, for good": func(f *fixture) {
			for _, in := range []time.Duration{0, time.Minute} {
				t := f.accept(f.in(in))
				answer := f.cancel(t)
				f.want("answer", []any{answer.ID, answer.Made, answer.State, answer.Task.State}, []any{t.ID, true, task.Cancelled, task.Cancelled})
				f.want("promoted", len(f.after(time.Minute).Promoted), 0)
				f.want("claimed", len(f.claim())+len(f.claim(only(t.ID))), 0)
				f.state(t, task.Cancelled)
			}
		},
		"a running task is marked once, and goes on": func(f *fixture) {
			t := f.start()
			answer := f.cancel(t)
			f.want("answer", []any{answer.Made, answer.State, answer.Task.Cancelling}, []any{true, task.Running, true})
			again := f.cancel(t)
			f.want("repeated", []any{again.Made, again.State, again.Task.Cancelling}, []any{false, task.Running, true})
			f.want("history", len(f.get(t).History), 2)
		},
		"what is to stop ends cancelled, whatever its attempt says but success": func(f *fixture) {
			for _, c := range []task.Change{task.Fail, task.Again, task.Release, task.Crash, task.Cancel} {
				t := f.start()
				f.cancel(t)
				f.outcome(store.Outcome{ID: t.ID, Attempt: 1, Change: c, Code: task.TimedOut, Error: "no", RunAt: f.clock.Now()})
				got := f.state(t, task.Cancelled)
				f.want("rest", []any{got.Code, got.Error, got.Cancelling}, []any{task.Code(""), "", false})
			}
		},
		"what is to stop is done if it succeeds first": func(f *fixture) {
			t := f.start()
			f.cancel(t)
			f.end(t, task.Succeed)
			f.want("cancelling", f.state(t, task.Done).Cancelling, false)
		},
		"what is to stop is cancelled when its node dies": func(f *fixture) {
			t := f.start()
			f.cancel(t)
			got := f.dies()
			f.want("tended", [][]string{ids(got.Cancelled), ids(got.Reaped)}, [][]string{{t.ID}, {}})
			f.state(t, task.Cancelled)
			f.want("late success", f.end(t, task.Succeed).Stale, true)
			recovered := f.start()
			f.cancel(recovered)
			must[store.Tended](f)(f.Recover(f.Context(), "n1"))
			f.state(recovered, task.Cancelled)
		},
		"the error of an attempt before is no error of a cancelled task": func(f *fixture) {
			t := f.start()
			f.outcome(store.Outcome{ID: t.ID, Attempt: 1, Change: task.Again, Error: "no", RunAt: f.clock.Now().Add(time.Hour)})
			f.cancel(t)
			f.want("error", f.get(t).Error, "")
		},
		"a batch tells of each what became of it": func(f *fixture) {
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
		"a finished task is queued again: another generation, the attempt goes on": func(f *fixture) {
			for _, c := range []task.Change{task.Succeed, task.Fail, task.Cancel} {
				t := f.start()
				f.outcome(store.Outcome{ID: t.ID, Attempt: 1, Change: c, Result: task.Body{Inline: []byte("1")}, Error: "no"})
				answer := f.retry(t)
				f.want("answer", []any{answer.Made, answer.State, answer.Task.Generation}, []any{true, task.Queued, 1})
				got := f.get(t)
				f.want("counters", []int{got.Attempt, got.Failures, got.Crashes}, []int{1, 0, 0})
				f.want("rest", []any{got.Result.Inline, got.Code, got.Error, got.FinishedAt.IsZero()},
					[]any{[]byte(nil), task.Code(""), "", true})
				f.want("attempt", f.take().Attempt, 2)
			}
		},
		"what does not rest is not retried": func(f *fixture) {
			for _, t := range []task.Task{f.accept(f.in(time.Hour)), f.start(), f.accept()} {
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
		"the outcome of the generation before is stale": func(f *fixture) {
			t := f.start()
			f.end(t, task.Fail)
			f.retry(t)
			f.want("queued", f.end(t, task.Succeed).Stale, true)
			f.take()
			f.want("running", f.end(t, task.Succeed).Stale, true)
		},
		"a full queue has room for what is there already": func(f *fixture) {
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
