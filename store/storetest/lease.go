package storetest

import (
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

func (f *fixture) renew(node string, held ...store.Held) []store.Renewed {
	f.Helper()
	return must[[]store.Renewed](f)(f.Renew(f.Context(), node, held))
}

func lease() sentences {
	return sentences{
		"a lease lasts until its time and no longer": func(f *fixture) {
			t := f.start()
			f.want("reaped", len(f.after(task.LeaseTime-time.Second).Reaped), 0)
			f.want("reaped", ids(f.after(time.Second).Reaped), []string{t.ID})
			f.state(t, task.Queued)
		},
		"a renewed lease lasts its whole time again": func(f *fixture) {
			t := f.start()
			f.clock.Advance(10 * time.Second)
			f.want("renewed", f.renew("n1", store.Held{ID: t.ID, Fence: 1}), []store.Renewed{{}})
			f.want("reaped", len(f.after(10*time.Second).Reaped), 0)
			f.want("reaped", len(f.after(5*time.Second).Reaped), 1)
		},
		"a lease that ran out and was not reaped can be renewed": func(f *fixture) {
			t := f.start()
			f.clock.Advance(time.Minute)
			f.want("renewed", f.renew("n1", store.Held{ID: t.ID, Fence: 1}), []store.Renewed{{}})
			f.want("reaped", len(f.after(0).Reaped), 0)
		},
		"renewing reports which claims are lost and which tasks must stop": func(f *fixture) {
			held, stopped, done, reclaimed := f.start(), f.start(), f.start(), f.start()
			f.cancel(stopped)
			f.end(done, task.Succeed)
			f.end(reclaimed, task.Release)
			f.take()
			got := f.renew("n1", store.Held{ID: held.ID, Fence: 1}, store.Held{ID: stopped.ID, Fence: 1},
				store.Held{ID: done.ID, Fence: 1}, store.Held{ID: reclaimed.ID, Fence: 1}, store.Held{ID: reclaimed.ID, Fence: 2},
				store.Held{ID: ulid(99), Fence: 1}, store.Held{ID: held.ID, Fence: 2})
			f.want("renewed", got, []store.Renewed{{}, {Cancelling: true}, {Lost: true}, {Lost: true}, {}, {Lost: true}, {Lost: true}})
			f.want("other node", f.renew("n2", store.Held{ID: held.ID, Fence: 1}), []store.Renewed{{Lost: true}})
		},
		"renewing a lost claim changes nothing": func(f *fixture) {
			t := f.start()
			f.end(t, task.Release)
			again := f.take(node("n2"))
			f.clock.Advance(5 * time.Second)
			f.renew("n1", store.Held{ID: t.ID, Fence: 1, Progress: &task.Progress{Percent: 99}})
			got := f.get(t)
			f.want("lease", got.Lease, again.Lease)
			f.want("progress", got.Progress, task.Progress{})
		},
		"progress is kept until the next one": func(f *fixture) {
			t := f.start()
			f.renew("n1", store.Held{ID: t.ID, Fence: 1, Progress: &task.Progress{Percent: 12.5, Message: "ñ"}})
			f.renew("n1", store.Held{ID: t.ID, Fence: 1})
			f.want("progress", f.get(t).Progress, task.Progress{Percent: 12.5, Message: "ñ"})
			f.want("history", len(f.get(t).History), 2)
		},
		"recovering reaps the tasks of one node at once, and no others": func(f *fixture) {
			mine, queued := f.start(), f.accept()
			other := f.take(node("n2"), only(f.accept().ID))
			got := must[store.Maintained](f)(f.Recover(f.Context(), "n1", nil))
			f.want("reaped", ids(got.Reaped), []string{mine.ID})
			f.state(mine, task.Queued)
			f.state(queued, task.Queued)
			f.state(other, task.Running)
		},
		"recovering without a name reaps the tasks of every node": func(f *fixture) {
			f.start()
			f.take(node("n2"), only(f.accept().ID))
			f.want("reaped", len(must[store.Maintained](f)(f.Recover(f.Context(), "", nil)).Reaped), 2)
		},
	}
}
