package storetest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

func accept() sentences {
	return sentences{
		"a task without a time is queued": func(f *fixture) {
			f.want("state", f.accept().State, task.Queued)
		},
		"a task whose time is in the future is scheduled": func(f *fixture) {
			f.want("state", f.accept(f.in(time.Hour)).State, task.Scheduled)
		},
		"a task whose time is in the past is queued": func(f *fixture) {
			f.want("state", f.accept(f.in(-time.Hour)).State, task.Queued)
		},
		"the client's fields are stored": func(f *fixture) {
			asked := f.draft(withKey("k"), withPriority(task.Low), f.in(time.Hour), f.within(2*time.Hour))
			asked.Meta = map[string]string{"customer": "7", "": "ñ"}
			asked.Payload = task.Body{Size: 1 << 20, SHA256: "ab12"}
			asked.Backoff, asked.BackoffMax, asked.KeepFailed = time.Second, 90*time.Minute, 3*time.Hour
			must[[]store.Accepted](f)(f.Accept(f.Context(), []task.Task{asked}))
			got := f.get(asked)
			f.want("action", got.Action, asked.Action)
			f.want("payload", got.Payload, asked.Payload)
			f.want("options", got.Options, asked.AcceptedAt(got.CreatedAt))
		},
		"a payload is stored byte by byte": func(f *fixture) {
			payload := []byte("{\"n\": 12345678901234567890, \"ñ\":\t\"\\u0000\"} ")
			got := f.get(f.accept(func(t *task.Task) { t.Payload.Inline = payload }))
			f.want("payload", string(got.Payload.Inline), string(payload))
		},
		"all other fields are set by the store": func(f *fixture) {
			before := f.clock.Now().Truncate(time.Millisecond)
			got := f.get(f.accept(func(t *task.Task) {
				t.State, t.Attempt, t.Failures, t.Generation = task.Done, 7, 7, 7
				t.Suspect, t.Cancelling, t.Code, t.Error = true, true, task.Crashed, "x"
				t.History = []task.Entry{{Seq: 9}}
			}))
			f.want("state", got.State, task.Queued)
			f.want("counters", []int{got.Attempt, got.Failures, got.Generation}, []int{0, 0, 0})
			f.want("rest", []any{got.Suspect, got.Cancelling, got.Node, got.Code, got.Error, len(got.History)},
				[]any{false, false, "", task.Code(""), "", 1})
			if got.CreatedAt.Before(before) || got.CreatedAt.After(f.clock.Now()) || got.CreatedAt.Location() != time.UTC {
				f.Errorf("created at %s, but the time is %s", got.CreatedAt, f.clock.Now())
			}
		},
		"the answer lacks the payload": func(f *fixture) {
			f.want("payload", f.accept().Payload.Inline, []byte(nil))
		},
		"the caller may reuse its bytes": func(f *fixture) {
			payload, meta := []byte(`"hola"`), map[string]string{"a": "b"}
			t := f.accept(func(t *task.Task) { t.Payload.Inline, t.Meta = payload, meta })
			payload[1], meta["a"] = 'X', "X"
			got := f.get(t)
			f.want("payload", string(got.Payload.Inline), `"hola"`)
			f.want("meta", got.Meta, map[string]string{"a": "b"})
			got.Payload.Inline[1], got.Meta["a"], got.History[0].Seq = 'X', "X", 9
			f.want("payload", string(f.get(t).Payload.Inline), `"hola"`)
			f.want("entry", f.get(t).History[0].Seq, 1)
		},
		"a repeated accept is a duplicate and stores nothing": func(f *fixture) {
			asked := f.draft()
			first := must[[]store.Accepted](f)(f.Accept(f.Context(), []task.Task{asked, asked}))
			f.want("duplicates", []bool{first[0].Duplicate, first[1].Duplicate}, []bool{false, true})
			f.want("same request", first[1].SameRequest, true)
			f.want("accepted", f.queue("default").Accepted, int64(1))
		},
		"get returns tasks in the order of the ids, and empty tasks for unknown ids": func(f *fixture) {
			a, b := f.accept(), f.accept()
			got := must[[]task.Task](f)(f.Get(f.Context(), []string{b.ID, ulid(99), a.ID, b.ID}))
			f.want("ids", ids(got), []string{b.ID, "", a.ID, b.ID})
		},
	}
}

// onNode names a node that has a slot for the task.
func onNode(name string) edit { return func(t *task.Task) { t.Node = name } }

func acceptAndStart() sentences {
	waits := func(f *fixture, edits ...edit) task.Task {
		f.Helper()
		t := f.accept(append(edits, onNode("n1"))...)
		got := f.get(t)
		f.want("fence, node and entries", []any{got.Fence, got.Reserved, len(got.History)}, []any{0, "", 1})
		return t
	}
	return sentences{
		"a task that names a node is claimed for it by the same change": func(f *fixture) {
			t := f.accept(onNode("n1"), withKey("k"))
			got := f.get(t)
			f.want("answer", []any{t.State, t.Attempt, t.Fence, t.Reserved, t.Lease}, []any{task.Queued, 0, 1, "n1", got.Lease})
			f.want("state", []any{got.State, got.Attempt, got.Fence, got.Reserved}, []any{task.Queued, 0, 1, "n1"})
			f.want("started", got.StartedAt, time.Time{})
			f.want("lease", got.Lease, got.CreatedAt.Add(task.LeaseTime))
			f.want("history", got.History, []task.Entry{{Seq: 1, State: task.Queued, At: got.CreatedAt}})
			f.want("payload", string(got.Payload.Inline), `"hola"`)
			q := f.queue("default")
			f.want("counts", fmt.Sprint(q.Queued, q.Running, q.Accepted), "1 0 1")
			f.want("claimed", len(f.claim()), 0)
		},
		"a task that was claimed by its accept is recorded, renewed and reaped like any other": func(f *fixture) {
			a, b, c := f.accept(onNode("n1")), f.accept(onNode("n2")), f.accept(onNode("n1"))
			done := f.outcome(store.Outcome{ID: a.ID, Fence: 1, Change: task.Succeed, Result: task.Body{Inline: []byte("1")}})
			f.want("stale", done.Stale, false)
			f.want("state", f.get(a).State, task.Done)
			f.want("entries", len(f.get(a).History), 3)
			renewed := must[[]store.Renewed](f)(f.Renew(f.Context(), "n2", []store.Held{{ID: b.ID, Fence: 1}, {ID: c.ID, Fence: 1}}))
			f.want("lost", []bool{renewed[0].Lost, renewed[1].Lost}, []bool{false, true})
			f.dies()
			f.want("state", f.get(c).State, task.Queued)
			f.want("attempt and fence", []int{f.take(only(c.ID), isolated).Attempt, f.get(c).Fence}, []int{2, 2})
		},
		"a duplicate is not claimed": func(f *fixture) {
			first := f.accept(withKey("k"))
			again := f.offer(withKey("k"), onNode("n1"))
			f.want("duplicate", []any{again.Duplicate, again.Task.ID, again.Task.State}, []any{true, first.ID, task.Queued})
		},
		"a repeated accept returns the task as reserved": func(f *fixture) {
			asked := f.draft(onNode("n1"))
			both := must[[]store.Accepted](f)(f.Accept(f.Context(), []task.Task{asked, asked}))
			f.want("second", []any{both[1].Duplicate, both[1].SameRequest, both[1].Task.State, both[1].Task.Fence, both[1].Task.Reserved},
				[]any{true, true, task.Queued, 1, "n1"})
		},
		"a task that cannot be claimed waits: its queue is paused": func(f *fixture) {
			f.accept()
			f.pause("default", true)
			f.want("state", waits(f).State, task.Queued)
		},
		"a task that cannot be claimed waits: its time is in the future": func(f *fixture) {
			f.want("state", waits(f, f.in(time.Hour)).State, task.Scheduled)
		},
		"a call may claim some of its tasks and not others": func(f *fixture) {
			list := []task.Task{f.draft(onNode("n1")), f.draft(), f.draft(onNode("n2"))}
			got := must[[]store.Accepted](f)(f.Accept(f.Context(), list))
			f.want("reserved for", []any{got[0].Task.Reserved, got[1].Task.Reserved, got[2].Task.Reserved}, []any{"n1", "", "n2"})
			f.want("claimed", ids(f.claim()), []string{list[1].ID})
		},
	}
}

func list() sentences {
	list := func(f *fixture, q store.Query) []string {
		f.Helper()
		q.Limit = max(q.Limit, 10)
		return ids(must[store.Page](f)(f.List(f.Context(), q)).Tasks)
	}
	return sentences{
		"a list has the newest tasks first, and its last page has no cursor": func(f *fixture) {
			var want, got []string
			for range 6 {
				want = append([]string{f.accept().ID}, want...)
			}
			q := store.Query{Limit: 2}
			for pages := 1; ; pages++ {
				page := must[store.Page](f)(f.List(f.Context(), q))
				got = append(got, ids(page.Tasks)...)
				q.Cursor = page.Cursor
				if q.Cursor == "" || pages == 5 {
					f.want("pages", pages, 3)
					break
				}
			}
			f.want("ids", got, want)
		},
		"a limit out of range means the nearest allowed one": func(f *fixture) {
			f.accept()
			f.accept()
			f.want("tasks", len(must[store.Page](f)(f.List(f.Context(), store.Query{})).Tasks), 1)
			f.want("tasks", len(must[store.Page](f)(f.List(f.Context(), store.Query{Limit: 1 << 40})).Tasks), 2)
		},
		"each filter selects tasks, and filters can be combined": func(f *fixture) {
			label := func(k, v string) edit { return func(t *task.Task) { t.Meta = map[string]string{k: v, "all": ""} } }
			mail := f.accept(inQueue("mail"), label("customer", "7"))
			echo := f.accept(withEcho, label("customer", "8"))
			timed := f.accept(f.in(time.Hour))
			f.want("queue", list(f, store.Query{Queue: "mail"}), []string{mail.ID})
			f.want("action", list(f, store.Query{Action: "echo"}), []string{echo.ID})
			f.want("state", list(f, store.Query{State: task.Scheduled}), []string{timed.ID})
			f.want("meta", list(f, store.Query{Meta: map[string]string{"customer": "7"}}), []string{mail.ID})
			f.want("empty label", list(f, store.Query{Meta: map[string]string{"all": ""}}), []string{echo.ID, mail.ID})
			f.want("no such label", list(f, store.Query{Meta: map[string]string{"none": ""}}), []string{})
			f.want("both", list(f, store.Query{Queue: "mail", Action: "echo"}), []string{})
		},
		"since and until bound the time of creation, on every page": func(f *fixture) {
			var all []string
			at := func(i int) time.Time { return f.get(task.Task{ID: all[i]}).CreatedAt }
			for range 5 {
				all = append(all, f.accept().ID)
				f.clock.Advance(time.Second)
			}
			f.end(f.take(only(all[0])), task.Fail) // the time of its end does not matter
			q := store.Query{Since: at(1), Until: at(3)}
			f.want("since and until", list(f, q), []string{all[3], all[2], all[1]})
			q.Limit = 2
			q.Cursor = must[store.Page](f)(f.List(f.Context(), q)).Cursor
			f.want("the next page", list(f, q), []string{all[1]})
			f.want("since", list(f, store.Query{Since: at(4)}), []string{all[4]})
			f.want("until", list(f, store.Query{Until: at(0)}), []string{all[0]})
			f.want("between two", list(f, store.Query{Since: at(1).Add(1), Until: at(2).Add(-1)}), []string{})
			f.want("with a state", list(f, store.Query{Until: at(1), State: task.Failed}), []string{all[0]})
			f.want("picked", f.pick(task.Cancel, store.Query{Since: at(2), Until: at(3), Limit: 5}).IDs, []string{all[2], all[3]})
			f.want("no lower id", list(f, store.Query{Lowest: all[4]}), []string{all[4]})
		},
		"a list that looks at few tasks goes on behind them": func(f *fixture) {
			var all []string
			for i := range 7 {
				all = append(all, f.accept(func(t *task.Task) { t.Action, t.Owner = []string{"echo", "upper"}[i%2], []string{"ana", "ben"}[i/2%2] }).ID)
			}
			pages := func(q store.Query) (pages [][]string) {
				for {
					page := must[store.Page](f)(f.List(f.Context(), q))
					ids := []string{}
					for i := range page.Tasks {
						ids = append(ids, page.Tasks[i].ID)
					}
					pages = append(pages, ids)
					if q.Cursor = page.Cursor; q.Cursor == "" {
						return pages
					}
				}
			}
			odd := store.Query{Action: "upper", Limit: 10, Look: 2}
			f.want("two at a time", pages(odd), [][]string{{all[5]}, {all[3]}, {all[1]}, {}})
			odd.Lowest = all[3]
			f.want("down to the lowest", pages(odd), [][]string{{all[5]}, {all[3]}})
			f.want("a full page", pages(store.Query{Action: "echo", Limit: 1, Look: 5}), [][]string{{all[6]}, {all[4]}, {all[2]}, {all[0]}})
			f.want("of an owner", pages(store.Query{Owner: "ana", Action: "echo", Limit: 10, Look: 2}), [][]string{{all[4]}, {all[0]}})
			f.want("all of them", pages(store.Query{Limit: 10, Look: 7}), [][]string{{all[6], all[5], all[4], all[3], all[2], all[1], all[0]}})
		},
		"a list finds the tasks of a state, also those that few have": func(f *fixture) {
			byState := map[task.State]string{}
			byState[task.Done] = f.end(f.start(), task.Succeed).Task.ID
			byState[task.Failed] = f.end(f.start(), task.Fail).Task.ID
			byState[task.Running] = f.start().ID
			byState[task.Cancelled] = f.accept().ID
			must[[]store.Changed](f)(f.Cancel(f.Context(), []string{byState[task.Cancelled]}))
			byState[task.Queued] = f.reserve(only(f.accept().ID)).ID
			byState[task.Scheduled] = f.accept(func(t *task.Task) { t.Delay = time.Hour }).ID
			for _, state := range task.States() {
				f.want(string(state), list(f, store.Query{State: state, Look: 100}), []string{byState[state]})
			}
		},
		"a list finds the tasks of a node and of a worker": func(f *fixture) {
			f.start()
			f.accept()
			t := f.enterBy("w1", f.reserve(node("n2")))
			f.want("node", list(f, store.Query{Node: "n2"}), []string{t.ID})
			f.want("worker", list(f, store.Query{Worker: "w1", Node: "n2"}), []string{t.ID})
			f.want("another", list(f, store.Query{Worker: "w1", Node: "n1"}), []string{})
		},
		"the tasks of a list have no payload, result and history": func(f *fixture) {
			f.outcome(store.Outcome{ID: f.start().ID, Fence: 1, Change: task.Succeed, Result: task.Body{Inline: []byte("1")}})
			got := must[store.Page](f)(f.List(f.Context(), store.Query{Limit: 1})).Tasks[0]
			f.want("what is left", []any{got.State, got.Payload, got.Result, len(got.History)},
				[]any{task.Done, task.Body{}, task.Body{}, 0})
		},
	}
}

func closing() sentences {
	// calls makes every call of the contract.
	calls := func(f *fixture, ctx context.Context) []error {
		var errs []error
		note := func(err error) { errs = append(errs, err) }
		_, err := f.Accept(ctx, []task.Task{f.draft()})
		note(err)
		_, err = f.Get(ctx, []string{ulid(1)})
		note(err)
		_, err = f.List(ctx, store.Query{Limit: 1})
		note(err)
		_, err = f.Waiting(ctx)
		note(err)
		_, err = f.Cancel(ctx, []string{ulid(1)})
		note(err)
		_, err = f.Retry(ctx, []string{ulid(1)})
		note(err)
		_, err = f.Claim(ctx, store.Claim{Node: "n1", Actions: []string{"upper"}, Limit: 1})
		note(err)
		_, err = f.Renew(ctx, "n1", []store.Held{{ID: ulid(1), Fence: 1}})
		note(err)
		_, err = f.Record(ctx, []store.Outcome{{ID: ulid(1), Fence: 1, Change: task.Succeed}})
		note(err)
		_, err = f.Maintain(ctx, 1)
		note(err)
		_, err = f.Recover(ctx, "n1", nil)
		note(err)
		_, err = f.Adopt(ctx, "n1", []store.Held{{ID: ulid(1), Fence: 1}})
		note(err)
		_, err = f.Reap(ctx, "n1", []store.Held{{ID: ulid(1), Fence: 1}}, "why")
		note(err)
		_, err = f.Queues(ctx)
		note(err)
		_, err = f.Pause(ctx, "default", true)
		note(err)
		_, err = f.Paused(ctx)
		note(err)
		_, err = f.Enter(ctx, []store.Entered{{ID: ulid(1), Fence: 1}})
		note(err)
		note(f.Beat(ctx, store.Node{Name: "n1"}))
		_, err = f.Nodes(ctx)
		return slices.Clip(append(errs, err))
	}
	return sentences{
		"a closed store refuses every call with unavailable": func(f *fixture) {
			if err := f.Close(); err != nil {
				f.Fatal(err)
			}
			for i, err := range calls(f, f.Context()) {
				if err == nil || task.CodeOf(err) != task.Unavailable {
					f.Errorf("call %d of a closed store: %v", i, err)
				}
			}
		},
		"a call whose context has ended is refused with unavailable and does nothing": func(f *fixture) {
			f.accept()
			ctx, cancel := context.WithCancel(f.Context())
			cancel()
			for i, err := range calls(f, ctx) {
				if err == nil || task.CodeOf(err) != task.Unavailable {
					f.Errorf("call %d after its context ended: %v", i, err)
				}
			}
			got := f.queue("default")
			f.want("queue", []any{got.Queued, got.Accepted, got.Paused}, []any{int64(1), int64(1), false})
		},
		"empty calls do nothing": func(f *fixture) {
			f.want("accepted", len(must[[]store.Accepted](f)(f.Accept(f.Context(), nil))), 0)
			f.want("got", len(must[[]task.Task](f)(f.Get(f.Context(), nil))), 0)
			f.want("cancelled", len(must[[]store.Changed](f)(f.Cancel(f.Context(), nil))), 0)
			f.want("recorded", len(must[[]store.Recorded](f)(f.Record(f.Context(), nil))), 0)
			f.want("entered", len(must[[]store.Recorded](f)(f.Enter(f.Context(), nil))), 0)
			f.want("renewed", len(must[[]store.Renewed](f)(f.Renew(f.Context(), "n1", nil))), 0)
			maintained := f.after(0)
			f.want("tended", maintained, store.Maintained{Now: maintained.Now})
		},
	}
}
