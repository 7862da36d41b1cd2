package pack

import (
	"slices"

	"github.com/posta-tasks/posta/task"
)

// A history is a head followed by entries. The head describes the task before its first entry. Each change
// appends an entry. The statement that makes the change knows neither the attempt nor the generation, and does
// not need them, since both follow from the earlier states.
//
//	head:  seq attempt generation state node
//	entry: state at [node, of running] error
//
// A claim adds no entry: the attempt counts how often the action was entered.
//
// A store that uses the clock of a database cannot know the time before the statement runs. It writes stamped
// entries: the number of the state is higher by stamped, and the time takes eight bytes in big-endian order.
// The statement writes these bytes between the head and the tail.

// Timeline is what unpackHistory reads from a history.
type Timeline struct {
	Before task.State // the state before the newest change; "" if that created the task
	Stored int        // number of entries in the row
	// Reserved reports whether the task is reserved, or was reserved when its latest claim ended.
	Reserved bool
	entries  []task.Entry // the newest entries, at most as many as the caller asked for
	node     string       // of the latest attempt
	started  int64        // when the latest attempt began, in milliseconds
}

// StateNumber returns the number that stands for a state in a row; 0 stands for no state.
func StateNumber(s task.State) int64 { return int64(slices.Index(task.States(), s)) + 1 }

func stateOf(number int64) task.State {
	if states := task.States(); number >= 1 && number <= int64(len(states)) {
		return states[number-1]
	}
	return ""
}

// NoHistory is the history of a new task. Its first entry is appended to it.
const NoHistory = "\x00\x00\x00\x00\x00"

// Entry packs one change. at is in milliseconds. The node is used only for running.
func Entry(to task.State, at int64, node, why string) []byte {
	b := make([]byte, 0, 16+len(node)+len(why))
	b = appendInt(appendInt(b, StateNumber(to)), at)
	if to == task.Running {
		b = appendText(b, node)
	}
	return appendText(b, why)
}

// stamped is added to the number of the state in a stamped entry.
const stamped = 8

// StampedEntry packs one change without its time. The statement writes the head, the time as eight bytes, and
// the tail. The node is used only for running.
func StampedEntry(to task.State, node, why string) (head, tail []byte) {
	head = appendInt(nil, StateNumber(to)+stamped)
	if to == task.Running {
		tail = appendText(tail, node)
	}
	return head, appendText(tail, why)
}

// Begun packs the beginning of an entry of running. The statement appends the packed node and a zero.
func Begun(at int64) []byte {
	return appendInt(appendInt(make([]byte, 0, 12), StateNumber(task.Running)), at)
}

// unpackHistory reads a history and returns its newest entries, at most n.
func unpackHistory(b []byte, n int) (Timeline, error) {
	u := unpacker{rest: b}
	e := task.Entry{Seq: int(u.int()), Attempt: int(u.int()), Generation: int(u.int()), State: stateOf(u.int())}
	line := Timeline{node: u.text()}
	for len(u.rest) > 0 {
		line.Before = e.State
		e = next(e, &line, &u)
		line.Stored++
		if len(line.entries) == n {
			line.entries = slices.Delete(line.entries, 0, 1)
		}
		line.entries = append(line.entries, e)
	}
	return line, u.err
}

// next reads the entry that comes after e.
func next(e task.Entry, line *Timeline, u *unpacker) task.Entry {
	was := e.State
	number, at := u.int(), int64(0)
	if number >= stamped {
		e.State, at = stateOf(number-stamped), u.stamp()
	} else {
		e.State, at = stateOf(number), u.int()
	}
	e.Seq++
	at = max(at, Millis(e.At)) // a change never precedes the one before it, even if the clock was set back
	e.At, e.Node = Time(at), ""
	switch {
	case e.State == task.Running:
		e.Attempt++
		line.node, line.started = u.text(), at
		e.Node = line.node
	case was == task.Running:
		e.Node = line.node
	case was.Final():
		e.Generation++
	}
	e.Error = u.text()
	return e
}

// History packs entries. There must be at least one.
func History(entries []task.Entry) []byte {
	first := entries[0]
	// next must derive the first entry from the head.
	before, attempt := task.State(""), first.Attempt
	switch {
	case first.State == task.Running:
		attempt--
	case first.Node != "":
		before = task.Running
	}
	head := appendInt(appendInt(appendInt(nil, int64(first.Seq-1)), int64(attempt)), int64(first.Generation))
	packed := appendText(appendInt(head, StateNumber(before)), first.Node)
	for _, e := range entries {
		packed = append(packed, Entry(e.State, Millis(e.At), e.Node, e.Error)...)
	}
	return packed
}

// TrimHistory reduces a history to its newest entries, at most task.HistoryEntries.
func TrimHistory(b []byte) ([]byte, error) {
	all, err := unpackHistory(b, task.HistoryEntries+1)
	if err != nil || len(all.entries) <= task.HistoryEntries {
		return b, err
	}
	first, kept := all.entries[0], all.entries[1:]
	head := appendInt(appendInt(appendInt(nil, int64(first.Seq)), int64(first.Attempt)), int64(first.Generation))
	trimmed := appendText(appendInt(head, StateNumber(first.State)), first.Node)
	for _, e := range kept {
		trimmed = append(trimmed, Entry(e.State, Millis(e.At), e.Node, e.Error)...)
	}
	return trimmed, nil
}
