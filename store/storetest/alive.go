package storetest

import (
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// lives lets the leases of all running tasks end while the node sends heartbeats.
func (f *fixture) lives(n store.Node) store.Maintained {
	f.Helper()
	for range task.LeaseTime / task.LeaseRenew {
		f.clock.Advance(task.LeaseRenew)
		f.beat(n)
	}
	return f.after(0)
}

// n1 returns the row of the ordinary node.
func n1() store.Node { return store.Node{Name: "n1"} }

// reaped checks a task whose lease has ended.
func (f *fixture) reaped(t task.Task, suspect bool, crashes int) {
	f.Helper()
	got := f.get(t)
	f.want("task", []any{got.State, got.Suspect, got.Crashes, got.Failures}, []any{task.Queued, suspect, crashes, 0})
	f.want("lease", got.Lease, time.Time{})
}

func living() sentences {
	return sentences{
		"a lease that ends while its node is alive makes no suspect": func(f *fixture) {
			f.beat(n1())
			lost := []string{}
			for range 3 {
				lost = append(lost, f.start(func(t *task.Task) { t.MaxAttempts = 1 }).ID)
			}
			f.want("reaped", ids(f.lives(n1()).Reaped), lost)
			f.reaped(task.Task{ID: lost[0]}, false, 0)
			f.want("claimed", ids(f.claim()), lost)
		},
		"a node that has missed one heartbeat is alive, and one that has missed two is not": func(f *fixture) {
			f.beat(n1())
			late := f.start()
			f.clock.Advance(task.LeaseTime - task.LeaseLively + time.Second)
			f.beat(n1())
			f.after(task.LeaseLively - time.Second)
			f.reaped(late, false, 0)
			missing := f.take()
			f.clock.Advance(task.LeaseTime - task.LeaseLively)
			f.beat(n1())
			f.after(task.LeaseLively)
			f.reaped(missing, true, 0)
		},
		"a heartbeat just after the last renewal does not make a dead node alive": func(f *fixture) {
			f.beat(n1())
			t := f.start()
			f.clock.Advance(task.LeaseRenew)
			f.renew("n1", store.Held{ID: t.ID, Fence: 1})
			f.beat(n1())
			f.dies()
			f.reaped(t, true, 0)
		},
		"the same applies to a task that was claimed by its accept": func(f *fixture) {
			f.beat(n1())
			t := f.accept(func(t *task.Task) { t.Node = "n1" })
			f.want("reserved", t.Reserved, "n1")
			f.lives(n1())
			f.reaped(t, false, 0)
		},
		"a heartbeat counts only for its own node": func(f *fixture) {
			f.beat(n1())
			f.beat(store.Node{Name: "n2"})
			t := f.start()
			f.lives(store.Node{Name: "n2"})
			f.reaped(t, true, 0)
		},
		"a task that was asked to stop is cancelled even if its node is alive": func(f *fixture) {
			f.beat(n1())
			t := f.start()
			f.cancel(t)
			f.want("cancelled", ids(f.lives(n1()).Cancelled), []string{t.ID})
			f.state(t, task.Cancelled)
		},
		"recovering ignores heartbeats": func(f *fixture) {
			f.beat(n1())
			t := f.start()
			must[store.Maintained](f)(f.Recover(f.Context(), "n1", nil))
			f.reaped(t, true, 0)
		},
	}
}

// answering is about the processes for which a heartbeat counts, and what it does not change.
func answering() sentences {
	return sentences{
		"a suspect whose node is alive stays a suspect and gets no crash": func(f *fixture) {
			f.beat(n1())
			t := suspect(f, 1)[0]
			f.beat(n1())
			for range 1 + task.MaxCrashes {
				f.take(isolated)
				maintained := f.lives(n1())
				f.want("tended", [][]string{ids(maintained.Reaped), ids(maintained.Crashed)}, [][]string{{t.ID}, {}})
				f.reaped(t, true, 0)
			}
			f.take(isolated)
			f.dies()
			f.reaped(t, true, 1)
			f.beat(n1())
			f.take(isolated)
			f.lives(n1())
			f.reaped(t, true, 1)
			f.take(isolated)
			f.want("crashed", ids(f.dies().Crashed), []string{t.ID})
		},
		"a heartbeat of a restarted process does not count for the previous process of that name": func(f *fixture) {
			before, after := n1(), n1()
			before.Started, after.Started = f.clock.Now(), f.clock.Now().Add(time.Second)
			f.beat(before)
			t := f.start()
			f.clock.Advance(time.Second)
			f.lives(after)
			f.reaped(t, true, 0)
			own := f.take(isolated)
			f.lives(after)
			f.reaped(own, true, 0)
		},
		"at most limit tasks are reaped at a time, of living and dead nodes together": func(f *fixture) {
			f.beat(n1())
			for range 2 {
				f.start()
				f.take(only(f.accept().ID), node("n2"))
			}
			for range task.LeaseTime / task.LeaseRenew {
				f.clock.Advance(task.LeaseRenew)
				f.beat(n1())
			}
			for _, more := range []bool{true, false} {
				got := must[store.Maintained](f)(f.Maintain(f.Context(), 3))
				f.want("more", got.More, more)
				f.want("at most", len(got.Reaped) <= 3, true)
			}
			f.want("no suspects", len(f.claim()), 2)
		},
	}
}
