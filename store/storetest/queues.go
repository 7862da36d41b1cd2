package storetest

import (
	"errors"
	"fmt"
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

func (f *fixture) pause(queue string, paused bool) {
	f.Helper()
	must[int64](f)(f.Pause(f.Context(), queue, paused))
}

// pauseEmpty pauses a queue that then has no task.
func (f *fixture) pauseEmpty(queue string) {
	f.Helper()
	f.end(f.start(inQueue(queue)), task.Succeed)
	f.pause(queue, true)
	f.after(time.Hour)
}

func (f *fixture) waiting() []store.Waiting {
	f.Helper()
	return must[[]store.Waiting](f)(f.Waiting(f.Context()))
}

func (f *fixture) names() (names []string) {
	f.Helper()
	for _, q := range must[[]store.Queue](f)(f.Queues(f.Context())) {
		names = append(names, q.Name)
	}
	return names
}

// sameCounts compares the counts of the queues with their tasks.
func (f *fixture) sameCounts() {
	f.Helper()
	for _, q := range must[[]store.Queue](f)(f.Queues(f.Context())) {
		got := map[task.State]int64{
			task.Scheduled: q.Scheduled, task.Queued: q.Queued, task.Running: q.Running, task.Failed: q.Failed,
		}
		for s, n := range got {
			page := must[store.Page](f)(f.List(f.Context(), store.Query{Queue: q.Name, State: s, Limit: 10_000}))
			f.want(fmt.Sprintf("%s of queue %s", s, q.Name), n, int64(len(page.Tasks)))
		}
	}
}

func waiting() sentences {
	return sentences{
		"waiting returns the actions of scheduled and queued tasks by queue, paused or not": func(f *fixture) {
			f.want("nothing waits", len(f.waiting()), 0)
			f.start()
			f.want("one runs", len(f.waiting()), 0)
			f.accept(withEcho, f.in(time.Minute))
			f.accept(withEcho, withPriority(task.High))
			f.accept(withEcho, withPriority(task.Low))
			f.accept(withAction("resize"), inQueue("mail"), f.in(time.Minute))
			f.accept(withAction("a\tb"), inQueue("mail"))
			f.pause("mail", true)
			f.want("waiting", f.waiting(), []store.Waiting{
				{Queue: "default", Action: "echo"}, {Queue: "mail", Action: "a\tb"}, {Queue: "mail", Action: "resize"},
			})
			ended := f.start(inQueue("b"))
			f.end(ended, task.Again)
			f.want("one that failed", f.waiting()[0], store.Waiting{Queue: "b", Action: "upper"})
		},
		"a suspect counts as waiting": func(f *fixture) {
			f.start()
			f.after(task.LeaseTime + time.Second)
			f.want("waiting", f.waiting(), []store.Waiting{{Queue: "default", Action: "upper"}})
		},
	}
}

func queues() sentences {
	return sentences{
		"queues are sorted by name, with their counts": func(f *fixture) {
			for _, s := range task.States() {
				f.inState(s, task.Claim)
			}
			f.accept(inQueue("b"))
			f.accept(inQueue("a"))
			f.want("names", f.names(), []string{"a", "b", "default"})
			q := f.queue("default")
			f.want("counts", []int64{q.Scheduled, q.Queued, q.Running, q.Failed}, []int64{1, 1, 1, 1})
			f.want("accepted and finished", []int64{q.Accepted, q.Finished}, []int64{6, 3})
			f.sameCounts()
		},
		"oldest is since when the oldest queued task has been due": func(f *fixture) {
			timed := f.accept(f.in(10 * time.Second))
			f.want("none is queued", f.queue("default").Oldest, time.Time{})
			f.clock.Advance(time.Second)
			first := f.accept()
			f.want("at once", f.queue("default").Oldest, first.CreatedAt)
			f.after(time.Minute)
			f.want("at its time", f.queue("default").Oldest, timed.RunAt)
			reserved := f.claim()
			f.want("all are reserved", f.queue("default").Oldest, timed.RunAt)
			f.enter(reserved[0])
			f.want("one is left", f.queue("default").Oldest, first.CreatedAt)
			f.enter(reserved[1])
			f.want("none is left", f.queue("default").Oldest, time.Time{})
		},
		"a paused queue accepts tasks, and they can be claimed once it is resumed": func(f *fixture) {
			running := f.start()
			f.pause("default", true)
			f.pause("default", true)
			f.accept()
			f.want("paused", f.queue("default").Paused, true)
			f.want("claimed", len(f.claim()), 0)
			f.want("stale", f.end(running, task.Succeed).Stale, false)
			f.pause("default", false)
			f.pause("default", false)
			f.want("claimed", len(f.claim()), 1)
		},
		"a queue that does not exist can be neither paused nor resumed": func(f *fixture) {
			f.end(f.start(inQueue("gone")), task.Succeed)
			f.after(time.Hour)
			before := must[store.Paused](f)(f.Paused(f.Context()))
			for _, queue := range []string{"absent", "gone"} {
				for _, paused := range []bool{true, false} {
					version, err := f.Pause(f.Context(), queue, paused)
					refusal, _ := errors.AsType[*task.Error](err)
					if refusal == nil || refusal.Code != task.NotFound || refusal.Field != "queue" || version != 0 {
						f.Errorf("queue %s, paused %v: version %d, %v", queue, paused, version, err)
					}
				}
			}
			f.want("paused", must[store.Paused](f)(f.Paused(f.Context())), before)
			f.want("names", f.names(), []string(nil))
		},
		"pausing invented names does not use up the limit of queues": func(f *fixture) {
			for n := range 2 * manyQueues {
				if _, err := f.Pause(f.Context(), fmt.Sprint("invented", n), true); task.CodeOf(err) != task.NotFound {
					f.Errorf("pause %d: %v", n, err)
				}
			}
			for n := range manyQueues {
				f.accept(inQueue(fmt.Sprint("q", n)))
			}
		},
		"a paused queue exists without tasks and can be paused again": func(f *fixture) {
			f.pauseEmpty("mail")
			f.pause("mail", true)
			f.accept(inQueue("mail"))
			f.want("claimed", len(f.claim()), 0)
			f.pause("mail", false)
			f.want("claimed", len(f.claim()), 1)
		},
		"a queue can be paused as long as a finished task of it is kept": func(f *fixture) {
			f.end(f.start(inQueue("mail")), task.Succeed)
			f.pause("mail", true)
			f.accept(inQueue("mail"))
			f.want("claimed", len(f.claim()), 0)
		},
		"each pause raises the version of the paused queues": func(f *fixture) {
			paused := func() store.Paused { return must[store.Paused](f)(f.Paused(f.Context())) }
			f.accept(inQueue("mail"))
			f.accept(inQueue("a"))
			before := paused()
			f.want("at first", []any{before.Version > 0, len(before.Queues)}, []any{true, 0})
			for i, step := range []struct {
				queue  string
				paused bool
				then   []string
			}{{"mail", true, []string{"mail"}}, {"a", true, []string{"a", "mail"}}, {"mail", false, []string{"a"}}, {"a", false, nil}} {
				version := must[int64](f)(f.Pause(f.Context(), step.queue, step.paused))
				f.want("version", version, before.Version+int64(i)+1)
				f.want("paused", paused(), store.Paused{Version: version, Queues: step.then})
			}
		},
		"a queue without tasks disappears unless it is paused": func(f *fixture) {
			f.end(f.start(), task.Succeed)
			f.pauseEmpty("mail")
			f.want("names", f.names(), []string{"mail"})
			f.pause("mail", false)
			f.want("names", f.names(), []string(nil))
		},
	}
}

func bounds() sentences {
	return sentences{
		"a full queue refuses with overloaded, and accepts again when one of its tasks has finished": func(f *fixture) {
			f.accept(inQueue("small"), f.in(time.Hour))
			t := f.start(inQueue("small"))
			f.accept(inQueue("small"))
			refusal := f.offer(inQueue("small")).Refusal
			if refusal == nil || refusal.Code != task.Overloaded || refusal.Limit == "" || refusal.RetryAfter <= 0 {
				f.Fatalf("refusal %+v", refusal)
			}
			f.accept()
			f.want("accepted", f.queue("small").Accepted, int64(3))
			f.end(t, task.Release)
			f.want("refused", f.offer(inQueue("small")).Refusal != nil, true)
			f.end(f.take(only(t.ID)), task.Fail)
			f.accept(inQueue("small"))
		},
		"a refused task is not stored, and its key is free": func(f *fixture) {
			for range smallBacklog {
				f.accept(inQueue("small"))
			}
			f.offer(inQueue("small"), withKey("k"))
			f.want("task", f.get(task.Task{ID: ulid(f.made)}), task.Task{})
			f.end(f.take(), task.Succeed)
			f.accept(inQueue("small"), withKey("k"))
		},
		"a full queue still answers duplicates": func(f *fixture) {
			t := f.accept(inQueue("small"), withKey("k"))
			for range smallBacklog - 1 {
				f.accept(inQueue("small"))
			}
			f.want("id", f.offer(inQueue("small"), withKey("k")).Task.ID, t.ID)
		},
		"one queue too many is refused with overloaded, and the others continue": func(f *fixture) {
			for n := range manyQueues {
				f.accept(inQueue(fmt.Sprint("q", n)))
			}
			refusal := f.offer(inQueue("one-more")).Refusal
			if refusal == nil || refusal.Code != task.Overloaded || refusal.Limit == "" {
				f.Fatalf("refusal %+v", refusal)
			}
			f.pause("q0", true)
			f.pause("q0", false)
			f.accept(inQueue("q0"))
			f.want("queues", len(f.names()), manyQueues)
		},
	}
}

func nodes() sentences {
	return sentences{
		"a node is returned as it described itself, with the time of its heartbeat by the store's clock": func(f *fixture) {
			reported := store.Node{Name: "n1", PID: 7, Actions: []string{"upper"}, Queues: []string{"*"}, Slots: 4, Paused: 3}
			reported.Started = f.clock.Now().UTC().Truncate(time.Millisecond)
			f.clock.Advance(time.Second)
			f.beat(reported)
			got := must[[]store.Node](f)(f.Nodes(f.Context()))
			f.want("nodes", len(got), 1)
			if got[0].Seen.Before(reported.Started.Add(time.Second)) || got[0].Seen.After(f.clock.Now()) {
				f.Errorf("seen at %s, but the time is %s", got[0].Seen, f.clock.Now())
			}
			got[0].Seen = time.Time{}
			f.want("node", got[0], reported)
		},
		"nodes returns those with a recent heartbeat, sorted by name": func(f *fixture) {
			names := func() (names []string) {
				for _, n := range must[[]store.Node](f)(f.Nodes(f.Context())) {
					names = append(names, n.Name)
				}
				return names
			}
			f.beat(store.Node{Name: "n2"})
			f.beat(store.Node{Name: "n1"})
			f.clock.Advance(10 * time.Second)
			f.beat(store.Node{Name: "n2", Slots: 9})
			f.want("both", names(), []string{"n1", "n2"})
			f.clock.Advance(5 * time.Second)
			f.want("one", names(), []string{"n2"})
			f.clock.Advance(10 * time.Second)
			f.want("none", names(), []string(nil))
		},
	}
}
