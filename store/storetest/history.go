package storetest

import (
	"fmt"
	"strings"
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// flaw describes what is wrong with a task's history, or returns "".
func flaw(t task.Task) string {
	for i, e := range t.History {
		if i == 0 {
			continue
		}
		before := t.History[i-1]
		allowed, moved := false, e.State != before.State
		for _, c := range task.Changes() {
			to, ok := c.Apply(before.State)
			allowed = allowed || ok && moved && to == e.State && (e.Generation > before.Generation) == (c == task.Retry) &&
				(e.Attempt == before.Attempt+1) == (c == task.Enter) && (e.Attempt >= before.Attempt || released(c) && takesBack(before, e))
		}
		if !allowed || e.Seq != before.Seq+1 || e.At.Before(before.At) {
			return fmt.Sprintf("no change leads from %+v to %+v", before, e)
		}
	}
	last := task.Entry{}
	if n := len(t.History); n > 0 {
		last = t.History[n-1]
	}
	if last.State != t.State || last.Attempt != t.Attempt || last.Generation != t.Generation {
		return fmt.Sprintf("the task is %s in attempt %d, but its history ends with %+v", t.State, t.Attempt, last)
	}
	return ""
}

// released reports whether a change gives a task back unfinished.
func released(c task.Change) bool { return c == task.Release || c == task.Postpone }

// takesBack reports whether an entry takes the attempt of the one before it back.
func takesBack(before, e task.Entry) bool {
	return before.State == task.Running && e.Attempt == before.Attempt-1
}

// timeline formats a history: the state, the attempt and, if there is one, the node of each entry.
func timeline(t task.Task) string {
	var words []string
	for _, e := range t.History {
		words = append(words, strings.TrimSuffix(fmt.Sprintf("%s/%d@%s", e.State, e.Attempt, e.Node), "@"))
	}
	return strings.Join(words, " ")
}

func history() sentences {
	return sentences{
		"each change adds an entry, with the node of its attempt": wholeLife,
		"an entry has the time of its change and the error of a failed attempt": func(f *fixture) {
			t := f.start()
			f.clock.Advance(time.Second)
			f.outcome(store.Outcome{ID: t.ID, Fence: 1, Change: task.Again, Error: "busy"})
			h := f.get(t).History
			f.want("errors", []string{h[0].Error, h[1].Error, h[2].Error}, []string{"", "", "busy"})
			f.want("first", h[0].At, t.CreatedAt)
			if passed := h[2].At.Sub(h[1].At); passed < time.Second || passed > 2*time.Second {
				f.Errorf("a second passed, but the entries are %s apart", passed)
			}
		},
		"an entry has the reason why a task was reaped, crashed or expired": func(f *fixture) {
			t := f.start()
			f.dies()
			f.take(isolated)
			f.dies()
			f.take(isolated)
			f.dies()
			expired := f.accept(f.within(time.Second))
			f.after(time.Second)
			h := f.get(t).History
			for _, e := range []task.Entry{h[2], h[4], h[6], f.get(expired).History[1]} {
				f.want(fmt.Sprintf("%+v has a reason", e), e.Error != "", true)
			}
		},
		"answers have the entry of their change": func(f *fixture) {
			newest := func(what string, t task.Task, seq int) {
				f.Helper()
				f.want(what, len(t.History), 1)
				f.want(what, t.History[0].Seq, seq)
				f.want(what, t.History[0].State, t.State)
			}
			newest("accept", f.accept(), 1)
			t := f.reserve()
			newest("claim", t, 1)
			newest("enter", f.enter(t), 2)
			newest("record", f.end(t, task.Fail).Task, 3)
			newest("retry", f.retry(t).Task, 4)
			f.take()
			newest("reap", f.dies().Reaped[0], 6)
			newest("cancel", f.cancel(t).Task, 7)
		},
		"a long history keeps its newest entries and continues to count": func(f *fixture) {
			t := f.accept()
			rounds := task.HistoryEntries/2 + 10
			for range rounds {
				f.end(f.take(), task.Release)
			}
			h := f.get(t).History
			f.want("entries", len(h), task.HistoryEntries)
			f.want("last", h[len(h)-1].Seq, 1+2*rounds)
			f.want("flaw", flaw(f.get(t)), "")
		},
	}
}

func wholeLife(f *fixture) {
	t := f.accept(f.in(time.Second))
	f.after(time.Second)
	f.end(f.take(), task.Release)
	f.outcome(store.Outcome{ID: t.ID, Fence: f.take(node("n2")).Fence, Change: task.Again, Error: "no"})
	f.after(0)
	f.take()
	f.dies()
	f.end(f.take(isolated), task.Fail)
	f.retry(t)
	f.cancel(t)
	got := f.get(t)
	f.want("timeline", timeline(got), "scheduled/0 queued/0 running/1@n1 queued/1@n1 running/2@n2 scheduled/2@n2 "+
		"queued/2 running/3@n1 queued/3@n1 running/4@n1 failed/4@n1 queued/4 cancelled/4")
	f.want("flaw", flaw(got), "")
	f.want("generations", []int{got.History[10].Generation, got.History[11].Generation}, []int{0, 1})
}
