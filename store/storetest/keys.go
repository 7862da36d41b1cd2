package storetest

import (
	"fmt"
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

func keys() sentences {
	payload := func(s string) edit { return func(t *task.Task) { t.Payload = task.Body{Inline: []byte(s)} } }
	blob := func(size int64, sum string) edit {
		return func(t *task.Task) { t.Payload = task.Body{Size: size, SHA256: sum} }
	}
	return sentences{
		"the answer to a second task with a key is the first task": func(f *fixture) {
			first := f.accept(withKey("k"))
			second := f.offer(withKey("k"))
			f.want("answer", []any{second.Duplicate, second.SameRequest, second.Task.ID}, []any{true, true, first.ID})
			f.want("stored", f.queue("default").Accepted, int64(1))
		},
		"in one call, a duplicate of an earlier task also makes later tasks wait": func(f *fixture) {
			list := []task.Task{f.draft(withKey("k")), f.draft(withKey("k")), f.draft(withKey("l"))}
			list[2].ID = list[1].ID
			got := must[[]store.Accepted](f)(f.Accept(f.Context(), list))
			f.want("duplicates", []bool{got[0].Duplicate, got[1].Duplicate, got[2].Duplicate}, []bool{false, true, false})
			f.want("holder", got[1].Task.ID, list[0].ID)
		},
		"another action or payload is not the same request": func(f *fixture) {
			f.accept(withKey("k"))
			for _, other := range []edit{withEcho, payload(`"hola" `), payload(""), blob(6, "ab")} {
				answer := f.offer(withKey("k"), other)
				f.want("answer", []bool{answer.Duplicate, answer.SameRequest}, []bool{true, false})
			}
		},
		"blobs are the same by digest and size": func(f *fixture) {
			f.accept(withKey("k"), blob(7, "ab"))
			f.want("same", f.offer(withKey("k"), blob(7, "ab")).SameRequest, true)
			f.want("other digest", f.offer(withKey("k"), blob(7, "cd")).SameRequest, false)
			f.want("other size", f.offer(withKey("k"), blob(8, "ab")).SameRequest, false)
		},
		"other options do not make another request": func(f *fixture) {
			f.accept(withKey("k"))
			f.want("same", f.offer(withKey("k"), withPriority(task.High), f.in(time.Hour)).SameRequest, true)
		},
	}
}

func keptKeys() sentences {
	return sentences{
		"each queue has keys of its own, and tasks without a key are never duplicates": func(f *fixture) {
			f.accept(withKey("k"))
			f.accept(withKey("k"), inQueue("mail"))
			f.accept(withKey("K"))
			f.accept()
			f.accept()
		},
		"in one batch the first task gets the key": func(f *fixture) {
			a, b := f.draft(withKey("k")), f.draft(withKey("k"))
			got := must[[]store.Accepted](f)(f.Accept(f.Context(), []task.Task{a, b}))
			f.want("ids", []string{got[0].Task.ID, got[1].Task.ID}, []string{a.ID, a.ID})
			f.want("duplicates", []bool{got[0].Duplicate, got[1].Duplicate}, []bool{false, true})
		},
		"a finished task has its key, and its result, while it is kept": func(f *fixture) {
			t := f.start(withKey("k"))
			f.outcome(store.Outcome{ID: t.ID, Fence: 1, Change: task.Succeed, Result: task.Body{Inline: []byte("1")}})
			answer := f.offer(withKey("k"))
			f.want("answer", []any{answer.Duplicate, answer.Task.ID, answer.Task.State, string(answer.Task.Result.Inline)},
				[]any{true, t.ID, task.Done, "1"})
		},
		"a key is free when its task has been deleted": func(f *fixture) {
			f.end(f.start(withKey("k")), task.Succeed)
			f.after(time.Hour)
			f.accept(withKey("k"))
		},
		"a retried task still has its key": func(f *fixture) {
			t := f.start(withKey("k"))
			f.end(t, task.Fail)
			f.retry(t)
			f.want("id", f.offer(withKey("k")).Task.ID, t.ID)
		},
		"a batch has answers of every kind": mixedAccepts,
	}
}

func mixedAccepts(f *fixture) {
	f.accept(withKey("k"))
	batch := []task.Task{f.draft(), f.draft(withKey("k")), f.draft(withKey("k"), withEcho), f.draft(f.in(time.Hour))}
	for range smallBacklog + 1 {
		batch = append(batch, f.draft(inQueue("small")))
	}
	answers := ""
	for _, a := range must[[]store.Accepted](f)(f.Accept(f.Context(), batch)) {
		switch {
		case a.Refusal != nil:
			answers += fmt.Sprintf("%s ", a.Refusal.Code)
		case a.Duplicate:
			answers += fmt.Sprintf("duplicate:%t ", a.SameRequest)
		default:
			answers += fmt.Sprintf("%s ", a.Task.State)
		}
	}
	f.want("answers", answers, "queued duplicate:true duplicate:false scheduled queued queued queued overloaded ")
}
