// Package s3 is the driver of blob for S3 and what speaks its language: a body is an
// object whose name is the body's key, behind a prefix if there is one.
//
// An object is made at once or not at all, and only if there is none of its name
// (If-None-Match), so what can be opened is whole and is never replaced. A body that is
// longer than one part is uploaded in parts, of which one is in memory at a time; a
// process that dies in between leaves an upload that no reader sees, and Sweep ends.
//
// It leaves to others which server that is, and who may do what there.
package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/blob"
)

// partBytes is the length of a part, and the memory that one Put takes: the least that S3
// allows for parts other than the last.
const partBytes = 5 << 20

// What a bucket says; other errors are of the server or of the way there.
var (
	errAbsent = errors.New("there is no such object")
	errTaken  = errors.New("there is such an object")
	errBusy   = errors.New("others are at work under this name")
)

// bucket is what the driver asks of a server. Its implementations are the real one and, in
// tests, one in memory.
type bucket interface {
	objects
	uploads
}

// objects are what can be read. Names are whole: the prefix is in them.
type objects interface {
	// put makes an object; errTaken if there is one, errBusy if trying again will help.
	put(ctx context.Context, name string, body []byte) error
	// get opens an object; errAbsent if there is none.
	get(ctx context.Context, name string) (io.ReadCloser, int64, error)
	// remove deletes objects; those that are not there are passed over.
	remove(ctx context.Context, names []string) error
	// list gives all objects below a prefix.
	list(ctx context.Context, prefix string) iter.Seq2[object, error]
}

// uploads are objects in the making.
type uploads interface {
	begin(ctx context.Context, name string) (upload string, err error)
	// part uploads the number-th part, of which the first is 1, and gives its tag.
	part(ctx context.Context, to target, number int, body []byte) (tag string, err error)
	// complete makes the object; errTaken if there is one.
	complete(ctx context.Context, to target, tags []string) error
	abort(ctx context.Context, to target) error
	// unfinished gives what was begun and neither completed nor aborted.
	unfinished(ctx context.Context, prefix string) iter.Seq2[begun, error]
}

// target is an upload under way.
type target struct{ name, upload string }

// object is an object in a list.
type object struct {
	name     string
	size     int64
	modified time.Time
}

// begun is an upload in a list.
type begun struct {
	target
	at time.Time
}

// Blobs keeps bodies in a bucket. It implements blob.Blobs and blob.Signer.
type Blobs struct {
	bucket bucket
	prefix string // with its slash; may be empty
	sign   func(ctx context.Context, method, name string, valid time.Duration) (string, error)
	idle   func()    // closes connections that nobody uses
	parts  sync.Pool // of *[]byte, partBytes long
	closed atomic.Bool
}

func newBlobs(b bucket, prefix string) *Blobs {
	s := &Blobs{bucket: b, prefix: prefix, idle: func() {}}
	s.parts.New = func() any { part := make([]byte, partBytes); return &part }
	return s
}

// name is the object of a key.
func (s *Blobs) name(key blob.Key) string { return s.prefix + key.String() }

// ready refuses keys that are none, callers that have gone, and everything after Close.
func (s *Blobs) ready(ctx context.Context, what string, key blob.Key) error {
	if err := errors.Join(key.Check(), ctx.Err()); err != nil {
		return err
	}
	if s.closed.Load() {
		return unavailable(what, key, errors.New("it is closed"))
	}
	return nil
}

// Close implements blob.Blobs.
func (s *Blobs) Close() error {
	s.closed.Store(true)
	s.idle()
	return nil
}

// Put implements blob.Blobs.
func (s *Blobs) Put(ctx context.Context, key blob.Key, body io.Reader, limit int64) (blob.Sum, error) {
	if err := s.ready(ctx, "put", key); err != nil {
		return blob.Sum{}, err
	}
	meter := blob.Measure(ctx, body, limit)
	err := s.upload(ctx, s.name(key), meter)
	if meter.Err() != nil {
		return blob.Sum{}, fmt.Errorf("put %s: %w", key, meter.Err())
	}
	if errors.Is(err, errTaken) {
		return meter.Sum(), s.compare(ctx, key, meter.Sum())
	}
	if err != nil {
		return blob.Sum{}, unclean(ctx, "put "+key.String(), err)
	}
	return meter.Sum(), nil
}

// upload reads the body to its end, part by part; what is longer than one becomes an upload
// in parts. A body that is too long is read to its limit only.
func (s *Blobs) upload(ctx context.Context, name string, body io.Reader) error {
	part := s.parts.Get().(*[]byte)
	defer s.parts.Put(part)
	n, last, err := fill(*part, body)
	switch {
	case last:
		return s.putOnce(ctx, name, (*part)[:n])
	case err != nil:
		return err
	}
	to := target{name: name}
	if to.upload, err = s.bucket.begin(ctx, name); err != nil {
		return err
	}
	if err = s.uploadParts(ctx, to, body, *part); err != nil {
		// The caller may have gone; what cannot be aborted is swept later.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
		defer cancel()
		_ = s.bucket.abort(ctx, to)
	}
	return err
}

// fill reads a part, in steps between which the body can say that the caller has gone; last
// tells that the body has come to its end.
func fill(part []byte, body io.Reader) (n int, last bool, err error) {
	for n < len(part) && err == nil {
		var more int
		more, err = body.Read(part[n:min(n+stepBytes, len(part))])
		n += more
	}
	if errors.Is(err, io.EOF) {
		return n, true, nil
	}
	return n, false, err
}

// stepBytes bounds what is read of a body at once.
const stepBytes = 64 << 10

const (
	// putTries bounds how often an object is tried to be made while others are at it.
	putTries = 6
	// putPause is the pause after the first of them; it doubles.
	putPause = 10 * time.Millisecond
)

// putOnce makes an object of one part. A server that refuses may hang up before it has read
// the body, and its answer is lost then: so what cannot be put is looked for.
func (s *Blobs) putOnce(ctx context.Context, name string, body []byte) error {
	err := s.bucket.put(ctx, name, body)
	for try, pause := 1, putPause; errors.Is(err, errBusy) && try < putTries; try, pause = try+1, 2*pause {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
		err = s.bucket.put(ctx, name, body)
	}
	if err == nil || errors.Is(err, errTaken) || ctx.Err() != nil {
		return err
	}
	there, _, getErr := s.bucket.get(ctx, name)
	if getErr != nil {
		return err
	}
	there.Close()
	return errTaken
}

// abortTimeout bounds the clearing away after a Put that failed.
const abortTimeout = 5 * time.Second

// uploadParts uploads a part that is full and what follows it.
func (s *Blobs) uploadParts(ctx context.Context, to target, body io.Reader, part []byte) error {
	var tags []string
	for n, last := len(part), false; ; {
		tag, err := s.bucket.part(ctx, to, len(tags)+1, part[:n])
		if err != nil {
			return err
		}
		if tags = append(tags, tag); last {
			break
		}
		if n, last, err = fill(part, body); err != nil {
			return err
		}
		if n == 0 {
			break
		}
	}
	return s.bucket.complete(ctx, to, tags)
}

// compare tells whether what is under the key already is the body that was to be put.
func (s *Blobs) compare(ctx context.Context, key blob.Key, sum blob.Sum) error {
	stream, err := s.Get(ctx, key, sum)
	if err == nil {
		_, err = io.Copy(io.Discard, stream)
		stream.Close()
	}
	switch {
	case errors.Is(err, blob.ErrCorrupt):
		return fmt.Errorf("put %s: %w", key, blob.ErrExists)
	case errors.Is(err, blob.ErrNotFound):
		return unavailable("put", key, errors.New("it was deleted meanwhile"))
	}
	return err
}

// Get implements blob.Blobs.
func (s *Blobs) Get(ctx context.Context, key blob.Key, want blob.Sum) (io.ReadCloser, error) {
	if err := s.ready(ctx, "get", key); err != nil {
		return nil, err
	}
	stored, size, err := s.bucket.get(ctx, s.name(key))
	switch {
	case errors.Is(err, errAbsent):
		return nil, fmt.Errorf("get %s: %w", key, blob.ErrNotFound)
	case err != nil:
		return nil, unclean(ctx, "get "+key.String(), err)
	case size != want.Size:
		stored.Close()
		return nil, fmt.Errorf("get %s: %w: it has %d bytes, not %d", key, blob.ErrCorrupt, size, want.Size)
	}
	return blob.Verify(ctx, stored, want), nil
}

// Delete implements blob.Blobs.
func (s *Blobs) Delete(ctx context.Context, keys []blob.Key) error {
	names := make([]string, len(keys))
	for i, key := range keys {
		if err := s.ready(ctx, "delete", key); err != nil {
			return err
		}
		names[i] = s.name(key)
	}
	if len(names) == 0 {
		return nil
	}
	return unclean(ctx, "delete bodies", s.bucket.remove(ctx, names))
}

// keyOf gives the key of an object; ok is false for what is none of ours.
func (s *Blobs) keyOf(name string) (key blob.Key, ok bool) {
	if len(name) < len(s.prefix) || name[:len(s.prefix)] != s.prefix {
		return key, false
	}
	key, err := blob.ParseKey(name[len(s.prefix):])
	return key, err == nil
}

// List implements blob.Blobs.
func (s *Blobs) List(ctx context.Context, before time.Time) iter.Seq2[blob.Found, error] {
	return func(yield func(blob.Found, error) bool) {
		if s.closed.Load() {
			yield(blob.Found{}, unclean(ctx, "list bodies", errors.New("it is closed")))
			return
		}
		for o, err := range s.bucket.list(ctx, s.prefix) {
			if err != nil {
				yield(blob.Found{}, unclean(ctx, "list bodies", err))
				return
			}
			key, ok := s.keyOf(o.name)
			if !ok || !o.modified.Before(before) {
				continue
			}
			if !yield(blob.Found{Key: key, Size: o.size, Modified: o.modified}, nil) {
				return
			}
		}
	}
}

// Sweep implements blob.Blobs.
func (s *Blobs) Sweep(ctx context.Context, before time.Time) (removed int, err error) {
	if s.closed.Load() {
		return 0, unclean(ctx, "sweep uploads", errors.New("it is closed"))
	}
	for u, err := range s.bucket.unfinished(ctx, s.prefix) {
		if err != nil {
			return removed, unclean(ctx, "sweep uploads", err)
		}
		if _, ours := s.keyOf(u.name); !ours || !u.at.Before(before) {
			continue
		}
		if err := s.bucket.abort(ctx, u.target); err != nil && !errors.Is(err, errAbsent) {
			return removed, unclean(ctx, "sweep uploads", err)
		}
		removed++
	}
	return removed, unclean(ctx, "sweep uploads", nil)
}

// SignGet implements blob.Signer.
func (s *Blobs) SignGet(ctx context.Context, key blob.Key, valid time.Duration) (string, error) {
	if err := s.ready(ctx, "sign", key); err != nil {
		return "", err
	}
	return s.sign(ctx, "GET", s.name(key), valid)
}

// SignPut implements blob.Signer.
func (s *Blobs) SignPut(ctx context.Context, key blob.Key, valid time.Duration) (string, error) {
	if err := s.ready(ctx, "sign", key); err != nil {
		return "", err
	}
	return s.sign(ctx, "PUT", s.name(key), valid)
}

// unavailable says what could not be done, and why.
func unavailable(what string, key blob.Key, err error) error {
	return fmt.Errorf("%s %s: %w: %w", what, key, blob.ErrUnavailable, err)
}

// unclean says why something did not come to its end: the caller has gone, or the storage is
// at fault.
func unclean(ctx context.Context, what string, err error) error {
	if gone := ctx.Err(); gone != nil || err == nil {
		return gone
	}
	return fmt.Errorf("%s: %w: %w", what, blob.ErrUnavailable, err)
}

// cleanPrefix gives a prefix with a slash behind it, or none.
func cleanPrefix(prefix string) string {
	if prefix = path.Clean("/" + prefix)[1:]; prefix != "" {
		prefix += "/"
	}
	return prefix
}
