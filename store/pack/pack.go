// Package pack knows a task as the columns of its row: how the packed ones are read and
// written, and what task.Task follows from all of them.
//
// The packed columns are varints and strings with their lengths, one after the other, for
// they are written and read with every change of a task.
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

// Millis gives a time as it is stored, and clock the time that was stored.
func Millis(at time.Time) int64 {
	if at.IsZero() {
		return 0
	}
	return at.UnixMilli()
}

// Time gives the time that was stored, in UTC.
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

// unpacker reads what the functions above have written. After the first error everything
// it reads is empty.
type unpacker struct {
	rest []byte
	err  error
}

// ErrDamaged says that a column does not have what was written to it.
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

// Spec packs what never changes of a task, and what no statement asks for. What stands behind the labels
// has come later: a release that does not know it leaves it unread, and a row without it has the defaults.
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
	return b
}

func unpackSpec(b []byte, t *task.Task) error {
	u := unpacker{rest: b}
	t.CreatedAt = Time(u.int())
	t.Action, t.Queue, t.Key = u.text(), u.text(), u.text()
	t.Priority, t.Timeout = task.Priority(u.int()), time.Duration(u.int())
	t.MaxAttempts, t.Keep = int(u.int()), time.Duration(u.int())
	u.int() // when it expires stands in a column
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

// OutcomeOf packs how the latest attempt of a whole task ended; nil when there is nothing to say.
func OutcomeOf(t *task.Task) []byte {
	if t.Code == "" && t.Error == "" && t.Result.Equal(task.Body{}) && t.Result.Inline == nil {
		return nil
	}
	return Outcome(t.Code, t.Error, &t.Result)
}

// ProgressOf is Progress of a whole task; nil when its action has said nothing.
func ProgressOf(t *task.Task) []byte {
	if t.Progress == (task.Progress{}) {
		return nil
	}
	return Progress(&t.Progress)
}

// Progress packs what an action last said about itself.
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
