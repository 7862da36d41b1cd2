package storetest

import (
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

func crash() sentences {
	return sentences{
		"the death of a process is no failure: the task is queued as a suspect and keeps all its attempts": func(f *fixture) {
			t := f.start(func(t *task.Task) { t.MaxAttempts = 1 })
			f.want("reaped", ids(f.dies().Reaped), []string{t.ID})
			got := f.state(t, task.Queued)
			f.want("task", []any{got.Suspect, got.Failures, got.Crashes, got.Attempt}, []any{true, 0, 0, 1})
		},
		"a death that hits a task among others never counts as a crash": func(f *fixture) {
			t := f.start()
			for attempt := 1; attempt <= 10; attempt++ {
				f.dies()
				f.want("crashes", f.state(t, task.Queued).Crashes, 0)
				f.end(f.take(isolated), task.Release)
				f.take()
			}
		},
		"a task whose process dies twice while it is the only suspect fails as crashed": func(f *fixture) {
			t := f.start()
			f.dies()
			for crashes := 1; crashes < task.MaxCrashes; crashes++ {
				f.take(isolated)
				f.dies()
				got := f.state(t, task.Queued)
				f.want("task", []any{got.Crashes, got.Suspect, got.Failures}, []any{crashes, true, 0})
			}
			f.take(isolated)
			maintained := f.dies()
			f.want("tended", [][]string{ids(maintained.Crashed), ids(maintained.Reaped)}, [][]string{{t.ID}, {}})
			got := f.state(t, task.Failed)
			f.want("task", []any{got.Code, got.Crashes, got.Failures, got.Error != ""}, []any{task.Crashed, task.MaxCrashes, 0, true})
		},
		"a suspect with a crash is in quarantine, and claimed only when the claim asks for such tasks": func(f *fixture) {
			quarantined := f.start()
			f.dies()
			f.take(isolated)
			other := f.start()
			f.dies()
			f.want("by id", len(f.claim(isolatedOnly, only(quarantined.ID))), 0)
			f.want("next", ids(f.claim(isolatedOnly)), []string{other.ID})
			f.end(f.get(other), task.Succeed)
			f.want("next", len(f.claim(isolatedOnly)), 0)
			f.want("quarantined", ids(f.claim(isolated)), []string{quarantined.ID})
		},
		"recovering counts crashes like reaping": func(f *fixture) {
			t := f.start()
			for range 1 + task.MaxCrashes {
				must[store.Maintained](f)(f.Recover(f.Context(), "n1", nil))
				f.claim(isolated)
			}
			f.want("code", f.state(t, task.Failed).Code, task.Crashed)
		},
		"crashes remain in a generation, and a retry clears them": func(f *fixture) {
			t := f.start()
			f.dies()
			f.take(isolated)
			f.dies()
			f.end(f.take(isolated), task.Release)
			f.want("crashes", f.get(t).Crashes, 1)
			f.take()
			f.dies()
			f.take(isolated)
			f.dies()
			f.state(t, task.Failed)
			f.retry(t)
			got := f.take()
			f.want("task", []any{got.Crashes, got.Suspect}, []any{0, false})
		},
	}
}

// suspect returns n tasks that were reaped.
func suspect(f *fixture, n int) (tasks []task.Task) {
	for range n {
		tasks = append(tasks, f.start())
	}
	f.dies()
	return tasks
}

func suspects() sentences {
	return sentences{
		"an isolated claim returns suspects and nothing else": func(f *fixture) {
			t := suspect(f, 1)[0]
			innocent := f.accept()
			f.want("by id", len(f.claim(only(t.ID))), 0)
			f.want("isolated by id", len(f.claim(only(innocent.ID), isolated)), 0)
			f.want("others", ids(f.claim()), []string{innocent.ID})
			f.want("isolated", ids(f.claim(isolated)), []string{t.ID})
		},
		"a suspect is claimed only when the previous one has ended": func(f *fixture) {
			tasks := suspect(f, 3)
			f.want("first", f.claim(isolated)[0].ID, tasks[0].ID)
			f.want("second", len(f.claim(isolated))+len(f.claim(isolated, only(tasks[1].ID))), 0)
			f.end(f.get(tasks[0]), task.Succeed)
			f.want("second", ids(f.claim(isolated, only(tasks[2].ID, tasks[1].ID))), []string{tasks[2].ID})
		},
		"a suspect that others may run beside does not make them wait, but still gets a crash": func(f *fixture) {
			tasks := suspect(f, 4)
			f.want("first", f.claim(isolated)[0].ID, tasks[0].ID)
			f.want("another", len(f.claim(isolated, beside(tasks[3].ID))), 0)
			f.want("second", ids(f.claim(isolated, beside(tasks[0].ID))), []string{tasks[1].ID})
			f.want("third", len(f.claim(isolated, beside(tasks[0].ID))), 0)
			f.want("by id", ids(f.claim(isolated, only(tasks[2].ID), beside(tasks[0].ID, tasks[1].ID))), []string{tasks[2].ID})
			f.dies()
			for i, crashes := range []int{1, 1, 1, 0} {
				got := f.get(tasks[i])
				f.want("task", []any{got.State, got.Crashes, got.Suspect}, []any{task.Queued, crashes, true})
			}
		},
		"ordinary tasks do not prevent a suspect from being claimed, and every node may have one suspect": func(f *fixture) {
			suspect(f, 2)
			f.start()
			f.want("n1", len(f.claim(isolated)), 1)
			f.want("n2", len(f.claim(isolated, node("n2"))), 1)
		},
		"tasks that ran beside a suspect become suspects without a crash": func(f *fixture) {
			suspect(f, 1)
			f.take(isolated)
			neighbour := f.start()
			f.dies()
			got := f.get(neighbour)
			f.want("neighbour", []any{got.State, got.Crashes, got.Suspect}, []any{task.Queued, 0, true})
		},
		"an outcome clears the suspicion": func(f *fixture) {
			for _, c := range []task.Change{task.Release, task.Again} {
				t := suspect(f, 1)[0]
				running := f.take(isolated)
				f.want("runs as a suspect", f.get(t).Suspect, true)
				f.outcome(store.Outcome{ID: t.ID, Fence: running.Fence, Change: c})
				f.after(0)
				f.want("suspect", f.state(t, task.Queued).Suspect, false)
				f.end(f.take(), task.Succeed)
			}
		},
		"limit, actions, queues and pauses also apply to suspects": func(f *fixture) {
			suspect(f, 1)
			f.want("limit", len(f.claim(isolated, limit(0))), 0)
			f.want("actions", len(f.claim(isolated, actions("echo"))), 0)
			f.want("queues", len(f.claim(isolated, from(map[string]int{"mail": 1}))), 0)
			f.pause("default", true)
			f.want("pause", len(f.claim(isolated)), 0)
		},
	}
}
