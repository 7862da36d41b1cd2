package storetest

import (
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

func crash() sentences {
	return sentences{
		"a crash is no failure: the task is queued, a suspect, and has all its attempts": func(f *fixture) {
			t := f.start(func(t *task.Task) { t.MaxAttempts = 1 })
			f.want("reaped", ids(f.dies().Reaped), []string{t.ID})
			got := f.state(t, task.Queued)
			f.want("task", []any{got.Suspect, got.Failures, got.Crashes, got.Attempt}, []any{true, 0, 0, 1})
		},
		"a crash among others never counts, however often": func(f *fixture) {
			t := f.start()
			for attempt := 1; attempt <= 10; attempt++ {
				f.dies()
				f.want("crashes", f.state(t, task.Queued).Crashes, 0)
				f.end(f.take(lone), task.Release)
				f.take()
			}
		},
		"a task under which the process dies twice while it is alone is failed as crashed": func(f *fixture) {
			t := f.start()
			f.dies()
			for crashes := 1; crashes < task.LoneCrashes; crashes++ {
				f.take(lone)
				f.dies()
				got := f.state(t, task.Queued)
				f.want("task", []any{got.Crashes, got.Suspect, got.Failures}, []any{crashes, true, 0})
			}
			f.take(lone)
			tended := f.dies()
			f.want("tended", [][]string{ids(tended.Crashed), ids(tended.Reaped)}, [][]string{{t.ID}, {}})
			got := f.state(t, task.Failed)
			f.want("task", []any{got.Code, got.Crashes, got.Failures, got.Error != ""}, []any{task.Crashed, task.LoneCrashes, 0, true})
		},
		"a suspect with a crash is accused, and left where it is unless the claim takes such": func(f *fixture) {
			accused := f.start()
			f.dies()
			f.take(lone)
			other := f.start()
			f.dies()
			f.want("by id", len(f.claim(sparing, only(accused.ID))), 0)
			f.want("next", ids(f.claim(sparing)), []string{other.ID})
			f.end(f.get(other), task.Succeed)
			f.want("next", len(f.claim(sparing)), 0)
			f.want("accused", ids(f.claim(lone)), []string{accused.ID})
		},
		"recovering counts as reaping does": func(f *fixture) {
			t := f.start()
			for range 1 + task.LoneCrashes {
				must[store.Tended](f)(f.Recover(f.Context(), "n1"))
				f.claim(lone)
			}
			f.want("code", f.state(t, task.Failed).Code, task.Crashed)
		},
		"crashes stay while a generation lasts, and a retry forgets them": func(f *fixture) {
			t := f.start()
			f.dies()
			f.take(lone)
			f.dies()
			f.end(f.take(lone), task.Release)
			f.want("crashes", f.get(t).Crashes, 1)
			f.take()
			f.dies()
			f.take(lone)
			f.dies()
			f.state(t, task.Failed)
			f.retry(t)
			got := f.take()
			f.want("task", []any{got.Crashes, got.Suspect}, []any{0, false})
		},
	}
}

// suspect makes tasks that were reaped.
func suspect(f *fixture, n int) (tasks []task.Task) {
	for range n {
		tasks = append(tasks, f.start())
	}
	f.dies()
	return tasks
}

func suspects() sentences {
	return sentences{
		"only a lone claim takes suspects, and it takes nothing else": func(f *fixture) {
			t := suspect(f, 1)[0]
			innocent := f.accept()
			f.want("by id", len(f.claim(only(t.ID))), 0)
			f.want("lone by id", len(f.claim(only(innocent.ID), lone)), 0)
			f.want("others", ids(f.claim()), []string{innocent.ID})
			f.want("lone", ids(f.claim(lone)), []string{t.ID})
		},
		"suspects are claimed one by one, and each when the one before is over": func(f *fixture) {
			tasks := suspect(f, 3)
			f.want("first", f.claim(lone)[0].ID, tasks[0].ID)
			f.want("second", len(f.claim(lone))+len(f.claim(lone, only(tasks[1].ID))), 0)
			f.end(f.get(tasks[0]), task.Succeed)
			f.want("second", ids(f.claim(lone, only(tasks[2].ID, tasks[1].ID))), []string{tasks[2].ID})
		},
		"a suspect beside which others may run does not keep them waiting, and counts as one still": func(f *fixture) {
			tasks := suspect(f, 4)
			f.want("first", f.claim(lone)[0].ID, tasks[0].ID)
			f.want("another", len(f.claim(lone, beside(tasks[3].ID))), 0)
			f.want("second", ids(f.claim(lone, beside(tasks[0].ID))), []string{tasks[1].ID})
			f.want("third", len(f.claim(lone, beside(tasks[0].ID))), 0)
			f.want("by id", ids(f.claim(lone, only(tasks[2].ID), beside(tasks[0].ID, tasks[1].ID))), []string{tasks[2].ID})
			f.dies()
			for i, crashes := range []int{1, 1, 1, 0} {
				got := f.get(tasks[i])
				f.want("task", []any{got.State, got.Crashes, got.Suspect}, []any{task.Queued, crashes, true})
			}
		},
		"what runs beside a suspect is no hindrance, and every node has one of its own": func(f *fixture) {
			suspect(f, 2)
			f.start()
			f.want("n1", len(f.claim(lone)), 1)
			f.want("n2", len(f.claim(lone, node("n2"))), 1)
		},
		"the neighbours of a suspect that kills are suspects, and no worse": func(f *fixture) {
			suspect(f, 1)
			f.take(lone)
			neighbour := f.start()
			f.dies()
			got := f.get(neighbour)
			f.want("neighbour", []any{got.State, got.Crashes, got.Suspect}, []any{task.Queued, 0, true})
		},
		"an outcome clears the suspicion": func(f *fixture) {
			for _, c := range []task.Change{task.Release, task.Again} {
				t := suspect(f, 1)[0]
				running := f.take(lone)
				f.want("runs as a suspect", f.get(t).Suspect, true)
				f.outcome(store.Outcome{ID: t.ID, Fence: running.Fence, Change: c})
				f.after(0)
				f.want("suspect", f.state(t, task.Queued).Suspect, false)
				f.end(f.take(), task.Succeed)
			}
		},
		"limit, actions, queues and pauses hold for suspects too": func(f *fixture) {
			suspect(f, 1)
			f.want("limit", len(f.claim(lone, limit(0))), 0)
			f.want("actions", len(f.claim(lone, actions("echo"))), 0)
			f.want("queues", len(f.claim(lone, from(map[string]int{"mail": 1}))), 0)
			f.pause("default", true)
			f.want("pause", len(f.claim(lone)), 0)
		},
	}
}
