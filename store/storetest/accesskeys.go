package storetest

import (
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// accessKeys is about the keys of clients.
func accessKeys() sentences {
	add := func(f *fixture, id string) task.AccessKey {
		f.Helper()
		return must[task.AccessKey](f)(f.AddKey(f.Context(), task.AccessKey{ID: id, Name: "ñ " + id, Grants: []string{"see:*", "run:a"}, By: "ana"}))
	}
	return sentences{
		"keys are listed in the order in which they were made": func(f *fixture) {
			b := add(f, "b")
			f.clock.Advance(time.Second)
			a := add(f, "a")
			expires := a.Created.Add(time.Hour)
			c := must[task.AccessKey](f)(f.AddKey(f.Context(), task.AccessKey{ID: "c", Created: b.Created, Used: b.Created, Revoked: a.Created, Expires: expires, Grants: []string{"*"}}))
			f.want("keys", must[[]task.AccessKey](f)(f.AccessKeys(f.Context())), []task.AccessKey{b, c, a})
			f.want("expires", c.Expires, expires)
			if b.Created.IsZero() || b.Name != "ñ b" || !a.Created.After(b.Created) {
				f.Errorf("%+v, %+v", b, a)
			}
		},
		"an id is used once": func(f *fixture) {
			add(f, "a")
			_, err := f.AddKey(f.Context(), task.AccessKey{ID: "a", Name: "other"})
			f.want("code", task.CodeOf(err), task.Conflict)
			f.want("keys", len(must[[]task.AccessKey](f)(f.AccessKeys(f.Context()))), 1)
		},
		"a key is revoked once and stays": func(f *fixture) {
			add(f, "a")
			add(f, "b")
			first := must[task.AccessKey](f)(f.RevokeKey(f.Context(), "a"))
			f.clock.Advance(time.Minute)
			second := must[task.AccessKey](f)(f.RevokeKey(f.Context(), "a"))
			f.want("again", second, first)
			if first.Revoked.IsZero() {
				f.Error("the key is not revoked")
			}
			keys := must[[]task.AccessKey](f)(f.AccessKeys(f.Context()))
			f.want("others", keys[1].Revoked.IsZero() || keys[0].Revoked.IsZero(), true)
			_, err := f.RevokeKey(f.Context(), "none")
			f.want("code", task.CodeOf(err), store.NoKey("none").Code)
		},
		"the use of keys is noted": func(f *fixture) {
			a := add(f, "a")
			f.clock.Advance(time.Minute)
			if err := f.UseKeys(f.Context(), []string{"a", "none"}); err != nil {
				f.Fatal(err)
			}
			if used := must[[]task.AccessKey](f)(f.AccessKeys(f.Context()))[0].Used; !used.After(a.Created) {
				f.Errorf("used %s, made %s", used, a.Created)
			}
		},
	}
}
