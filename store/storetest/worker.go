package storetest

import (
	"fmt"
	"strings"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// ranBy formats a history like timeline, with the worker of each entry instead of the node.
func ranBy(t task.Task) string {
	var words []string
	for _, e := range t.History {
		words = append(words, strings.TrimSuffix(fmt.Sprintf("%s/%d@%s", e.State, e.Attempt, e.Worker), "@"))
	}
	return strings.Join(words, " ")
}

// enterBy reports that a worker has entered the action of a claimed task.
func (f *fixture) enterBy(worker string, t task.Task) task.Task {
	f.Helper()
	return must[[]store.Recorded](f)(f.Enter(f.Context(), []store.Entered{{ID: t.ID, Fence: t.Fence, Worker: worker}}))[0].Task
}

func workers() sentences {
	return sentences{
		"an attempt has the worker that entered it, and so has its end": func(f *fixture) {
			f.accept()
			t := f.enterBy("img-311", f.reserve())
			f.want("answer", []any{t.Node, t.Worker, t.History[0].Worker}, []any{"n1", "img-311", "img-311"})
			f.want("running", f.get(t).Worker, "img-311")
			answer := f.outcome(store.Outcome{ID: t.ID, Fence: 1, Change: task.Succeed, Worker: "ignored"}).Task
			f.want("answer", answer.Worker, "img-311")
			got := f.get(t)
			f.want("task", []any{got.Worker, got.Node}, []any{"img-311", "n1"})
			f.want("workers", ranBy(got), "queued/0 running/1@img-311 done/1@img-311")
			f.want("timeline", timeline(got), "queued/0 running/1@n1 done/1@n1")
			f.want("errors", got.History[1].Error+got.History[2].Error, "")
			page := must[store.Page](f)(f.List(f.Context(), store.Query{Limit: 1}))
			f.want("list", page.Tasks[0].Worker, "img-311")
		},
		"an attempt has the definition of its action": func(f *fixture) {
			want := func(t task.Task, definitions string) {
				f.Helper()
				var got []string
				for _, e := range f.get(t).History {
					got = append(got, e.Definition+"@"+e.Worker)
				}
				f.want("definitions", strings.Join(got, " "), definitions)
			}
			f.accept()
			t := f.reserve()
			must[[]store.Recorded](f)(f.Enter(f.Context(), []store.Entered{{ID: t.ID, Fence: 1, Definition: "d1"}}))
			f.outcome(store.Outcome{ID: t.ID, Fence: 1, Change: task.Release, Definition: "ignored"})
			want(t, "@ d1@ @")
			f.outcome(store.Outcome{ID: t.ID, Fence: f.reserve().Fence, Change: task.Release, Worker: "w1", Definition: "d2"})
			f.enter(f.reserve())
			f.end(f.get(t), task.Release)
			want(t, "@ d1@ @ d2@w1 @w1 @ @")
			f.outcome(store.Outcome{ID: t.ID, Fence: f.reserve().Fence, Change: task.Succeed, Definition: "d3"})
			want(t, "@ d1@ @ d2@w1 @w1 @ @ d3@ @")
		},
		"an outcome that enters the attempt names its worker": func(f *fixture) {
			for _, c := range []task.Change{task.Succeed, task.Fail, task.Again, task.Release, task.Crash, task.Cancel} {
				f.accept()
				t := f.reserve()
				o := store.Outcome{ID: t.ID, Fence: 1, Change: c, Worker: "w1", Error: "no"}
				answer := f.outcome(o).Task
				f.want("answer", answer.Worker, "w1")
				got := f.get(t)
				f.want("workers", ranBy(got), fmt.Sprintf("queued/0 running/1@w1 %s/1@w1", answer.State))
				f.want("flaw", flaw(got), "")
				f.cancel(t)
			}
		},
		"an attempt that the node runs itself has no worker": func(f *fixture) {
			f.accept()
			t := f.enterBy("w1", f.reserve())
			f.end(t, task.Release)
			f.want("waiting", f.get(t).Worker, "w1")
			f.want("reserved", f.reserve().Worker, "w1")
			f.enter(f.get(t))
			f.want("running", f.get(t).Worker, "")
			f.end(f.get(t), task.Release)
			f.outcome(store.Outcome{ID: t.ID, Fence: f.reserve().Fence, Change: task.Succeed, Worker: "w2"})
			f.want("workers", ranBy(f.get(t)), "queued/0 running/1@w1 queued/1@w1 running/2 queued/2 running/3@w2 done/3@w2")
		},
		"what was given back before it was entered has no worker": func(f *fixture) {
			f.accept()
			t := f.reserve()
			f.outcome(store.Outcome{ID: t.ID, Fence: 1, Change: task.Release, Unentered: true, Worker: "w1"})
			f.want("worker", f.get(t).Worker, "")
		},
		"adoption and the death of a worker keep its name": func(f *fixture) {
			f.accept()
			t := f.enterBy("w1", f.reserve())
			f.adopt("n2", held(t))
			f.want("adopted", []any{f.get(t).Node, f.get(t).Worker}, []any{"n2", "w1"})
			f.reap("n2", held(t))
			f.want("workers", ranBy(f.get(t)), "queued/0 running/1@w1 queued/1@w1")
			f.want("timeline", timeline(f.get(t)), "queued/0 running/1@n1 queued/1@n2")
		},
		"a worker may have any name": func(f *fixture) {
			for _, name := range []string{"a", "größer", strings.Repeat("w", 127), strings.Repeat("w", 128), strings.Repeat("w", 300), "n1\tx"} {
				f.accept()
				t := f.enterBy(name, f.reserve())
				f.want("worker", f.get(t).Worker, name)
				f.end(t, task.Succeed)
				f.accept()
				t = f.reserve()
				f.outcome(store.Outcome{ID: t.ID, Fence: 1, Change: task.Succeed, Worker: name})
				f.want("worker", f.get(t).Worker, name)
			}
		},
		"a long history remembers the workers": func(f *fixture) {
			for _, more := range []int{0, 1} { // so that the oldest entry is one of running, or one after it
				t := f.accept()
				if more == 1 {
					f.cancel(t)
					f.retry(t)
				}
				for range task.HistoryEntries {
					f.end(f.enterBy("w1", f.reserve()), task.Release)
				}
				got := f.get(t)
				for _, e := range got.History[1:] {
					f.want(fmt.Sprintf("worker of entry %d", e.Seq), e.Worker, "w1")
				}
				f.want("worker", got.Worker, "w1")
				f.end(f.take(), task.Succeed)
			}
		},
		"changes by hand do not make a task forget its worker": func(f *fixture) {
			f.accept()
			t := f.enterBy("w1", f.reserve())
			f.adopt("n2", held(t))
			f.end(t, task.Succeed)
			for range task.HistoryEntries {
				f.retry(t)
				f.cancel(t)
			}
			f.want("task", []any{f.get(t).Worker, f.get(t).Node, f.get(t).Attempt}, []any{"w1", "n2", 1})
		},
	}
}
