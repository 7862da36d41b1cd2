// Package blob is the contract of large bodies, and Dir, its simplest implementation.
// A payload or a result that is too large for the task's row is a blob: bytes that are
// written once, under a key that belongs to one task alone, and that are read as a stream
// and checked against the size and the SHA-256 that the row has of them.
//
// A blob comes into being before the row that refers to it, and goes after it. What is in
// between when a process dies is an orphan: a body without a row. Nobody can tell an
// orphan from a body whose row is about to be written but by its age, so whoever has the
// rows lists what is older than a grace time, asks the store, and deletes. That is left to
// others, as is what a body means.
//
// A key is never written twice, so it needs no locks and has no versions: an upload has
// the id of the task that it will be the payload of, and each attempt has a key of its own.
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

// What goes wrong. Other errors are those of the reader that was handed in, and of the
// context. errors.Is also finds what the system said.
var (
	// ErrNotFound says that there is no body under the key.
	ErrNotFound = errors.New("there is no such body")
	// ErrExists says that there is another body under the key; it stays as it is.
	ErrExists = errors.New("there is another body under this key")
	// ErrTooLarge says that the body has more bytes than its limit.
	ErrTooLarge = errors.New("the body is too large")
	// ErrCorrupt says that what is kept is not what was put. Trying again does not help.
	ErrCorrupt = errors.New("the body is not the one that was put")
	// ErrUnavailable says that the storage is full, closed, broken or away. Trying again
	// may help.
	ErrUnavailable = errors.New("blob storage is unavailable")
	// ErrKey says that the key could belong to no task.
	ErrKey = errors.New("this is no key of a body")
)

// Blobs keeps bodies. Its methods are safe for concurrent use, also by several processes
// on the same storage. None of them holds a body in memory.
type Blobs interface {
	// Put reads body to its end and keeps it under key; what it answers is for the task's
	// row. When it has answered, the body is on stable storage; until then no reader sees
	// any of it. A body of more than limit bytes is refused with ErrTooLarge, and when body
	// fails its error is given back; nothing is kept then.
	//
	// Putting the same bytes under the same key again is no error, so that a Put whose
	// answer was lost can be repeated; other bytes are refused with ErrExists. Of several
	// at once one wins. After ErrUnavailable there is either nothing under the key or all.
	//
	// The context is looked at between reads; it cannot interrupt one.
	Put(ctx context.Context, key Key, body io.Reader, limit int64) (Sum, error)

	// Get opens the body under key, of which want is known. ErrNotFound, and ErrCorrupt for
	// a wrong size, come at once. The stream fails with ErrCorrupt where others end if the
	// bytes are not those of want; its last bytes are given only after they have been
	// checked, so whoever was given want.Size bytes has the right ones. Reading fails when
	// ctx ends. The caller closes the stream. It may be read to its end even if the body is
	// deleted meanwhile, or fail with ErrUnavailable.
	Get(ctx context.Context, key Key, want Sum) (io.ReadCloser, error)

	// Delete deletes bodies; one that is not there is no error. After an error some may be
	// gone: ask again.
	Delete(ctx context.Context, keys []Key) error

	// List gives, in no order, the bodies that were put before a time, by the storage's own
	// clock; those that come or go meanwhile may be left out. An error is the last thing
	// that it gives.
	List(ctx context.Context, before time.Time) iter.Seq2[Found, error]

	// Sweep removes what Puts before a time have left unfinished when their process died,
	// and says how many such things there were. No reader ever sees them; they take space.
	Sweep(ctx context.Context, before time.Time) (int, error)

	// Close gives files and connections back. Calls that come later are refused with
	// ErrUnavailable; open streams are left to their readers.
	Close() error
}

// Signer is what those drivers have beside Blobs whose storage clients can reach by
// themselves: URLs that let them past the node, to one body, for a while. Whoever has
// the URL has the right; it may not be logged.
type Signer interface {
	// SignGet gives a URL that answers GET with the body under key, for so long; what comes
	// is not verified, which is left to the client. ErrKey, ErrUnavailable.
	SignGet(ctx context.Context, key Key, valid time.Duration) (string, error)
	// SignPut gives a URL to which the body under key can be PUT, with the header
	// If-None-Match: * that keeps what is there from being replaced.
	SignPut(ctx context.Context, key Key, valid time.Duration) (string, error)
}

// Sum is what a row has of its body.
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

// Key is the place of one body. Make it with Payload, Result or ParseKey.
type Key struct {
	Task    string // the task's id: 26 digits and capital letters
	Attempt int    // whose result it is; 0: it is the payload
}

// Payload is the key of a task's payload.
func Payload(task string) Key { return Key{Task: task} }

// Result is the key of the result of an attempt, of which the first is 1.
func Result(task string, attempt int) Key { return Key{Task: task, Attempt: attempt} }

// String gives the key as a path: TASK/payload or TASK/ATTEMPT/result.
func (k Key) String() string {
	if k.Attempt == 0 {
		return k.Task + "/payload"
	}
	return k.Task + "/" + strconv.Itoa(k.Attempt) + "/result"
}

// Check says what is wrong with a key, with ErrKey. Drivers check each that they are
// given, so that no id from outside becomes a path to elsewhere.
func (k Key) Check() error {
	if !isTask(k.Task) {
		return fmt.Errorf("%w: the task of %.60q must be %d digits and capital letters", ErrKey, k.String(), taskLength)
	}
	if k.Attempt < 0 {
		return fmt.Errorf("%w: %q has an attempt below 1", ErrKey, k.String())
	}
	return nil
}

// ParseKey reads what Key.String gives, and nothing else.
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

// isTask tells whether name could be a task's id. Letters of one case only, since some
// file systems take both for the same.
func isTask(name string) bool {
	for i := range len(name) {
		if c := name[i]; (c < '0' || c > '9') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return len(name) == taskLength
}
