// Package blobtest is the suite that every driver of package blob must pass. Each test is a sentence of the
// contract; each theme has a file. A bug that is found in one driver becomes a test here, so that the drivers
// cannot differ.
//
// No part of the contract is optional. Tests that need control over a server, and those about power failures,
// are in the packages of the drivers. Full tests a driver whose storage is full or unreachable, if a test can
// bring that about.
package blobtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posta-tasks/posta/blob"
)

// Storage is an empty storage, with functions that change it behind the driver's back.
type Storage struct {
	blob.Blobs // the suite closes it
	// Again opens the same storage once more, as another process would. The suite closes it.
	Again func() blob.Blobs
	// Spoil replaces the stored bytes of a key.
	Spoil func(key blob.Key, edit func([]byte) []byte)
	// CutOff leaves what a Put leaves whose process dies in the middle.
	CutOff func()
}

// Driver tells the suite how to open a driver.
type Driver struct {
	// Open opens an empty storage. It registers any cleanup with t.Cleanup.
	Open func(t *testing.T) Storage
	// Memory is how many bytes of a body the driver may hold; default 1 MiB.
	Memory uint64
}

// sentences are the tests of one theme, by their sentences.
type sentences map[string]func(*fixture)

// Run tests a driver against the contract. Its caller must not be parallel, since it first measures the memory
// of the process.
func Run(t *testing.T, driver Driver) {
	t.Run("a large body passes through little memory", func(t *testing.T) {
		testMemory(newFixture(t, driver), max(driver.Memory, 1<<20))
	})
	themes := map[string]sentences{
		"put": put(), "sources": sources(), "put again": putAgain(), "limits": limits(), "get": get(), "corruption": corruption(),
		"keys": keys(), "delete": remove(), "list": list(), "partial list": partial(), "unfinished": unfinished(),
		"concurrency": concurrency(), "meanwhile": meanwhile(), "cancellation": cancellation(), "closing": closing(),
	}
	for _, theme := range slices.Sorted(maps.Keys(themes)) {
		t.Run(theme, func(t *testing.T) {
			t.Parallel()
			for sentence, test := range themes[theme] {
				t.Run(sentence, func(t *testing.T) {
					t.Parallel()
					test(newFixture(t, driver))
				})
			}
		})
	}
}

// fixture is one test's storage.
type fixture struct {
	*testing.T
	Storage
	made int
}

func newFixture(t *testing.T, driver Driver) *fixture {
	s := driver.Open(t)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return &fixture{T: t, Storage: s}
}

// The sizes of most bodies: less than one buffer of anybody's, and several.
const (
	small = 300
	large = 300 << 10
	// roomy is a limit that no body reaches.
	roomy = 1 << 40
)

// task returns a new id each time.
func (f *fixture) task() string {
	f.made++
	return ID(f.made)
}

// ID returns the id of the n-th task.
func ID(n int) string { return fmt.Sprintf("01JE%022d", n) }

// Body returns size bytes that depend on the seed.
func Body(seed uint64, size int64) io.Reader {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return io.LimitReader(rand.NewChaCha8(key), size)
}

// sumOf returns what Put must return for a body.
func (f *fixture) sumOf(body io.Reader) blob.Sum {
	f.Helper()
	meter := blob.Measure(f.Context(), body, roomy)
	if _, err := io.Copy(io.Discard, meter); err != nil {
		f.Fatal(err)
	}
	return meter.Sum()
}

// put puts a body of size bytes that follow from its size, and checks the answer.
func (f *fixture) put(key blob.Key, size int64) blob.Sum {
	f.Helper()
	sum, err := f.Put(f.Context(), key, Body(uint64(size), size), roomy)
	if err != nil {
		f.Errorf("put %s: %v", key, err)
		return sum
	}
	if want := f.sumOf(Body(uint64(size), size)); sum != want {
		f.Errorf("put %s answered %v, want %v", key, sum, want)
	}
	return sum
}

// read returns the bytes of a body, and the error at the end of its stream.
func (f *fixture) read(key blob.Key, want blob.Sum) ([]byte, error) {
	stream, err := f.Get(f.Context(), key, want)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	return io.ReadAll(stream)
}

// wantBody checks that the body is the one that put has put.
func (f *fixture) wantBody(key blob.Key, sum blob.Sum) {
	f.Helper()
	got, err := f.read(key, sum)
	if err != nil {
		f.Errorf("get %s: %v", key, err)
		return
	}
	want, _ := io.ReadAll(Body(uint64(sum.Size), sum.Size))
	if !bytes.Equal(got, want) {
		f.Errorf("%s has %d other bytes than were put", key, len(got))
	}
}

// wantNone checks that there is no body under the key.
func (f *fixture) wantNone(key blob.Key) {
	f.Helper()
	_, err := f.read(key, blob.Sum{Size: small})
	f.wantError(err, blob.ErrNotFound)
	if slices.Contains(f.listed(f.soon()), key) {
		f.Errorf("%s is listed", key)
	}
}

func (f *fixture) wantError(err, want error) {
	f.Helper()
	if !errors.Is(err, want) {
		f.Errorf("error %v, want %v", err, want)
	}
	for _, other := range []error{
		blob.ErrNotFound, blob.ErrExists, blob.ErrTooLarge, blob.ErrCorrupt, blob.ErrUnavailable, blob.ErrKey,
	} {
		if err != nil && errors.Is(err, other) && !errors.Is(want, other) {
			f.Errorf("error %v is %q as well", err, other)
		}
	}
}

// soon is in the future by the clock of any storage, and longAgo in the past.
func (*fixture) soon() time.Time    { return time.Now().Add(time.Hour) }
func (*fixture) longAgo() time.Time { return time.Now().Add(-time.Hour) }

// listed returns the keys of the bodies that were put before a time, sorted.
func (f *fixture) listed(before time.Time) []blob.Key {
	f.Helper()
	var found []blob.Key
	for body, err := range f.List(f.Context(), before) {
		if err != nil {
			f.Fatalf("list: %v", err)
		}
		found = append(found, body.Key)
	}
	slices.SortFunc(found, func(a, b blob.Key) int { return strings.Compare(a.String(), b.String()) })
	return found
}

func (f *fixture) wantListed(want ...blob.Key) {
	f.Helper()
	if got := f.listed(f.soon()); !slices.Equal(got, want) {
		f.Errorf("listed are %v, want %v", got, want)
	}
}

// hooked calls hook before each read.
type hooked struct {
	io.Reader
	hook func() error
}

func (h hooked) Read(p []byte) (int, error) {
	if err := h.hook(); err != nil {
		return 0, err
	}
	return h.Reader.Read(p)
}

// breaksAfter returns a body that fails after n reads.
func breaksAfter(n int32, body io.Reader, err error) io.Reader {
	var reads atomic.Int32
	return hooked{body, func() error {
		if reads.Add(1) > n {
			return err
		}
		return nil
	}}
}

// canceled returns a context and the function that ends it.
func (f *fixture) canceled() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(f.Context())
	f.Cleanup(cancel)
	return ctx, cancel
}
