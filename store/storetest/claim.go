package storetest

import (
	"strings"
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

func claim() sentences {
	return sentences{
		"a claimed task is reserved for its node, under another fence and a lease": func(f *fixture) {
			f.accept()
			before := f.clock.Now().Truncate(time.Millisecond)
			t := f.reserve()
			f.want("task", []any{t.State, t.Fence, t.Reserved, t.Attempt, t.StartedAt}, []any{task.Queued, 1, "n1", 0, time.Time{}})
			f.want("lease", t.Lease.Before(before.Add(task.LeaseTime)) || t.Lease.After(f.clock.Now().Add(task.LeaseTime)), false)
			f.want("payload", string(t.Payload.Inline), `"hola"`)
			kept := f.get(t)
			f.want("kept", []any{kept.State, kept.Fence, kept.Reserved, kept.Lease}, []any{task.Queued, 1, "n1", t.Lease})
		},
		"a claim returns at most its limit of tasks, and none without a limit": func(f *fixture) {
			f.accept()
			f.accept()
			f.want("claimed", len(f.claim(limit(0))), 0)
			f.want("claimed", len(f.claim(limit(1))), 1)
			f.want("claimed", len(f.claim(limit(9))), 1)
			f.want("claimed", len(f.claim(limit(9))), 0)
		},
		"a claim only returns tasks with an action of its node": func(f *fixture) {
			f.accept(withEcho)
			upper := f.accept()
			f.want("claimed", ids(f.claim()), []string{upper.ID})
			f.want("claimed", len(f.claim(actions())), 0)
			f.want("claimed", len(f.claim(actions("fib", "echo"))), 1)
		},
		"a claim returns tasks of the queues that it names, at most as many of each as it says": func(f *fixture) {
			for range 3 {
				f.accept(inQueue("mail"))
				f.accept(inQueue("small"))
				f.accept(inQueue("other"))
			}
			got := f.claim(from(map[string]int{"mail": 2, "small": 1, "other": 0}))
			taken := map[string]int{}
			for _, t := range got {
				taken[t.Queue]++
			}
			f.want("claimed", taken, map[string]int{"mail": 2, "small": 1})
			f.want("none", len(f.claim(from(map[string]int{"absent": 5}))), 0)
			f.want("none", len(f.claim(from(map[string]int{}))), 0)
		},
		"a claim takes as many of an action as it says, and others behind them": func(f *fixture) {
			var few, many, named []string
			for range 4 {
				few = append(few, f.accept(withEcho).ID)
			}
			for range 3 {
				many = append(many, f.accept(inQueue("mail")).ID)
			}
			got := ids(f.claim(actions("echo", "upper", "fib"), actionSlots(map[string]int{"echo": 2, "fib": 0})))
			f.want("claimed", got, append(few[:2:2], many...))
			named = append(few[2:4:4], f.accept().ID)
			f.want("none", len(f.claim(actions("echo"), actionSlots(map[string]int{"echo": 0}))), 0)
			got = ids(f.claim(only(named...), actions("echo", "upper"), actionSlots(map[string]int{"echo": 1})))
			f.want("claimed by id", got, []string{named[0], named[2]})
		},
		"limits of a queue and of an action both hold": func(f *fixture) {
			for range 3 {
				f.accept(withEcho, inQueue("mail"))
				f.accept(withEcho)
			}
			taken := map[string]int{}
			for _, t := range f.claim(actions("echo"), from(map[string]int{"mail": 1, "*": 9}), actionSlots(map[string]int{"echo": 3})) {
				taken[t.Queue]++
			}
			f.want("of mail", taken["mail"] <= 1, true)
			f.want("of echo", taken["mail"]+taken["default"] <= 3 && len(taken) > 0, true)
		},
		"a star means each queue that is not named": func(f *fixture) {
			for range 3 {
				f.accept(inQueue("mail"))
				f.accept(inQueue("a"))
				f.accept(inQueue("b"))
			}
			taken := map[string]int{}
			for _, t := range f.claim(from(map[string]int{"mail": 0, "*": 2})) {
				taken[t.Queue]++
			}
			f.want("claimed", taken, map[string]int{"a": 2, "b": 2})
		},
		"each claim raises the fence, whichever node claims": func(f *fixture) {
			f.accept()
			for fence := 1; fence < 5; fence++ {
				t := f.take(node([]string{"n1", "n2"}[fence%2]))
				f.want("attempt and fence", []int{t.Attempt, t.Fence}, []int{fence, fence})
				f.end(t, task.Release)
			}
		},
		"a claim clears the progress of the last attempt": func(f *fixture) {
			t := f.start()
			f.renew("n1", store.Held{ID: t.ID, Fence: 1, Progress: &task.Progress{Percent: 40, Message: "half"}})
			f.end(t, task.Release)
			f.want("progress", f.take().Progress, task.Progress{})
		},
	}
}

func claimByID() sentences {
	return sentences{
		"a claim by id returns those that are queued": func(f *fixture) {
			a, b, c := f.accept(), f.accept(), f.accept(f.in(time.Hour))
			f.want("claimed", ids(f.claim(only(c.ID, b.ID, ulid(99)))), []string{b.ID})
			f.state(a, task.Queued)
			f.state(c, task.Scheduled)
		},
		"an id that is given twice is claimed once": func(f *fixture) {
			t := f.accept()
			f.want("claimed", len(f.claim(only(t.ID, t.ID))), 1)
			f.want("claimed", len(f.claim(only(t.ID))), 0)
			f.want("fence", f.get(t).Fence, 1)
		},
		"an empty list of ids claims nothing": func(f *fixture) {
			f.accept()
			f.want("claimed", len(f.claim(only([]string{}...))), 0)
			f.want("claimed", len(f.claim(only())), 1)
		},
		"limit, actions, queues and pauses also apply to claims by id": func(f *fixture) {
			a, b := f.accept(), f.accept(inQueue("mail"))
			f.want("limit", len(f.claim(only(a.ID, b.ID), limit(1))), 1)
			f.want("actions", len(f.claim(only(b.ID), actions("echo"))), 0)
			f.want("queues", len(f.claim(only(b.ID), from(map[string]int{"default": 9}))), 0)
			f.pause("mail", true)
			f.want("pause", len(f.claim(only(b.ID))), 0)
			f.pause("mail", false)
			f.want("claimed", len(f.claim(only(b.ID))), 1)
		},
	}
}

func priority() sentences {
	// backlog accepts n tasks of each priority.
	backlog := func(f *fixture, n int, priorities ...task.Priority) {
		for range n {
			for _, p := range priorities {
				f.accept(withPriority(p))
			}
		}
	}
	count := func(tasks []task.Task, p task.Priority) (n int) {
		for _, t := range tasks {
			if t.Priority == p {
				n++
			}
		}
		return n
	}
	weights := func(f *fixture, got []task.Task) {
		f.Helper()
		f.want("high, normal, low", []int{count(got, task.High), count(got, task.Normal), count(got, task.Low)}, []int{16, 8, 2})
	}
	return sentences{
		"of 26 claims for one task 16 are high, 8 normal and 2 low": func(f *fixture) {
			backlog(f, 30, task.High, task.Normal, task.Low)
			var got []task.Task
			for range 26 {
				got = append(got, f.take())
			}
			weights(f, got)
		},
		"of one claim for 26 tasks 16 are high, 8 normal and 2 low": func(f *fixture) {
			backlog(f, 30, task.Low, task.Normal, task.High)
			weights(f, f.claim(limit(26)))
		},
		"low is not starved by high": func(f *fixture) {
			backlog(f, 30, task.High, task.Low)
			if n := count(f.claim(limit(26)), task.Low); n < 2 {
				f.Errorf("%d low tasks of 26 were claimed, want 2 or more", n)
			}
		},
		"no turn is wasted on a priority without tasks": func(f *fixture) {
			backlog(f, 5, task.Low)
			f.want("claimed", len(f.claim(limit(9))), 5)
		},
		"within a priority the oldest task of all queues is first": func(f *fixture) {
			var want []string
			for _, q := range strings.Fields("b a b c a") {
				want = append(want, f.accept(inQueue(q)).ID)
			}
			f.want("order", ids(append(f.claim(limit(2)), f.claim(limit(3))...)), want)
		},
		"the age of a task is that of its id, whenever it was queued": func(f *fixture) {
			old := f.start(f.in(-time.Second))
			f.accept()
			f.end(old, task.Release)
			f.want("first", f.take().ID, old.ID)
		},
	}
}
