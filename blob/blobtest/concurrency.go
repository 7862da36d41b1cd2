package blobtest

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/posta-tasks/posta/blob"
)

// together calls act n times at once, and returns when all calls have.
func together(n int, act func(n int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { act(i) })
	}
	all.Wait()
}

func concurrency() sentences {
	return sentences{
		"of different bodies under one key one wins, whole": func(f *fixture) {
			key, other := blob.Payload(f.task()), f.Again()
			defer other.Close()
			var won atomic.Int32
			var sum atomic.Pointer[blob.Sum]
			together(8, func(n int) {
				by := []blob.Blobs{f.Blobs, other}[n%2]
				answer, err := by.Put(f.Context(), key, Body(uint64(large+n), int64(large+n)), roomy)
				if err == nil {
					won.Add(1)
					sum.Store(&answer)
					return
				}
				f.wantError(err, blob.ErrExists)
			})
			if won.Load() != 1 {
				f.Fatalf("%d were answered", won.Load())
			}
			f.wantBody(key, *sum.Load())
			f.wantListed(key)
		},
		"of the same body under one key all win": func(f *fixture) {
			key := blob.Payload(f.task())
			together(8, func(int) { f.put(key, large) })
			f.wantListed(key)
		},
		"readers see all of a body or none": func(f *fixture) {
			key := blob.Payload(f.task())
			sum := f.sumOf(Body(large, large))
			var done atomic.Bool
			together(4, func(n int) {
				if n == 0 {
					f.put(key, large)
					done.Store(true)
					return
				}
				for last := false; !last; {
					last = done.Load()
					if _, err := f.read(key, sum); err != nil {
						f.wantError(err, blob.ErrNotFound)
					}
				}
			})
			f.wantBody(key, sum)
		},
	}
}

func meanwhile() sentences {
	return sentences{
		"a task's bodies come while others of it go": func(f *fixture) {
			task, last := f.task(), [4]blob.Sum{}
			together(4, func(n int) {
				key := blob.Result(task, n+1)
				for i := range 25 {
					f.wantError(f.Delete(f.Context(), []blob.Key{key}), nil)
					last[n] = f.put(key, int64(i))
				}
			})
			for n, sum := range last {
				f.wantBody(blob.Result(task, n+1), sum)
			}
		},
		"removing unfinished Puts does not disturb running ones": func(f *fixture) {
			var done atomic.Bool
			together(3, func(n int) {
				if n == 0 {
					for !done.Load() {
						if _, err := f.RemoveUnfinished(f.Context(), f.longAgo()); err != nil {
							f.wantError(err, nil)
							return
						}
					}
					return
				}
				defer done.Store(true)
				for i := range 25 {
					f.put(blob.Result(ID(100*n+i), 1), small)
				}
			})
		},
		"a body that is deleted while it is read ends well, or as unavailable": func(f *fixture) {
			key := blob.Payload(f.task())
			stream, err := f.Get(f.Context(), key, f.put(key, large))
			if err != nil {
				f.Fatal(err)
			}
			defer stream.Close()
			_, err = io.ReadFull(stream, make([]byte, 10))
			f.wantError(err, nil)
			f.wantError(f.Delete(f.Context(), []blob.Key{key}), nil)
			n, err := io.Copy(io.Discard, stream)
			if err != nil && !errors.Is(err, blob.ErrUnavailable) || err == nil && n != large-10 {
				f.Errorf("%d more bytes, %v", n, err)
			}
		},
	}
}
