// Package s3 is the driver of blob for S3 and compatible servers. A body is an object whose name
// is the body's key, after an optional prefix.
//
// An object is created whole or not at all, and only if there is none with its name
// (If-None-Match). So every visible object is whole and is never replaced. A body that is longer
// than one part is uploaded in parts, with one part in memory at a time. If the process dies, an
// unfinished upload remains. No reader sees it, and RemoveUnfinished aborts it.
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

// partBytes is the size of a part, and the memory of one Put. It is the smallest size that S3
// allows for parts other than the last.
const partBytes = 5 << 20

// The errors of a bucket. Other errors come from the server or the network.
var (
	errAbsent = errors.New("there is no such object")
	errTaken  = errors.New("there is such an object")
	errBusy   = errors.New("others are at work under this name")
)

// bucket is what the driver needs of a server. The real one is server; tests have one in memory.
type bucket interface {
	objects
	uploads
}

// objects is the finished objects. Names include the prefix.
type objects interface {
	// put creates an object. It fails with errTaken if there is one, and with errBusy if
	// trying again will help.
	put(ctx context.Context, name string, body []byte) error
	// get opens an object. It fails with errAbsent if there is none.
	get(ctx context.Context, name string) (io.ReadCloser, int64, error)
	// remove deletes objects. Missing ones are no error.
	remove(ctx context.Context, names []string) error
	// list yields all objects with a prefix.
	list(ctx context.Context, prefix string) iter.Seq2[object, error]
}

// uploads is the multipart uploads.
type uploads interface {
	begin(ctx context.Context, name string) (upload string, err error)
	// part uploads a part, numbered from 1, and returns its tag.
	part(ctx context.Context, to target, number int, body []byte) (tag string, err error)
	// complete creates the object. It fails with errTaken if there is one.
	complete(ctx context.Context, to target, tags []string) error
	abort(ctx context.Context, to target) error
	// unfinished yields the uploads that were neither completed nor aborted.
	unfinished(ctx context.Context, prefix string) iter.Seq2[begun, error]
}

// target identifies an upload.
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

// Blobs stores bodies in a bucket. It implements blob.Blobs and blob.Signer.
type Blobs struct {
	bucket bucket
	prefix string // with its slash; may be empty
	sign   func(ctx context.Context, method, name string, valid time.Duration) (string, error)
	idle   func()    // closes idle connections
	parts  sync.Pool // of *[]byte, partBytes long
	closed atomic.Bool
}

func newBlobs(b bucket, prefix string) *Blobs {
	s := &Blobs{bucket: b, prefix: prefix, idle: func() {}}
	s.parts.New = func() any { part := make([]byte, partBytes); return &part }
	return s
}

// name returns the name of a key's object.
func (s *Blobs) name(key blob.Key) string { return s.prefix + key.String() }

// ready returns an error for an invalid key, after the end of ctx, and after Close.
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
		return blob.Sum{}, callError(ctx, "put "+key.String(), err)
	}
	return meter.Sum(), nil
}

// upload reads the body to its end, part by part. A body of more than one part becomes a
// multipart upload. A body that is too long is read only to its limit.
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
		// ctx may have ended. If abort fails, RemoveUnfinished aborts the upload later.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
		defer cancel()
		_ = s.bucket.abort(ctx, to)
	}
	return err
}

// fill reads a part, in steps between which the body can check its context. last reports
// whether the body has ended.
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

// stepBytes is the most bytes that are read from a body at once.
const stepBytes = 64 << 10

const (
	// putTries is how often put is tried while others write the same object.
	putTries = 6
	// putPause is the pause after the first try. It doubles.
	putPause = 10 * time.Millisecond
)

// putOnce creates an object of one part. A server may refuse and close the connection before it
// has read the body, and then its answer is lost. So after a failure putOnce checks whether the
// object exists.
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

// abortTimeout limits the cleanup after a failed Put.
const abortTimeout = 5 * time.Second

// uploadParts uploads a full first part and the rest of the body.
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

// compare returns nil if the existing body under the key is the one that was to be put.
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
		return nil, callError(ctx, "get "+key.String(), err)
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
	return callError(ctx, "delete bodies", s.bucket.remove(ctx, names))
}

// keyOf returns the key of an object. ok is false for a foreign object.
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
			yield(blob.Found{}, callError(ctx, "list bodies", errors.New("it is closed")))
			return
		}
		for o, err := range s.bucket.list(ctx, s.prefix) {
			if err != nil {
				yield(blob.Found{}, callError(ctx, "list bodies", err))
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

// RemoveUnfinished implements blob.Blobs.
func (s *Blobs) RemoveUnfinished(ctx context.Context, before time.Time) (removed int, err error) {
	if s.closed.Load() {
		return 0, callError(ctx, "list unfinished uploads", errors.New("it is closed"))
	}
	for u, err := range s.bucket.unfinished(ctx, s.prefix) {
		if err != nil {
			return removed, callError(ctx, "list unfinished uploads", err)
		}
		if _, ours := s.keyOf(u.name); !ours || !u.at.Before(before) {
			continue
		}
		if err := s.bucket.abort(ctx, u.target); err != nil && !errors.Is(err, errAbsent) {
			return removed, callError(ctx, "list unfinished uploads", err)
		}
		removed++
	}
	return removed, callError(ctx, "list unfinished uploads", nil)
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

// unavailable returns an ErrUnavailable with the operation and its cause.
func unavailable(what string, key blob.Key, err error) error {
	return fmt.Errorf("%s %s: %w: %w", what, key, blob.ErrUnavailable, err)
}

// callError explains a failed operation: ctx has ended, or the storage failed.
func callError(ctx context.Context, what string, err error) error {
	if gone := ctx.Err(); gone != nil || err == nil {
		return gone
	}
	return fmt.Errorf("%s: %w: %w", what, blob.ErrUnavailable, err)
}

// cleanPrefix returns a prefix that ends in a slash, or is empty.
func cleanPrefix(prefix string) string {
	if prefix = path.Clean("/" + prefix)[1:]; prefix != "" {
		prefix += "/"
	}
	return prefix
}

// Kind returns what people call this storage.
func (s *Blobs) Kind() string { return "S3" }
