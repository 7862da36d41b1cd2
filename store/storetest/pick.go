package storetest

import (
	"slices"
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

func (f *fixture) pick(change task.Change, q store.Query) store.Picked {
	f.Helper()
	return must[store.Picked](f)(f.Pick(f.Context(), change, q))
}

func pick() sentences {
	return sentences{
		"a cancel picks unfinished tasks that were not asked to stop yet, oldest first": func(f *fixture) {
			scheduled, running, stopping, queued, done := f.accept(f.in(time.Hour)), f.start(), f.start(), f.accept(), f.start()
			f.cancel(stopping)
			f.end(done, task.Succeed)
			f.accept(inQueue("mail"))
			got := f.pick(task.Cancel, store.Query{Queue: "default", Limit: 10})
			f.want("all", got, store.Picked{IDs: ids([]task.Task{scheduled, running, queued})})
			got = f.pick(task.Cancel, store.Query{Queue: "default", Limit: 2})
			f.want("some", got, store.Picked{IDs: ids([]task.Task{scheduled, running}), More: true})
			f.want("of a state", f.pick(task.Cancel, store.Query{State: task.Running, Limit: 10}).IDs, []string{running.ID})
			f.want("of a final state", len(f.pick(task.Cancel, store.Query{State: task.Done, Limit: 10}).IDs), 0)
			f.want("of no queue", len(f.pick(task.Cancel, store.Query{Queue: "none", Limit: 10}).IDs), 0)
			f.want("of no action", len(f.pick(task.Cancel, store.Query{Action: "none", Limit: 10}).IDs), 0)
		},
		"pick filters by labels": func(f *fixture) {
			f.accept()
			t := f.accept(func(t *task.Task) { t.Meta = map[string]string{"user": "7", "of": "me"} })
			f.want("those", f.pick(task.Cancel, store.Query{Meta: map[string]string{"user": "7"}, Limit: 1}), store.Picked{IDs: []string{t.ID}})
		},
		"a retry picks failed and cancelled tasks, and others on request, in the order of their ends": func(f *fixture) {
			cancelled, failed, done, scheduled := f.accept(), f.start(), f.start(), f.accept(f.in(time.Hour))
			f.end(failed, task.Fail)
			f.clock.Advance(time.Millisecond)
			f.cancel(cancelled)
			f.end(done, task.Succeed)
			f.want("all", f.pick(task.Retry, store.Query{Limit: 10}), store.Picked{IDs: []string{failed.ID, cancelled.ID}})
			for _, t := range []task.Task{done, scheduled, cancelled} {
				state := f.get(t).State
				f.want(string(state), f.pick(task.Retry, store.Query{State: state, Limit: 10}).IDs, []string{t.ID})
			}
			f.want("queued", len(f.pick(task.Retry, store.Query{State: task.Queued, Limit: 10}).IDs), 0)
		},
		"a retry picks the oldest first, however long each task is kept": func(f *fixture) {
			for _, keeps := range [][2]time.Duration{{time.Hour, 9 * time.Hour}, {9 * time.Hour, time.Hour}} {
				queue := keeps[0].String()
				kept := func(t *task.Task) { t.Queue, t.Keep, t.KeepFailed = queue, keeps[0], keeps[1] }
				var tasks []task.Task
				for i := range 4 {
					t := f.accept(kept)
					if i%2 == 0 {
						f.end(f.take(only(t.ID)), task.Fail)
					} else {
						f.cancel(t)
					}
					f.clock.Advance(time.Millisecond)
					tasks = append(tasks, t)
				}
				q := store.Query{Queue: queue, Limit: 10}
				f.want("all", f.pick(task.Retry, q).IDs, ids(tasks))
				q.Limit = 3
				f.want("some", f.pick(task.Retry, q), store.Picked{IDs: ids(tasks[:3]), More: true})
			}
		},
		"a retry leaves out cancelled tasks whose keys are taken": func(f *fixture) {
			taken, free := f.accept(withKey("k")), f.accept(withKey("l"))
			f.cancel(taken)
			f.cancel(free)
			f.accept(withKey("k"))
			f.want("picked", f.pick(task.Retry, store.Query{Limit: 10}).IDs, []string{free.ID})
		},
		"repeating a retry while there is more retries each task once, even if all fail again at once": retryInPasses,
		"one pick finds all of 3,000 tasks that keep changing their states":                            cancelWhileTasksChange,
	}
}

func retryInPasses(f *fixture) {
	const tasks, most = 25, 10
	for range tasks {
		f.end(f.start(), task.Fail)
	}
	for pass := range 3 {
		var retried []string
		more := true
		for calls := 0; more && calls < tasks; calls++ {
			got := f.pick(task.Retry, store.Query{Limit: most})
			more = got.More
			for i, c := range must[[]store.Changed](f)(f.Retry(f.Context(), got.IDs)) {
				f.want("made", c.Made, true)
				retried = append(retried, got.IDs[i])
			}
			f.clock.Advance(time.Millisecond)
			for _, t := range f.claim() {
				f.end(t, task.Fail)
			}
		}
		f.want("more in the end", more, false)
		f.want("calls", len(retried), tasks)
		slices.Sort(retried)
		f.want("each once", len(slices.Compact(retried)), tasks)
		f.want("generation", f.get(task.Task{ID: retried[0]}).Generation, pass+1)
	}
	f.want("within the limit, all", f.pick(task.Retry, store.Query{Limit: tasks}).More, false)
	f.want("within the limit, all", len(f.pick(task.Retry, store.Query{Limit: tasks}).IDs), tasks)
	f.clock.Advance(store.RetryPass / 2)
	late := f.start()
	f.end(late, task.Fail)
	f.want("what was not retried comes first", f.pick(task.Retry, store.Query{Limit: most}), store.Picked{IDs: []string{late.ID}})
	f.clock.Advance(store.RetryPass)
	got := f.pick(task.Retry, store.Query{Limit: most})
	f.want("later all come in their order", []any{len(got.IDs), got.More, slices.Contains(got.IDs, late.ID)}, []any{most, true, false})
}

// cancelWhileTasksChange cancels by filter while nodes claim, fail and promote tasks.
func cancelWhileTasksChange(f *fixture) {
	var tasks []task.Task
	for range 6 {
		batch := make([]task.Task, 500)
		for i := range batch {
			batch[i] = f.draft(func(t *task.Task) { t.MaxAttempts = 1_000_000 })
		}
		must[[]store.Accepted](f)(f.Accept(f.Context(), batch))
		tasks = append(tasks, batch...)
	}
	began, over := make(chan struct{}, 2), make(chan struct{})
	together(3, func(c int) {
		if c == 0 {
			defer close(over)
			<-began
			<-began
			got := f.pick(task.Cancel, store.Query{Queue: "default", Limit: 10_000})
			f.want("picked", []any{got.IDs, got.More}, []any{ids(tasks), false})
			for some := range slices.Chunk(got.IDs, 500) {
				for _, a := range must[[]store.Changed](f)(f.Cancel(f.Context(), some)) {
					f.want("made", a.Made, true)
				}
			}
			return
		}
		for round := 0; ; round++ {
			f.failSome(c)
			if round == 1 {
				began <- struct{}{}
			}
			select {
			case <-over:
				return
			default:
			}
		}
	})
	for some := range slices.Chunk(ids(tasks), 500) {
		for _, t := range must[[]task.Task](f)(f.Get(f.Context(), some)) {
			f.want("state", t.State, task.Cancelled)
		}
	}
}

// failSome lets a node fail some tasks, which are due again at once, and promotes tasks that are due.
func (f *fixture) failSome(node int) {
	by := store.Claim{Node: string(rune('a' + node)), Actions: []string{"upper"}, Limit: 100}
	claimed, err := f.Claim(f.Context(), by)
	f.want("error of a claim", err, nil)
	outcomes := make([]store.Outcome, len(claimed))
	for i, t := range claimed {
		outcomes[i] = store.Outcome{ID: t.ID, Fence: t.Fence, Change: task.Again, Error: "no"}
	}
	_, err = f.Record(f.Context(), outcomes)
	f.want("error of a record", err, nil)
	_, err = f.Maintain(f.Context(), 200)
	f.want("error of a maintain", err, nil)
}
