package storetest

import (
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// texts is about texts that one store can keep and another cannot. The doors refuse them; these tests check
// what the engine relies on if one gets through.
func texts() sentences {
	return sentences{
		"a task that cannot be stored makes its call fail with internal, and the others can be accepted without it": func(f *fixture) {
			for _, spoil := range []edit{
				func(t *task.Task) { t.Action = "a\x00b" }, func(t *task.Task) { t.Queue = "q\x00" }, func(t *task.Task) { t.Key = "k\x00y" },
				func(t *task.Task) { t.Node = "n\x00" }, func(t *task.Task) { t.Action = "a\xffb" }, func(t *task.Task) { t.Key = "\xed\xa0\x80" },
				func(t *task.Task) { t.Meta = map[string]string{"a\x00": "\xff"} },
			} {
				list := []task.Task{f.draft(), f.draft(spoil), f.draft()}
				answers, err := f.Accept(f.Context(), list)
				if err != nil {
					f.want("code", task.CodeOf(err), task.Internal)
					answers = must[[]store.Accepted](f)(f.Accept(f.Context(), []task.Task{list[0], list[2]}))
				}
				for _, a := range answers {
					if a.Refusal != nil || a.Duplicate && !a.SameRequest {
						f.Errorf("%q: the answer to a task is %+v", list[1].Action, a)
					}
				}
			}
		},
		"an invalid id is unknown, or makes its call fail with internal": func(f *fixture) {
			t := f.accept()
			for _, id := range []string{"a\x00", "\xff"} {
				found, err := f.Get(f.Context(), []string{t.ID, id})
				if err == nil {
					f.want("tasks", []string{found[0].ID, found[1].ID}, []string{t.ID, ""})
				} else {
					f.want("code", task.CodeOf(err), task.Internal)
				}
				_, err = f.Claim(f.Context(), store.Claim{Node: "n1", Actions: []string{"none"}, IDs: []string{t.ID, id}, Limit: 2})
				if err != nil {
					f.want("code", task.CodeOf(err), task.Internal)
				}
			}
			f.state(t, task.Queued)
		},
		"texts of an attempt are stored byte by byte": func(f *fixture) {
			for _, text := range []string{"a\x00b", "\x1b[2J\u009b\u202e", "\xff\xfe", "\xed\xa0\x80", "é\u2028€😀\r\n\t"} {
				t := f.start()
				f.renew("n1", store.Held{ID: t.ID, Fence: t.Fence, Progress: &task.Progress{Percent: 5, Message: text}})
				f.want("progress", f.get(t).Progress.Message, text)
				f.outcome(store.Outcome{ID: t.ID, Fence: t.Fence, Change: task.Fail, Error: text})
				failed := f.get(t)
				f.want("error", []string{failed.Error, failed.History[2].Error}, []string{text, text})
				t = f.start()
				f.outcome(store.Outcome{ID: t.ID, Fence: t.Fence, Change: task.Succeed, Result: task.Body{Inline: []byte(text)}})
				f.want("result", string(f.get(t).Result.Inline), text)
			}
		},
	}
}
