package blobtest

import (
	"errors"
	"strings"
	"time"

	"github.com/posta-tasks/posta/blob"
)

func keys() sentences {
	task := ID(1)
	bad := map[string]blob.Key{
		"no task": {}, "a short task": blob.Payload(task[1:]), "a long task": blob.Payload(task + "0"),
		"the parent": blob.Payload(".."), "a way out": blob.Payload("../" + task[3:]), "a path": blob.Payload(task[:12] + "/" + task[13:]),
		"a backslash": blob.Payload(task[:12] + `\` + task[13:]), "an end": blob.Payload(task[:25] + "\x00"),
		"small letters": blob.Payload(strings.ToLower(task)), "a dot": blob.Payload("." + task[1:]), "other letters": blob.Payload(task[:24] + "Ñ"),
		"an attempt below 1": blob.Result(task, -1),
	}
	tests := sentences{}
	for what, key := range bad {
		tests[what+" is no key"] = func(f *fixture) {
			_, err := f.Put(f.Context(), key, Body(small, small), roomy)
			f.wantError(err, blob.ErrKey)
			_, err = f.Get(f.Context(), key, blob.Sum{Size: small})
			f.wantError(err, blob.ErrKey)
			f.wantError(f.Delete(f.Context(), []blob.Key{key}), blob.ErrKey)
			f.wantListed()
		}
	}
	return tests
}

func remove() sentences {
	return sentences{
		"a deleted body is gone": func(f *fixture) {
			key := blob.Payload(f.task())
			f.put(key, small)
			f.wantError(f.Delete(f.Context(), []blob.Key{key}), nil)
			f.wantNone(key)
			f.wantListed()
		},
		"bodies are deleted by key, and the others stay": func(f *fixture) {
			one, two := f.task(), f.task()
			payload, result := f.put(blob.Payload(one), 1), f.put(blob.Result(one, 2), 2)
			f.put(blob.Result(one, 1), 3)
			f.put(blob.Payload(two), 4)
			f.wantError(f.Delete(f.Context(), []blob.Key{blob.Result(one, 1), blob.Payload(two)}), nil)
			f.wantListed(blob.Result(one, 2), blob.Payload(one))
			f.wantBody(blob.Payload(one), payload)
			f.wantBody(blob.Result(one, 2), result)
		},
		"what is not there is no error, and does not keep others": func(f *fixture) {
			key := blob.Payload(f.task())
			f.put(key, small)
			f.wantError(f.Delete(f.Context(), []blob.Key{blob.Payload(f.task()), key, key, blob.Result(f.task(), 3)}), nil)
			f.wantListed()
		},
		"nothing can be deleted": func(f *fixture) {
			f.wantError(f.Delete(f.Context(), nil), nil)
		},
		"a thousand and more are deleted at once": func(f *fixture) {
			var all []blob.Key
			for range 1_100 {
				all = append(all, blob.Payload(f.task()))
			}
			f.put(all[0], small)
			f.put(all[1_099], small)
			f.wantError(f.Delete(f.Context(), all), nil)
			f.wantListed()
		},
	}
}

func list() sentences {
	return sentences{
		"empty storage has nothing to list": func(f *fixture) { f.wantListed() },
		"each body is listed once, with its size and the time when it was put": func(f *fixture) {
			sizes := map[blob.Key]int64{}
			for i := range 5 {
				task := f.task()
				sizes[blob.Payload(task)] = int64(i)
				sizes[blob.Result(task, 1)] = 100
				sizes[blob.Result(task, 10)] = 1000
			}
			for key, size := range sizes {
				f.put(key, size)
			}
			for found, err := range f.List(f.Context(), f.soon()) {
				if err != nil {
					f.Fatal(err)
				}
				if size, open := sizes[found.Key]; !open || size != found.Size {
					f.Errorf("%v is listed, of %d bytes (%t)", found, size, open)
				}
				if age := time.Since(found.Modified); age < -time.Minute || age > time.Minute {
					f.Errorf("%s was put %s ago", found.Key, age)
				}
				delete(sizes, found.Key)
			}
			if len(sizes) != 0 {
				f.Errorf("not listed: %v", sizes)
			}
		},
		"more are listed than anybody holds at once": func(f *fixture) {
			var all []blob.Key
			for range 600 {
				all = append(all, blob.Payload(f.task()))
			}
			together(4, func(n int) {
				for _, key := range all[n*150 : (n+1)*150] {
					f.put(key, 1)
				}
			})
			f.wantListed(all...)
		},
	}
}

func partial() sentences {
	return sentences{
		"younger ones are left out": func(f *fixture) {
			f.put(blob.Payload(f.task()), small)
			if found := f.listed(f.longAgo()); len(found) != 0 {
				f.Errorf("%v are listed as old", found)
			}
			if found := f.listed(time.Time{}); len(found) != 0 {
				f.Errorf("%v are older than time", found)
			}
		},
		"a list may be left before its end": func(f *fixture) {
			f.put(blob.Payload(f.task()), 1)
			f.put(blob.Payload(f.task()), 1)
			seen := 0
			for _, err := range f.List(f.Context(), f.soon()) {
				f.wantError(err, nil)
				seen++
				break
			}
			if seen != 1 {
				f.Errorf("%d bodies", seen)
			}
		},
		"bodies may be deleted as they are listed": func(f *fixture) {
			for range 20 {
				f.put(blob.Payload(f.task()), 1)
			}
			for found, err := range f.List(f.Context(), f.soon()) {
				f.wantError(err, nil)
				f.wantError(f.Delete(f.Context(), []blob.Key{found.Key}), nil)
			}
			f.wantListed()
		},
	}
}

func unfinished() sentences {
	removeUnfinished := func(f *fixture, before time.Time) int {
		f.Helper()
		n, err := f.RemoveUnfinished(f.Context(), before)
		f.wantError(err, nil)
		return n
	}
	return sentences{
		"what was cut off is no body": func(f *fixture) {
			f.CutOff()
			f.wantListed()
		},
		"an unfinished Put is removed once it is old": func(f *fixture) {
			f.CutOff()
			f.CutOff()
			if n := removeUnfinished(f, f.longAgo()); n != 0 {
				f.Errorf("%d recent unfinished Puts were removed", n)
			}
			if n := removeUnfinished(f, f.soon()); n < 2 {
				f.Errorf("%d unfinished Puts were removed, want 2", n)
			}
			if n := removeUnfinished(f, f.soon()); n != 0 {
				f.Errorf("%d more unfinished Puts were removed", n)
			}
		},
		"removing unfinished Puts removes no bodies": func(f *fixture) {
			payload, result := blob.Payload(f.task()), blob.Result(f.task(), 1)
			one, two := f.put(payload, small), f.put(result, large)
			if n := removeUnfinished(f, f.soon()); n != 0 {
				f.Errorf("%d unfinished Puts were removed", n)
			}
			f.wantBody(payload, one)
			f.wantBody(result, two)
		},
		"puts and deletes leave nothing unfinished": func(f *fixture) {
			for i := range 4 {
				task := f.task()
				f.put(blob.Payload(task), small)
				f.put(blob.Result(task, 1), small)
				_, err := f.Put(f.Context(), blob.Result(task, 2), Body(9, large), int64(i))
				f.wantError(err, blob.ErrTooLarge)
				lost := errors.New("the client has gone")
				_, err = f.Put(f.Context(), blob.Result(task, 3), breaksAfter(1, Body(9, large), lost), roomy)
				f.wantError(err, lost)
				f.wantError(f.Delete(f.Context(), []blob.Key{blob.Result(task, 1), blob.Payload(task)}), nil)
			}
			f.wantListed()
			if n := removeUnfinished(f, f.soon()); n != 0 {
				f.Errorf("%d unfinished Puts were removed", n)
			}
		},
	}
}
