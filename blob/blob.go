// Package blob is the contract of large bodies, and Dir, its simplest implementation. A
// payload or result that is too large for the task's row is a blob: bytes that are written
// once, under a key that belongs to one task, read as a stream, and checked against the size
// and the SHA-256 in the row.
//
// A blob is written before the row that refers to it, and deleted after it. If a process dies
// in between, the blob is an orphan: a body without a row. Only its age distinguishes an
// orphan from a body whose row is about to be written. So the owner of the rows lists bodies
// that are older than a grace time, asks the store about them, and deletes the orphans. This
// package does not do that, and does not know what a body means.
//
// A key is never written twice, so there are no locks and no versions: an upload has the id of
// the task whose payload it will be, and each attempt has a key of its own.
package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"
)

// The errors of this package. Other errors come from the caller's reader or the context.
// errors.Is also finds the cause from the system.
var (
	// ErrNotFound means that there is no body under the key.
	ErrNotFound = errors.New("there is no such body")
	// ErrExists means that there is another body under the key. That one stays.
	ErrExists = errors.New("there is another body under this key")
	// ErrTooLarge means that the body has more bytes than its limit.
	ErrTooLarge = errors.New("the body is too large")
	// ErrCorrupt means that the stored body is not the one that was put. Trying again does
	// not help.
	ErrCorrupt = errors.New("the body is not the one that was put")
	// ErrUnavailable means that the storage is full, closed, broken or away. Trying again
	// may help.
	ErrUnavailable = errors.New("blob storage is unavailable")
	// ErrKey means that the key cannot belong to a task.
	ErrKey = errors.New("this is not a key of a body")
)

// Blobs stores bodies. Its methods are safe for concurrent use, also by several processes on
// the same storage. None of them holds a body in memory.
type Blobs interface {
	// Put reads body to its end and stores it under key. The Sum that it returns is for the
	// task's row. Once Put has returned, the body is on stable storage; until then no
	// reader sees any of it. A body of more than limit bytes is refused with ErrTooLarge. If
	// body fails, Put returns its error. In both cases nothing is stored.
	//
	// Putting the same bytes under the same key again is no error, so a Put can be repeated
	// if its result was lost. Other bytes are refused with ErrExists. Of several concurrent
	// Puts one wins. After ErrUnavailable either nothing or the whole body is stored.
	//
	// Put checks the context between reads. It cannot interrupt one.
	Put(ctx context.Context, key Key, body io.Reader, limit int64) (Sum, error)

	// Get opens the body under key, which must match want. ErrNotFound, and ErrCorrupt for a
	// wrong size, come at once. If the bytes do not match want, the stream ends with
	// ErrCorrupt instead of io.EOF. It returns the last bytes only after the check, so a
	// caller that has read want.Size bytes has the right ones. Reading fails when ctx ends.
	// The caller closes the stream. If the body is deleted meanwhile, the stream continues
	// to its end or fails with ErrUnavailable.
	Get(ctx context.Context, key Key, want Sum) (io.ReadCloser, error)

	// Delete deletes bodies. A missing body is no error. After an error some may be deleted:
	// call Delete again.
	Delete(ctx context.Context, keys []Key) error

	// List yields, in no order, the bodies that were put before a time by the storage's own
	// clock. Bodies that are put or deleted meanwhile may be missing. An error comes last.
	List(ctx context.Context, before time.Time) iter.Seq2[Found, error]

	// RemoveUnfinished removes unfinished Puts of dead processes that began before a time, and returns
	// their number. No reader sees them, but they take space.
	RemoveUnfinished(ctx context.Context, before time.Time) (int, error)

	// Close closes files and connections. Later calls are refused with ErrUnavailable. Open
	// streams stay open.
	Close() error
}

// Signer is implemented by drivers whose storage clients can reach directly. It makes URLs
// that give access to one body for a limited time, without the node. Anybody with the URL
// has access, so it must not be logged.
type Signer interface {
	// SignGet returns a URL from which the body under key can be read. The client must verify
	// the bytes. The error is ErrKey or ErrUnavailable.
	SignGet(ctx context.Context, key Key, valid time.Duration) (string, error)
	// SignPut returns a URL to which the body under key can be PUT, with the header
	// If-None-Match: *, which prevents replacing an existing body.
	SignPut(ctx context.Context, key Key, valid time.Duration) (string, error)
}

// Sum identifies the contents of a body. The row holds it.
type Sum struct {
	Size   int64  // in bytes
	SHA256 string // in hexadecimal, lower case
}

// Found is a body in a list.
type Found struct {
	Key      Key
	Size     int64     // in bytes
	Modified time.Time // when it was put
}

// Key is the key of a body. Payload, Result and ParseKey return keys.
type Key struct {
	Task    string // the task's id: 26 digits and capital letters
	Attempt int    // of a result, from 1; 0: the payload
}

// Payload returns the key of a task's payload.
func Payload(task string) Key { return Key{Task: task} }

// Result returns the key of an attempt's result. The first attempt is 1.
func Result(task string, attempt int) Key { return Key{Task: task, Attempt: attempt} }

// String returns the key as a path: TASK/payload or TASK/ATTEMPT/result.
func (k Key) String() string {
	if k.Attempt == 0 {
		return k.Task + "/payload"
	}
	return k.Task + "/" + strconv.Itoa(k.Attempt) + "/result"
}

// Check returns ErrKey if a key is invalid. Drivers check each key, so that no id from
// outside becomes a path to another place.
func (k Key) Check() error {
	if !isTask(k.Task) {
		return fmt.Errorf("%w: the task of %.60q must be %d digits and capital letters", ErrKey, k.String(), taskLength)
	}
	if k.Attempt < 0 {
		return fmt.Errorf("%w: %q has an attempt below 1", ErrKey, k.String())
	}
	return nil
}

// ParseKey parses exactly what Key.String returns.
func ParseKey(path string) (Key, error) {
	task, rest, _ := strings.Cut(path, "/")
	key := Key{Task: task}
	if rest != "payload" {
		number, _, _ := strings.Cut(rest, "/")
		key.Attempt, _ = strconv.Atoi(number)
	}
	if key.Check() != nil || key.String() != path {
		return Key{}, fmt.Errorf("%w: %.60q", ErrKey, path)
	}
	return key, nil
}

// taskLength is the length of a ULID.
const taskLength = 26

// isTask reports whether name can be a task's id. It accepts only capital letters, since
// some file systems ignore case.
func isTask(name string) bool {
	for i := range len(name) {
		if c := name[i]; (c < '0' || c > '9') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return len(name) == taskLength
}
