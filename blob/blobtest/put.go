package blobtest

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing/iotest"

	"github.com/posta-tasks/posta/blob"
)

func put() sentences {
	return sentences{
		"a body is read as it was put": func(f *fixture) {
			key := blob.Payload(f.task())
			f.wantBody(key, f.put(key, small))
		},
		"the answer has the size and the SHA-256": func(f *fixture) {
			sum, err := f.Put(f.Context(), blob.Payload(f.task()), strings.NewReader("abc"), roomy)
			want := blob.Sum{Size: 3, SHA256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}
			if err != nil || sum != want {
				f.Errorf("%v, %v, want %v", sum, err, want)
			}
		},
		"an empty body is one": func(f *fixture) {
			key := blob.Payload(f.task())
			f.wantBody(key, f.put(key, 0))
		},
		"a body of many buffers is read as it was put": func(f *fixture) {
			key := blob.Payload(f.task())
			f.wantBody(key, f.put(key, large+1))
		},
		"payload, results and tasks are apart": func(f *fixture) {
			one, two := f.task(), f.task()
			sizes := map[blob.Key]int64{
				blob.Payload(one): 1, blob.Result(one, 1): 2, blob.Result(one, 12): 3, blob.Payload(two): 4, blob.Result(two, 1): 5,
			}
			sums := map[blob.Key]blob.Sum{}
			for key, size := range sizes {
				sums[key] = f.put(key, size)
			}
			for key, sum := range sums {
				f.wantBody(key, sum)
			}
		},
	}
}

func sources() sentences {
	return sentences{
		"a body may come in drops": func(f *fixture) {
			key := blob.Payload(f.task())
			sum, err := f.Put(f.Context(), key, iotest.OneByteReader(Body(small, small)), roomy)
			if err != nil {
				f.Fatal(err)
			}
			f.wantBody(key, sum)
		},
		"a body may end with its last bytes": func(f *fixture) {
			key := blob.Payload(f.task())
			sum, err := f.Put(f.Context(), key, iotest.DataErrReader(Body(small, small)), roomy)
			if err != nil {
				f.Fatal(err)
			}
			f.wantBody(key, sum)
		},
		"a body that fails is not kept, and its error is given back": func(f *fixture) {
			key, lost := blob.Payload(f.task()), errors.New("the client has gone")
			_, err := f.Put(f.Context(), key, breaksAfter(3, Body(large, large), lost), roomy)
			f.wantError(err, lost)
			f.wantNone(key)
			f.wantBody(key, f.put(key, small))
		},
		"nobody sees a body that is being put": func(f *fixture) {
			key := blob.Payload(f.task())
			body := hooked{Body(large, large), func() error { f.wantNone(key); return nil }}
			sum, err := f.Put(f.Context(), key, body, roomy)
			if err != nil {
				f.Fatal(err)
			}
			f.wantBody(key, sum)
		},
		"another process sees what was put": func(f *fixture) {
			key := blob.Payload(f.task())
			sum := f.put(key, small)
			other := f.Again()
			defer other.Close()
			stream, err := other.Get(f.Context(), key, sum)
			if err != nil {
				f.Fatal(err)
			}
			defer stream.Close()
			if _, err := io.Copy(io.Discard, stream); err != nil {
				f.Error(err)
			}
		},
	}
}

func putAgain() sentences {
	return sentences{
		"the same body again is answered like the first time": func(f *fixture) {
			key := blob.Payload(f.task())
			if first, second := f.put(key, large), f.put(key, large); first != second {
				f.Errorf("%v, then %v", first, second)
			}
			f.wantListed(key)
		},
		"another body is refused, and the first one stays": func(f *fixture) {
			key := blob.Payload(f.task())
			sum := f.put(key, small)
			for _, size := range []int64{0, small, small + 1, large} {
				_, err := f.Put(f.Context(), key, Body(7, size), roomy)
				f.wantError(err, blob.ErrExists)
			}
			f.wantBody(key, sum)
		},
		"a key whose body was deleted is free": func(f *fixture) {
			key := blob.Payload(f.task())
			f.put(key, small)
			f.wantError(f.Delete(f.Context(), []blob.Key{key}), nil)
			f.wantBody(key, f.put(key, small+1))
		},
		"a body that has gone bad is not taken for the same": func(f *fixture) {
			key := blob.Payload(f.task())
			f.put(key, small)
			f.Spoil(key, flip(0))
			_, err := f.Put(f.Context(), key, Body(small, small), roomy)
			f.wantError(err, blob.ErrExists)
		},
	}
}

func limits() sentences {
	offer := func(f *fixture, size, limit int64) (blob.Key, error) {
		key := blob.Payload(f.task())
		_, err := f.Put(f.Context(), key, Body(uint64(size), size), limit)
		return key, err
	}
	return sentences{
		"a body as large as its limit is kept": func(f *fixture) {
			for _, size := range []int64{0, 1, small, large, 64 << 10} {
				_, err := offer(f, size, size)
				f.wantError(err, nil)
			}
		},
		"a body larger than its limit is refused, and nothing of it kept": func(f *fixture) {
			for _, limit := range []int64{-1, 0, 1, small, 64 << 10, large} {
				key, err := offer(f, limit+1+large, limit)
				f.wantError(err, blob.ErrTooLarge)
				f.wantNone(key)
			}
			key, err := offer(f, small+1, small)
			f.wantError(err, blob.ErrTooLarge)
			f.wantNone(key)
		},
		"a body without end is left where its limit is": func(f *fixture) {
			var read int64
			endless := hooked{Body(1, roomy), func() error { return nil }}
			_, err := f.Put(f.Context(), blob.Payload(f.task()), counted{endless, &read}, large)
			f.wantError(err, blob.ErrTooLarge)
			if read > large+1 {
				f.Errorf("%d bytes were read of a body that may have %d", read, large)
			}
		},
	}
}

// counted adds up what is read.
type counted struct {
	io.Reader
	sum *int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	*c.sum += int64(n)
	return n, err
}

// largest is the body of testMemory, the largest that Posta keeps.
const largest = 64 << 20

// testMemory looks at the heap every few megabytes of a large body in both directions.
func testMemory(f *fixture, most uint64) {
	base, peak := heap(), uint64(0)
	var passed, looked int64
	look := func() error {
		if passed >= looked+4<<20 {
			looked = passed
			peak = max(peak, heap())
		}
		return nil
	}
	key := blob.Payload(f.task())
	body := hooked{counted{Body(largest, largest), &passed}, look}
	sum, err := f.Put(f.Context(), key, body, largest)
	if err != nil {
		f.Fatal(err)
	}
	stream, err := f.Get(f.Context(), key, sum)
	if err != nil {
		f.Fatal(err)
	}
	defer stream.Close()
	passed, looked = 0, 0
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, hooked{counted{stream, &passed}, look}, make([]byte, 32<<10)); err != nil {
		f.Fatal(err)
	}
	if passed != largest {
		f.Errorf("%d bytes came back of %d", passed, largest)
	}
	if peak > base+most {
		f.Errorf("the heap grew by %d bytes while %d passed, at most %d are allowed", peak-base, largest, most)
	}
}

// heap returns the bytes that are in use.
func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// flip changes one bit of the byte at a place; of one below 0, counted from the end.
func flip(at int) func([]byte) []byte {
	return func(stored []byte) []byte {
		stored = bytes.Clone(stored)
		stored[(at+len(stored))%len(stored)] ^= 1
		return stored
	}
}
