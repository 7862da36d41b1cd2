// Package pack converts between a task and the columns of its row. It packs and unpacks the packed columns, and
// builds a task.Task from all columns.
//
// A packed column is a sequence of varints and of strings with their lengths. This is cheap to read and to
// write, which every change of a task does.
package pack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/posta-tasks/posta/task"
)

// Millis returns a time as it is stored: in milliseconds since 1970, or 0 for the zero time.
func Millis(at time.Time) int64 {
	if at.IsZero() {
		return 0
	}
	return at.UnixMilli()
}

// Time returns the time, in UTC, of which Millis has returned ms.
func Time(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

func appendInt(b []byte, n int64) []byte { return binary.AppendVarint(b, n) }

func appendText[T ~string | ~[]byte](b []byte, text T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// unpacker reads what appendInt and appendText have written. After the first error it returns only zero values.
type unpacker struct {
	rest []byte
	err  error
}

// ErrDamaged means that a packed column does not have the form in which it was written.
var ErrDamaged = errors.New("a packed column is damaged")

func (u *unpacker) int() int64 {
	n, size := binary.Varint(u.rest)
	if size <= 0 {
		u.rest, u.err = nil, ErrDamaged
		return 0
	}
	u.rest = u.rest[size:]
	return n
}

// stamp reads a time of eight bytes.
func (u *unpacker) stamp() int64 {
	if len(u.rest) < 8 {
		u.rest, u.err = nil, ErrDamaged
		return 0
	}
	n := binary.BigEndian.Uint64(u.rest)
	u.rest = u.rest[8:]
	return int64(n)
}

func (u *unpacker) bytes() []byte {
	n, size := binary.Uvarint(u.rest)
	if size <= 0 || n > uint64(len(u.rest)-size) {
		u.rest, u.err = nil, ErrDamaged
		return nil
	}
	text := u.rest[size : size+int(n)]
	u.rest = u.rest[size+int(n):]
	return text
}

func (u *unpacker) text() string { return string(u.bytes()) }

// Spec packs the fields of a task that never change and that no statement needs. The fields after the labels
// were added later: an older release ignores them, and in a row without them they have their defaults.
func Spec(t *task.Task) []byte {
	b := make([]byte, 0, 64+len(t.Action)+len(t.Queue)+len(t.Key))
	b = appendInt(b, Millis(t.CreatedAt))
	b = appendText(b, t.Action)
	b = appendText(b, t.Queue)
	b = appendText(b, t.Key)
	for _, n := range []int64{
		int64(t.Priority), int64(t.Timeout), int64(t.MaxAttempts), int64(t.Keep), 0, t.Payload.Size,
	} {
		b = appendInt(b, n)
	}
	b = appendText(b, t.Payload.SHA256)
	b = appendInt(b, int64(len(t.Meta)))
	for _, label := range slices.Sorted(maps.Keys(t.Meta)) {
		b = appendText(appendText(b, label), t.Meta[label])
	}
	for _, d := range []time.Duration{t.Backoff, t.BackoffMax, t.KeepFailed} {
		b = appendInt(b, int64(d))
	}
	if t.Owner != "" { // most rows end here
		b = appendText(b, t.Owner)
	}
	return b
}

func unpackSpec(b []byte, t *task.Task) error {
	u := unpacker{rest: b}
	t.CreatedAt = Time(u.int())
	t.Action, t.Queue, t.Key = u.text(), u.text(), u.text()
	t.Priority, t.Timeout = task.Priority(u.int()), time.Duration(u.int())
	t.MaxAttempts, t.Keep = int(u.int()), time.Duration(u.int())
	u.int() // unused: Expires has a column of its own
	t.Payload.Size = u.int()
	t.Payload.SHA256 = u.text()
	if n := u.int(); n > 0 && u.err == nil {
		t.Meta = map[string]string{}
		for range n {
			label := u.text()
			t.Meta[label] = u.text()
		}
	}
	if len(u.rest) == 0 && u.err == nil {
		t.Backoff, t.BackoffMax, t.KeepFailed = task.DefaultBackoff, task.DefaultBackoffMax, t.Keep
		return nil
	}
	t.Backoff, t.BackoffMax, t.KeepFailed = time.Duration(u.int()), time.Duration(u.int()), time.Duration(u.int())
	if len(u.rest) > 0 {
		t.Owner = u.text()
	}
	return u.err
}

// Outcome packs how the latest attempt ended: the task's Code, Error and Result.
func Outcome(code task.Code, why string, result *task.Body) []byte {
	b := make([]byte, 0, 16+len(code)+len(why)+len(result.Inline))
	b = appendText(appendText(b, code), why)
	b = appendText(appendInt(b, result.Size), result.SHA256)
	if result.Inline != nil {
		b = append(append(b, 1), result.Inline...)
	}
	return b
}

func unpackOutcome(b []byte, t *task.Task) error {
	if b == nil {
		return nil
	}
	u := unpacker{rest: b}
	t.Code, t.Error = task.Code(u.text()), u.text()
	t.Result.Size, t.Result.SHA256 = u.int(), u.text()
	if len(u.rest) > 0 {
		t.Result.Inline = u.rest[1:]
	}
	return u.err
}

// OutcomeOf is Outcome of a task. It returns nil when there is no outcome.
func OutcomeOf(t *task.Task) []byte {
	if t.Code == "" && t.Error == "" && t.Result.Equal(task.Body{}) && t.Result.Inline == nil {
		return nil
	}
	return Outcome(t.Code, t.Error, &t.Result)
}

// ProgressOf is Progress of a task. It returns nil when its action has reported none.
func ProgressOf(t *task.Task) []byte {
	if t.Progress == (task.Progress{}) {
		return nil
	}
	return Progress(&t.Progress)
}

// Progress packs the progress that an action has reported last.
func Progress(p *task.Progress) []byte {
	return appendText(appendText(nil, fmt.Sprint(p.Percent)), p.Message)
}

func unpackProgress(b []byte, t *task.Task) error {
	if b == nil {
		return nil
	}
	u := unpacker{rest: b}
	_, err := fmt.Sscan(u.text(), &t.Progress.Percent)
	t.Progress.Message = u.text()
	return errors.Join(err, u.err)
}
