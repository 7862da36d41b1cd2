package storetest

import (
	"slices"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// owners is about the owner of a task, and about which tasks a client may see.
func owners() sentences {
	ownedBy := func(owner string) edit { return func(t *task.Task) { t.Owner = owner } }
	listed := func(f *fixture, q store.Query) (ids []string) {
		q.Limit = max(q.Limit, 1)
		for {
			page := must[store.Page](f)(f.List(f.Context(), q))
			for i := range page.Tasks {
				ids = append(ids, page.Tasks[i].ID)
			}
			if q.Cursor = page.Cursor; q.Cursor == "" {
				return ids
			}
		}
	}
	return sentences{
		"a task keeps its owner through its life": func(f *fixture) {
			t := f.accept(ownedBy("ana"))
			f.want("owner", f.get(t).Owner, "ana")
			claimed := must[[]task.Task](f)(f.Claim(f.Context(), store.Claim{Node: "n1", Actions: []string{"upper"}, IDs: []string{t.ID}, Limit: 1}))
			f.want("claimed", claimed[0].Owner, "ana")
			f.outcome(store.Outcome{ID: t.ID, Fence: claimed[0].Fence, Change: task.Fail, Error: "x"})
			f.want("failed", f.get(t).Owner, "ana")
			retried := must[[]store.Changed](f)(f.Retry(f.Context(), []string{t.ID}))
			f.want("retried", retried[0].Task.Owner, "ana")
			f.want("list", listed(f, store.Query{Owner: "ana"}), []string{t.ID})
		},
		"a list of an owner has its tasks only, page by page": func(f *fixture) {
			var anas []string
			for range 3 {
				anas = append(anas, f.accept(ownedBy("ana")).ID)
				f.accept(ownedBy("ben"))
				f.accept()
			}
			done := f.accept(ownedBy("ana"))
			must[[]store.Changed](f)(f.Cancel(f.Context(), []string{done.ID}))
			anas = append(anas, done.ID)
			slices.Reverse(anas)
			for _, limit := range []int{1, 2, 10} {
				f.want("ids", listed(f, store.Query{Owner: "ana", Limit: limit}), anas)
			}
			f.want("queued", listed(f, store.Query{Owner: "ana", State: task.Queued}), anas[1:])
			f.want("nobody's", listed(f, store.Query{Owner: "an"}), []string(nil))
		},
		"a list and a pick have only the tasks that are allowed": func(f *fixture) {
			var allowed []string
			for i := range 6 {
				if t := f.accept(ownedBy([]string{"ana", "ben", ""}[i%3])); i%3 == 1 {
					allowed = append(allowed, t.ID)
				}
			}
			bens := func(t *task.Task) bool { return t.Owner == "ben" }
			picked := must[store.Picked](f)(f.Pick(f.Context(), task.Cancel, store.Query{Allows: bens, Limit: 10}))
			f.want("picked", picked.IDs, allowed)
			picked = must[store.Picked](f)(f.Pick(f.Context(), task.Cancel, store.Query{Owner: "ben", Limit: 1}))
			f.want("first", picked.IDs, allowed[:1])
			slices.Reverse(allowed)
			for _, limit := range []int{1, 10} {
				f.want("listed", listed(f, store.Query{Allows: bens, Limit: limit}), allowed)
			}
			f.want("both", listed(f, store.Query{Owner: "ana", Allows: bens}), []string(nil))
		},
	}
}
