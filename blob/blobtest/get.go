package blobtest

import (
	"context"
	"io"
	"math/rand/v2"
	"testing/iotest"

	"github.com/posta-tasks/posta/blob"
)

func get() sentences {
	return sentences{
		"what is not there is not found": func(f *fixture) {
			task := f.task()
			f.wantNone(blob.Payload(task))
			f.wantNone(blob.Result(task, 1))
			f.put(blob.Payload(task), small)
			f.wantNone(blob.Result(task, 1))
		},
		"a stream is a proper reader": func(f *fixture) {
			key := blob.Payload(f.task())
			sum := f.put(key, large)
			stream, err := f.Get(f.Context(), key, sum)
			if err != nil {
				f.Fatal(err)
			}
			defer stream.Close()
			want, _ := io.ReadAll(Body(large, large))
			if err := iotest.TestReader(stream, want); err != nil {
				f.Error(err)
			}
		},
		"the end stays the end": func(f *fixture) {
			for _, size := range []int64{0, small} {
				key := blob.Payload(f.task())
				stream, err := f.Get(f.Context(), key, f.put(key, size))
				if err != nil {
					f.Fatal(err)
				}
				defer stream.Close()
				_, err = io.Copy(io.Discard, stream)
				f.wantError(err, nil)
				for range 3 {
					if n, err := stream.Read(make([]byte, 10)); n != 0 || err != io.EOF {
						f.Errorf("after the end there are %d bytes, %v", n, err)
					}
				}
			}
		},
		"a stream may be closed before its end": func(f *fixture) {
			key := blob.Payload(f.task())
			stream, err := f.Get(f.Context(), key, f.put(key, large))
			if err != nil {
				f.Fatal(err)
			}
			_, err = io.ReadFull(stream, make([]byte, 10))
			f.wantError(err, nil)
			f.wantError(stream.Close(), nil)
		},
		"a body can be read many times, and at once": func(f *fixture) {
			key := blob.Payload(f.task())
			sum := f.put(key, large)
			together(8, func(int) { f.wantBody(key, sum) })
		},
	}
}

func corruption() sentences {
	tests := sentences{
		"another size is noticed at once": func(f *fixture) {
			key := blob.Payload(f.task())
			sum := f.put(key, small)
			for _, size := range []int64{0, small - 1, small + 1} {
				_, err := f.Get(f.Context(), key, blob.Sum{Size: size, SHA256: sum.SHA256})
				f.wantError(err, blob.ErrCorrupt)
			}
		},
		"another sum is noticed before the last bytes are given": func(f *fixture) {
			key := blob.Payload(f.task())
			sum := f.put(key, large)
			sum.SHA256 = f.sumOf(Body(1, large)).SHA256
			got, err := f.read(key, sum)
			f.wantError(err, blob.ErrCorrupt)
			if len(got) >= large {
				f.Errorf("all %d bytes were given", len(got))
			}
		},
		"an empty body is checked as well": func(f *fixture) {
			key := blob.Payload(f.task())
			f.put(key, 0)
			_, err := f.read(key, blob.Sum{SHA256: f.sumOf(Body(1, 1)).SHA256})
			f.wantError(err, blob.ErrCorrupt)
		},
		"a stream that has failed goes on failing": func(f *fixture) {
			key := blob.Payload(f.task())
			sum := f.put(key, small)
			f.Spoil(key, flip(0))
			stream, err := f.Get(f.Context(), key, sum)
			if err != nil {
				f.Fatal(err)
			}
			defer stream.Close()
			for range 3 {
				_, err := io.ReadAll(stream)
				f.wantError(err, blob.ErrCorrupt)
			}
		},
	}
	spoilt := map[string]func([]byte) []byte{
		"the first byte": flip(0), "the last byte": flip(-1), "a byte in the middle": flip(large / 2), "any byte": flip(rand.IntN(large)),
		"a body cut short":     func(b []byte) []byte { return b[:len(b)-1] },
		"a body cut to naught": func([]byte) []byte { return nil },
		"a body with more":     func(b []byte) []byte { return append(b, 0) },
		"zeroes":               func(b []byte) []byte { return make([]byte, len(b)) },
	}
	for what, edit := range spoilt {
		tests[what+" is noticed"] = func(f *fixture) {
			key := blob.Payload(f.task())
			sum := f.put(key, large)
			f.Spoil(key, edit)
			got, err := f.read(key, sum)
			f.wantError(err, blob.ErrCorrupt)
			if len(got) >= large {
				f.Errorf("all %d bytes were given", len(got))
			}
		}
	}
	return tests
}

func cancellation() sentences {
	return sentences{
		"a caller who has gone gets nothing, and leaves nothing": func(f *fixture) {
			key := blob.Payload(f.task())
			sum := f.put(key, small)
			ctx, cancel := f.canceled()
			cancel()
			_, err := f.Get(ctx, key, sum)
			f.wantError(err, context.Canceled)
			f.wantError(f.Delete(ctx, []blob.Key{key}), context.Canceled)
			for _, err := range f.List(ctx, f.soon()) {
				f.wantError(err, context.Canceled)
			}
			_, err = f.RemoveUnfinished(ctx, f.soon())
			f.wantError(err, context.Canceled)
			f.wantBody(key, sum)
			other := blob.Payload(f.task())
			_, err = f.Put(ctx, other, Body(small, small), roomy)
			f.wantError(err, context.Canceled)
			f.wantNone(other)
		},
		"a put whose caller goes leaves nothing": func(f *fixture) {
			key := blob.Payload(f.task())
			ctx, cancel := f.canceled()
			reads := 0
			body := hooked{Body(large, large), func() error {
				if reads++; reads == 3 {
					cancel()
				}
				return nil
			}}
			_, err := f.Put(ctx, key, body, roomy)
			f.wantError(err, context.Canceled)
			f.wantNone(key)
		},
		"a stream whose caller goes ends": func(f *fixture) {
			key := blob.Payload(f.task())
			ctx, cancel := f.canceled()
			stream, err := f.Get(ctx, key, f.put(key, large))
			if err != nil {
				f.Fatal(err)
			}
			defer stream.Close()
			if _, err := io.ReadFull(stream, make([]byte, 10)); err != nil {
				f.Error(err)
			}
			cancel()
			_, err = io.ReadAll(stream)
			f.wantError(err, context.Canceled)
		},
	}
}

func closing() sentences {
	return sentences{
		"closed storage refuses all": func(f *fixture) {
			key := blob.Payload(f.task())
			sum := f.put(key, small)
			other := f.Again()
			f.wantError(other.Close(), nil)
			_, err := other.Put(f.Context(), blob.Payload(f.task()), Body(small, small), roomy)
			f.wantError(err, blob.ErrUnavailable)
			_, err = other.Get(f.Context(), key, sum)
			f.wantError(err, blob.ErrUnavailable)
			f.wantError(other.Delete(f.Context(), []blob.Key{key}), blob.ErrUnavailable)
			for _, err := range other.List(f.Context(), f.soon()) {
				f.wantError(err, blob.ErrUnavailable)
			}
			_, err = other.RemoveUnfinished(f.Context(), f.soon())
			f.wantError(err, blob.ErrUnavailable)
			f.wantListed(key)
		},
		"an open stream is left to its reader": func(f *fixture) {
			key := blob.Payload(f.task())
			sum := f.put(key, large)
			other := f.Again()
			stream, err := other.Get(f.Context(), key, sum)
			if err != nil {
				f.Fatal(err)
			}
			defer stream.Close()
			f.wantError(other.Close(), nil)
			if n, err := io.Copy(io.Discard, stream); n != large || err != nil {
				f.Errorf("%d bytes, %v", n, err)
			}
		},
		"closing twice is no error": func(f *fixture) {
			other := f.Again()
			f.wantError(other.Close(), nil)
			f.wantError(other.Close(), nil)
		},
	}
}
