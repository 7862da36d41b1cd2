package blobtest

import (
	"slices"
	"testing"

	"github.com/posta-tasks/posta/blob"
)

// Full tests storage that is full, or whose server is unreachable, against the contract. spend uses up the
// space until at most left bytes are free, and returns a function that frees it again. Existing bodies must
// still be readable if readable says so.
func Full(t *testing.T, storage Storage, spend func(left int64) (restore func()), readable bool) {
	f := newFixture(t, Driver{Open: func(*testing.T) Storage { return storage }})
	kept := blob.Payload(f.task())
	sum := f.put(kept, large)
	var refused []blob.Key
	for _, left := range []int64{large / 2, 0} {
		restore := spend(left)
		for _, key := range []blob.Key{blob.Payload(f.task()), blob.Result(f.task(), 1), blob.Result(kept.Task, int(left)+1)} {
			refused = append(refused, key)
			_, err := f.Put(f.Context(), key, Body(large, large), roomy)
			f.wantError(err, blob.ErrUnavailable)
		}
		if readable {
			f.wantBody(kept, sum)
			f.wantListed(kept)
		}
		restore()
		for _, key := range refused {
			f.wantNone(key)
		}
		again := refused[len(refused)-1]
		f.wantBody(again, f.put(again, large))
		refused = slices.DeleteFunc(refused, func(k blob.Key) bool { return k == again })
		f.wantError(f.Delete(f.Context(), []blob.Key{again}), nil)
	}
	if n, err := f.RemoveUnfinished(f.Context(), f.soon()); n != 0 || err != nil {
		f.Errorf("%d things were left, %v", n, err)
	}
}
