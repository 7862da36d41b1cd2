package storetest

import (
	"fmt"
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// adopt makes a node the holder of claims.
func (f *fixture) adopt(node string, held ...store.Held) []store.Renewed {
	f.Helper()
	return must[[]store.Renewed](f)(f.Adopt(f.Context(), node, held))
}

// reap reaps claims of a node.
func (f *fixture) reap(node string, claims ...store.Held) store.Maintained {
	f.Helper()
	return must[store.Maintained](f)(f.Reap(f.Context(), node, claims, workerDied))
}

const workerDied = "its worker died"

// held returns the newest claim of a task.
func held(t task.Task) store.Held { return store.Held{ID: t.ID, Fence: t.Fence} }

func adoption() sentences {
	return sentences{
		"an adopted task has the new node and its whole lease": func(f *fixture) {
			t := f.start()
			f.clock.Advance(10 * time.Second)
			f.want("adopted", f.adopt("n2", held(t)), []store.Renewed{{}})
			got := f.state(t, task.Running)
			f.want("task", []any{got.Node, got.Reserved, got.Attempt, got.Fence, got.Suspect}, []any{"n2", "", 1, 1, false})
			f.want("reaped", len(f.after(10*time.Second).Reaped), 0)
			f.want("reaped", ids(f.after(5*time.Second).Reaped), []string{t.ID})
		},
		"the former node has lost the claim, and the new one can renew it": func(f *fixture) {
			t := f.start()
			f.adopt("n2", held(t))
			f.want("n1", f.renew("n1", held(t)), []store.Renewed{{Lost: true}})
			f.want("n2", f.renew("n2", held(t)), []store.Renewed{{}})
			f.adopt("n1", held(t))
			f.want("n2", f.renew("n2", held(t)), []store.Renewed{{Lost: true}})
		},
		"a reserved task can be adopted, and is entered by the new node": func(f *fixture) {
			entered, unentered, recorded := f.accept(), f.accept(), f.accept()
			f.claim()
			for _, t := range []*task.Task{&entered, &unentered, &recorded} {
				*t = f.get(*t)
				f.adopt("n2", held(*t))
				f.want("reserved", f.state(*t, task.Queued).Reserved, "n2")
			}
			f.enter(entered)
			f.want("node", f.get(entered).Node, "n2")
			f.outcome(store.Outcome{ID: unentered.ID, Fence: 1, Change: task.Release, Unentered: true})
			got := f.state(unentered, task.Queued)
			f.want("given back", []any{got.Attempt, got.Reserved, len(got.History)}, []any{0, "", 1})
			f.want("stale", f.end(recorded, task.Succeed).Stale, false)
			f.want("timeline", timeline(f.get(recorded)), "queued/0 running/1@n2 done/1@n2")
		},
		"a lease that has ended can be adopted until it is reaped": func(f *fixture) {
			kept, lost := f.start(), f.start()
			f.clock.Advance(task.LeaseTime)
			f.want("adopted", f.adopt("n2", held(kept)), []store.Renewed{{}})
			f.want("reaped", ids(f.after(0).Reaped), []string{lost.ID})
			f.want("adopted", f.adopt("n2", held(lost)), []store.Renewed{{Lost: true}})
			f.state(lost, task.Queued)
		},
		"adopting reports which claims are lost and which tasks must stop": func(f *fixture) {
			mine, stopped, done, reclaimed := f.start(), f.start(), f.start(), f.start()
			f.cancel(stopped)
			f.end(done, task.Succeed)
			f.end(reclaimed, task.Release)
			again := f.take(node("n3"))
			got := f.adopt("n2", held(mine), held(stopped), held(done), held(reclaimed), held(again), held(mine),
				store.Held{ID: ulid(99), Fence: 1}, store.Held{ID: mine.ID, Fence: 2})
			f.want("adopted", got, []store.Renewed{{}, {Cancelling: true}, {Lost: true}, {Lost: true}, {}, {}, {Lost: true}, {Lost: true}})
			f.end(stopped, task.Release)
			f.want("timeline", timeline(f.state(stopped, task.Cancelled)), "queued/0 running/1@n1 cancelled/1@n2")
		},
		"adopting a lost claim changes nothing": func(f *fixture) {
			t := f.start()
			f.end(t, task.Release)
			again := f.take(node("n3"))
			f.clock.Advance(5 * time.Second)
			f.adopt("n2", store.Held{ID: t.ID, Fence: 1, Progress: &task.Progress{Percent: 99}})
			got := f.get(t)
			f.want("task", []any{got.Lease, got.Node, got.Progress}, []any{again.Lease, "n3", task.Progress{}})
		},
		"the outcome of an adopted attempt is written once, whoever reports it": func(f *fixture) {
			t := f.start()
			f.adopt("n2", held(t))
			f.want("stale", f.end(t, task.Succeed).Stale, false)
			f.want("stale", f.end(t, task.Fail).Stale, true)
			f.state(t, task.Done)
		},
		"an adopted task has no more attempts and one history entry for each change": func(f *fixture) {
			t := f.start()
			for _, name := range []string{"n2", "n3", "n3", "n1", "n2"} {
				f.adopt(name, held(t))
				f.want("timeline", timeline(f.get(t)), "queued/0 running/1@n1")
			}
			f.outcome(store.Outcome{ID: t.ID, Fence: 1, Change: task.Again, Error: "no"})
			f.after(0)
			f.end(f.take(), task.Succeed)
			got := f.state(t, task.Done)
			f.want("timeline", timeline(got), "queued/0 running/1@n1 scheduled/1@n2 queued/1 running/2@n1 done/2@n1")
			f.want("flaw", flaw(got), "")
			f.want("node", got.Node, "n1")
		},
		"a long history remembers who adopted the task": func(f *fixture) {
			t := f.accept()
			for range task.HistoryEntries {
				held := held(f.take())
				f.adopt("n2", held)
				f.outcome(store.Outcome{ID: t.ID, Fence: held.Fence, Change: task.Release})
			}
			f.adopt("n3", held(f.take()))
			got := f.get(t)
			f.want("node", got.Node, "n3")
			f.want("flaw", flaw(got), "")
			for i, e := range got.History[2:] {
				before := got.History[i+1]
				if before.State == task.Running {
					f.want(fmt.Sprintf("nodes of entries %d and %d", before.Seq, e.Seq), before.Node+e.Node, "n1n2")
				}
			}
		},
		"adopting stores the progress": func(f *fixture) {
			t := f.start()
			f.adopt("n2", store.Held{ID: t.ID, Fence: 1, Progress: &task.Progress{Percent: 40, Message: "ñ"}})
			f.adopt("n3", held(t))
			f.want("progress", f.get(t).Progress, task.Progress{Percent: 40, Message: "ñ"})
		},
		"a suspect that is adopted is the only suspect of its new node": func(f *fixture) {
			tasks := suspect(f, 3)
			f.take(isolated, only(tasks[0].ID))
			f.adopt("n2", held(f.get(tasks[0])))
			f.want("n2", len(f.claim(isolated, node("n2"))), 0)
			f.want("n1", len(f.claim(isolated)), 1)
		},
		"the lease of an adopted task ends like any other": func(f *fixture) {
			f.beat(n1())
			f.beat(store.Node{Name: "n2"})
			living, dead := f.start(), f.start()
			f.adopt("n2", held(living))
			f.adopt("n3", held(dead))
			f.lives(store.Node{Name: "n2"})
			f.reaped(living, false, 0)
			f.reaped(dead, true, 0)
		},
		"recovering the former node leaves an adopted task alone": func(f *fixture) {
			t := f.start()
			f.adopt("n2", held(t))
			f.want("reaped", len(must[store.Maintained](f)(f.Recover(f.Context(), "n1", nil)).Reaped), 0)
			f.want("reaped", ids(must[store.Maintained](f)(f.Recover(f.Context(), "n2", nil)).Reaped), []string{t.ID})
		},
	}
}

// deaths is about tasks that are taken back because a worker died.
func deaths() sentences {
	return sentences{
		"the death of a worker makes its tasks suspects at once, and no others": func(f *fixture) {
			lost, reserved, other := f.start(), f.accept(), f.start()
			f.want("reserved", ids(f.claim()), []string{reserved.ID})
			maintained := f.reap("n1", held(lost), held(f.get(reserved)))
			f.want("reaped", sorted(ids(maintained.Reaped)), []string{lost.ID, reserved.ID})
			f.reaped(lost, true, 0)
			f.reaped(reserved, true, 0)
			f.state(other, task.Running)
			f.want("attempts", []int{f.get(lost).Attempt, f.get(reserved).Attempt}, []int{1, 1})
			f.want("timeline", timeline(f.get(lost)), "queued/0 running/1@n1 queued/1@n1")
			f.want("why", f.get(lost).History[2].Error, workerDied)
			f.want("times", maintained.Now.IsZero() || maintained.Next.IsZero(), false)
		},
		"it is no matter whether the node lives, or how long the lease lasts": func(f *fixture) {
			f.beat(n1())
			f.clock.Advance(time.Second)
			t := f.start()
			f.beat(n1())
			f.reap("n1", held(t))
			f.reaped(t, true, 0)
		},
		"only the newest claim is reaped, and only from the node that has it": func(f *fixture) {
			done, again, adopted, waiting := f.start(), f.start(), f.start(), f.accept()
			f.end(done, task.Succeed)
			f.end(again, task.Release)
			f.take(only(again.ID))
			f.adopt("n2", held(adopted))
			maintained := f.reap("n1", held(done), held(again), held(adopted), held(waiting), store.Held{ID: ulid(99), Fence: 1})
			f.want("tended", [][]task.Task{maintained.Reaped, maintained.Crashed, maintained.Cancelled}, [][]task.Task{nil, nil, nil})
			f.state(done, task.Done)
			f.state(again, task.Running)
			f.state(adopted, task.Running)
			f.state(waiting, task.Queued)
		},
		"a claim that is reaped twice in a batch is reaped once": func(f *fixture) {
			t := f.start()
			f.want("reaped", ids(f.reap("n1", held(t), held(t)).Reaped), []string{t.ID})
			f.want("again", len(f.reap("n1", held(t)).Reaped), 0)
			f.reaped(t, true, 0)
		},
		"a task that was asked to stop is cancelled when its worker dies": func(f *fixture) {
			t := f.start()
			f.cancel(t)
			f.want("cancelled", ids(f.reap("n1", held(t)).Cancelled), []string{t.ID})
			got := f.state(t, task.Cancelled)
			f.want("task", []any{got.Suspect, got.Code, got.History[2].Error}, []any{false, task.Code(""), workerDied})
		},
		"a task whose worker dies twice while it is the only suspect fails as crashed": func(f *fixture) {
			t := f.start()
			f.reap("n1", held(t))
			for crashes := 1; crashes < task.MaxCrashes; crashes++ {
				f.reap("n1", held(f.take(isolated)))
				f.reaped(t, true, crashes)
			}
			maintained := f.reap("n1", held(f.take(isolated)))
			f.want("tended", [][]string{ids(maintained.Crashed), ids(maintained.Reaped)}, [][]string{{t.ID}, {}})
			got := f.state(t, task.Failed)
			f.want("task", []any{got.Code, got.Crashes, got.Failures, got.Error},
				[]any{task.Crashed, task.MaxCrashes, 0, store.DiedTooOften("worker", task.MaxCrashes)})
		},
		"nothing is written for a claim that was reaped": func(f *fixture) {
			t := f.start()
			f.reap("n1", held(t))
			f.want("stale", f.end(t, task.Succeed).Stale, true)
			f.want("adopted", f.adopt("n2", held(t)), []store.Renewed{{Lost: true}})
			f.want("renewed", f.renew("n1", held(t)), []store.Renewed{{Lost: true}})
		},
		"recovering with actions leaves the tasks of other actions to their workers until the leases end": func(f *fixture) {
			before, after := n1(), n1()
			before.Started, after.Started = f.clock.Now(), f.clock.Now().Add(time.Second)
			f.beat(before)
			own, adopted, lost := f.start(), f.accept(withEcho), f.accept(withEcho)
			for _, t := range f.claim(actions("echo")) {
				f.enter(t)
			}
			f.clock.Advance(time.Second)
			maintained := must[store.Maintained](f)(f.Recover(f.Context(), "", []string{"upper", "lower"}))
			f.want("reaped", ids(maintained.Reaped), []string{own.ID})
			f.beat(after)
			f.want("adopted", f.adopt("n1", held(f.get(adopted))), []store.Renewed{{}})
			f.lives(after)
			f.want("no action", len(must[store.Maintained](f)(f.Recover(f.Context(), "", []string{})).Reaped), 0)
			f.reaped(lost, true, 0)
			f.reaped(adopted, false, 0) // by a node that lives
		},
	}
}

// adoptAgainstReap lets nodes adopt tasks while their worker is said to have died, and while they are recorded and
// renewed.
func adoptAgainstReap(f *fixture) {
	f.many(100)
	tasks := f.claim()
	for _, t := range tasks[:50] {
		f.enter(t)
	}
	var adopted, reaped, written [100]bool
	together(4, func(c int) {
		for i, t := range tasks {
			switch claim := []store.Held{held(t)}; c {
			case 0:
				answers, err := f.Adopt(f.Context(), "n2", claim)
				adopted[i] = err == nil && !answers[0].Lost
			case 1:
				maintained, err := f.Reap(f.Context(), "n1", claim, workerDied)
				reaped[i] = err == nil && len(maintained.Reaped) == 1
			case 2:
				i = len(tasks) - 1 - i
				answers, err := f.Record(f.Context(), []store.Outcome{{ID: tasks[i].ID, Fence: 1, Change: task.Succeed}})
				written[i] = err == nil && !answers[0].Stale
			case 3:
				_, err := f.Renew(f.Context(), "n1", claim)
				f.want("error of renew", err, nil)
			}
		}
	})
	for i, t := range tasks {
		got := f.get(t)
		want := task.Done
		switch {
		case reaped[i]:
			want = task.Queued
		case !written[i]:
			f.want("adopted, reaped or recorded", adopted[i], true)
			want = task.Running
		}
		if reserved := got.Reserved != ""; reserved && want == task.Running {
			want = task.Queued
			f.want("reserved", got.Reserved, "n2")
		}
		f.want("state", got.State, want)
		f.want("reaped and recorded, or reaped and adopted", reaped[i] && (written[i] || adopted[i]), false)
		if adopted[i] && !reaped[i] {
			f.want("holder", got.Reserved+got.Node, "n2")
		}
	}
	f.sound(tasks)
}
