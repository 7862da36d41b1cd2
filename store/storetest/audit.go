package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// done ends the test if a call has failed.
func (f *fixture) done(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// audit is about who made a change.
func audit() sentences {
	ana := task.Author{Who: "key:a", Name: "ñ <b>", Key: ""}
	as := func(f *fixture) context.Context { return task.WithAudit(f.Context(), task.Audited{Author: ana}) }
	whole := func(f *fixture, query store.AuditQuery) []task.AuditEntry {
		f.Helper()
		query.Limit = store.MaxAuditPage
		return must[store.AuditPage](f)(f.Audit(f.Context(), query)).Entries
	}
	type line struct {
		Verb  task.AuditVerb
		What  string
		Count int64
	}
	lines := func(f *fixture) (list []line) {
		f.Helper()
		for _, e := range whole(f, store.AuditQuery{}) {
			if e.Author != ana || e.At.IsZero() {
				f.Errorf("%+v", e)
			}
			list = append(list, line{e.Verb, e.What, e.Count})
		}
		return list
	}
	return sentences{
		"each change of a task for a client has an entry, and what changes nothing has none": func(f *fixture) {
			a, b := f.accept(), f.accept()
			must[[]store.Changed](f)(f.Cancel(as(f), []string{a.ID, "none", b.ID}))
			must[[]store.Changed](f)(f.Cancel(as(f), []string{a.ID}))
			must[[]store.Changed](f)(f.Retry(as(f), []string{a.ID}))
			must[[]store.Changed](f)(f.Retry(as(f), []string{a.ID}))
			must[[]store.Changed](f)(f.Cancel(f.Context(), []string{a.ID})) // a node does it by itself
			f.want("entries", lines(f), []line{{task.AuditRetry, a.ID, 1}, {task.AuditCancel, b.ID, 1}, {task.AuditCancel, a.ID, 1}})
		},
		"the calls of a change by filter have one entry together": func(f *fixture) {
			a, b, c := f.accept(), f.accept(), f.accept()
			filter := json.RawMessage(`{"queue":"<\u0000ñ>"}`)
			some := task.WithAudit(f.Context(), task.Audited{Author: ana, Bulk: "1", Filter: filter})
			must[[]store.Changed](f)(f.Cancel(some, []string{a.ID, b.ID}))
			must[[]store.Changed](f)(f.Cancel(some, []string{b.ID}))
			must[[]store.Changed](f)(f.Cancel(some, []string{c.ID}))
			again := task.WithAudit(f.Context(), task.Audited{Author: ana, Bulk: "2", Filter: filter})
			must[[]store.Changed](f)(f.Cancel(again, []string{c.ID}))
			must[[]store.Changed](f)(f.Retry(again, []string{c.ID}))
			f.want("entries", lines(f), []line{{task.AuditRetry, "", 1}, {task.AuditCancel, "", 3}})
			f.want("filter", string(whole(f, store.AuditQuery{})[1].Detail), string(filter))
		},
		"queues and keys have entries": func(f *fixture) {
			f.accept()
			for _, paused := range []bool{false, true, true, false} {
				must[int64](f)(f.Pause(as(f), "default", paused))
			}
			must[task.AccessKey](f)(f.AddKey(as(f), task.AccessKey{ID: "k", Name: "web", Grants: []string{"see:*"}}))
			_, _ = f.AddKey(as(f), task.AccessKey{ID: "k"})
			must[task.AccessKey](f)(f.RevokeKey(as(f), "k"))
			must[task.AccessKey](f)(f.RevokeKey(as(f), "k"))
			f.want("entries", lines(f), []line{
				{task.AuditRevokeKey, "k", 1}, {task.AuditCreateKey, "k", 1}, {task.AuditResume, "default", 1}, {task.AuditPause, "default", 1},
			})
			f.want("detail", string(whole(f, store.AuditQuery{Verb: task.AuditCreateKey})[0].Detail), `{"name":"web","grants":["see:*"]}`)
		},
		"entries are found by who, verb and time, and page by page": func(f *fixture) {
			var at []time.Time
			for i := range 6 {
				e := task.AuditEntry{Author: task.Author{Who: []string{"ana", "", "bob"}[i%3], Key: "k"}, Verb: task.AuditVerbs()[i%2], What: string(rune('a' + i)), Count: 1}
				f.done(f.AddAudit(f.Context(), []task.AuditEntry{e}))
				at = append(at, whole(f, store.AuditQuery{})[0].At)
				f.clock.Advance(time.Minute)
			}
			names := func(list []task.AuditEntry) (text string) {
				for _, e := range list {
					text += e.What
				}
				return text
			}
			for want, query := range map[string]store.AuditQuery{
				"fedcba": {}, "da": {Who: "ana"}, "eca": {Verb: task.AuditCancel}, "a": {Who: "ana", Verb: task.AuditCancel},
				"fed": {Since: at[3]}, "ba": {Until: at[1]}, "cb": {Since: at[1], Until: at[2]},
			} {
				f.want("entries", names(whole(f, query)), want)
			}
			pages, query := "", store.AuditQuery{Limit: 4}
			for {
				page := must[store.AuditPage](f)(f.Audit(f.Context(), query))
				pages += names(page.Entries) + "|"
				if query.Before = page.Next; page.Next == 0 {
					break
				}
			}
			f.want("pages", pages, "fedc|ba|")
		},
		"a copy has the audit, also after an interruption": func(f *fixture) {
			for _, what := range []string{"a", "b", "c"} {
				f.done(f.AddAudit(f.Context(), []task.AuditEntry{{Author: ana, Verb: task.AuditMintPass, What: what, Count: 1, Detail: json.RawMessage("{}")}}))
				f.clock.Advance(time.Second)
			}
			other := f.another(store.Limits{Audit: manyEntries})
			want := whole(f, store.AuditQuery{})
			f.done(other.AddAudit(f.Context(), want[2:]))
			if _, err := f.copyTo(other); !errors.Is(err, store.ErrNotEmpty) {
				f.Errorf("a copy to a store with an audit returns %v", err)
			}
			must[store.Copied](f)(f.copyTo(other, func(cfg *store.CopyConfig) { cfg.Resume = true }))
			got := whole(other, store.AuditQuery{})
			for i := range got {
				got[i].Seq = want[i].Seq
			}
			f.want("entries", got, want)
		},
		"old entries are deleted": func(f *fixture) {
			now := must[store.Maintained](f)(f.Maintain(f.Context(), 1)).Now
			old := task.AuditEntry{Verb: task.AuditMintPass, What: "old", Count: 1, At: now.Add(-task.AuditKept - time.Hour)}
			young := task.AuditEntry{Verb: task.AuditMintPass, What: "young", Count: 1, At: now.Add(-task.AuditKept + time.Hour)}
			f.done(f.AddAudit(f.Context(), []task.AuditEntry{old, young}))
			f.done(f.SweepAudit(f.Context()))
			left := whole(f, store.AuditQuery{})
			if len(left) != 1 || left[0].What != "young" || !left[0].At.Equal(young.At.Truncate(time.Millisecond)) {
				f.Errorf("left: %+v", left)
			}
		},
		"a change by filter in many parts displaces no other entries": func(f *fixture) {
			f.done(f.AddAudit(f.Context(), []task.AuditEntry{{Verb: task.AuditMintPass, What: "first", Count: 1}}))
			for range 2 * manyEntries {
				f.done(f.AddAudit(f.Context(), []task.AuditEntry{{Verb: task.AuditCancel, Count: 2, Bulk: "1"}}))
			}
			f.done(f.AddAudit(f.Context(), []task.AuditEntry{{Verb: task.AuditMintPass, What: "last", Count: 1}}))
			left := whole(f, store.AuditQuery{})
			if len(left) != 3 || left[1].Count != 4*manyEntries || left[2].What != "first" {
				f.Errorf("left: %+v", left)
			}
		},
		"the oldest of too many entries are deleted": func(f *fixture) {
			for i := range manyEntries + 3 {
				f.done(f.AddAudit(f.Context(), []task.AuditEntry{{Verb: task.AuditMintPass, What: string(rune('a' + i)), Count: 1}}))
			}
			left := whole(f, store.AuditQuery{})
			if len(left) != manyEntries || left[len(left)-1].What != "d" {
				f.Errorf("left: %+v", left)
			}
		},
	}
}
