package s3

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// fake is a bucket in memory.
type fake struct {
	mu       sync.Mutex // guards all below
	objects  map[string]stored
	uploads  map[target]*parts
	begun    int
	refusing error // of every call, when the server is away
}

type stored struct {
	body     []byte
	modified time.Time
}

type parts struct {
	at   time.Time
	list map[int][]byte
}

func newFake() *fake {
	return &fake{objects: map[string]stored{}, uploads: map[target]*parts{}}
}

// enter begins a call.
func (f *fake) enter(ctx context.Context) error {
	f.mu.Lock()
	if err := ctx.Err(); err != nil {
		return err
	}
	return f.refusing
}

func (f *fake) put(ctx context.Context, name string, body []byte) error {
	defer f.mu.Unlock()
	if err := f.enter(ctx); err != nil {
		return err
	}
	if _, taken := f.objects[name]; taken {
		return errTaken
	}
	f.objects[name] = stored{bytes.Clone(body), time.Now()}
	return nil
}

func (f *fake) get(ctx context.Context, name string) (io.ReadCloser, int64, error) {
	defer f.mu.Unlock()
	if err := f.enter(ctx); err != nil {
		return nil, 0, err
	}
	o, ok := f.objects[name]
	if !ok {
		return nil, 0, errAbsent
	}
	return io.NopCloser(bytes.NewReader(o.body)), int64(len(o.body)), nil
}

func (f *fake) remove(ctx context.Context, names []string) error {
	defer f.mu.Unlock()
	if err := f.enter(ctx); err != nil {
		return err
	}
	for _, name := range names {
		delete(f.objects, name)
	}
	return nil
}

func (f *fake) list(ctx context.Context, prefix string) iter.Seq2[object, error] {
	return func(yield func(object, error) bool) {
		err := f.enter(ctx)
		names := slices.Sorted(maps.Keys(f.objects))
		f.mu.Unlock()
		if err != nil {
			yield(object{}, err)
			return
		}
		for _, name := range names {
			f.mu.Lock()
			o, ok := f.objects[name]
			f.mu.Unlock()
			if err := ctx.Err(); err != nil {
				yield(object{}, err)
				return
			}
			if ok && strings.HasPrefix(name, prefix) && !yield(object{name, int64(len(o.body)), o.modified}, nil) {
				return
			}
		}
	}
}

func (f *fake) begin(ctx context.Context, name string) (string, error) {
	defer f.mu.Unlock()
	if err := f.enter(ctx); err != nil {
		return "", err
	}
	f.begun++
	to := target{name, fmt.Sprint(f.begun)}
	f.uploads[to] = &parts{at: time.Now(), list: map[int][]byte{}}
	return to.upload, nil
}

func (f *fake) part(ctx context.Context, to target, number int, body []byte) (string, error) {
	defer f.mu.Unlock()
	if err := f.enter(ctx); err != nil {
		return "", err
	}
	u := f.uploads[to]
	if u == nil {
		return "", errAbsent
	}
	u.list[number] = bytes.Clone(body)
	return fmt.Sprint(number), nil
}

func (f *fake) complete(ctx context.Context, to target, tags []string) error {
	defer f.mu.Unlock()
	if err := f.enter(ctx); err != nil {
		return err
	}
	u := f.uploads[to]
	if u == nil {
		return errAbsent
	}
	if _, taken := f.objects[to.name]; taken {
		return errTaken
	}
	var body []byte
	for i, tag := range tags {
		if tag != fmt.Sprint(i+1) {
			return fmt.Errorf("part %d has the tag %s", i+1, tag)
		}
		body = append(body, u.list[i+1]...)
	}
	delete(f.uploads, to)
	f.objects[to.name] = stored{body, time.Now()}
	return nil
}

func (f *fake) abort(ctx context.Context, to target) error {
	defer f.mu.Unlock()
	if err := f.enter(ctx); err != nil {
		return err
	}
	if f.uploads[to] == nil {
		return errAbsent
	}
	delete(f.uploads, to)
	return nil
}

func (f *fake) unfinished(ctx context.Context, prefix string) iter.Seq2[begun, error] {
	return func(yield func(begun, error) bool) {
		err := f.enter(ctx)
		all := maps.Clone(f.uploads)
		f.mu.Unlock()
		if err != nil {
			yield(begun{}, err)
			return
		}
		for to, u := range all {
			if strings.HasPrefix(to.name, prefix) && !yield(begun{to, u.at}, nil) {
				return
			}
		}
	}
}
