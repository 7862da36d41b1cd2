package pack

import (
	"slices"
	"strings"

	"github.com/posta-tasks/posta/task"
)

// A history is a head followed by entries. The head describes the task before its first entry. Each change
// appends an entry. The statement that makes the change knows neither the attempt nor the generation, and does
// not need them, since both follow from the earlier states.
//
//	head:  seq attempt generation state node
//	entry: state at [node, of running] error, or worker of running
//
// Running has no error, so the worker that runs the attempt for its node is in that place, and costs a task that its
// node runs itself nothing. The hash of the action's definition, if it has one, follows after a zero. A release that
// does not know workers takes this for an error. In the head, the worker follows the node after a zero.
//
// A claim adds no entry: the attempt counts how often the action was entered.
//
// When another node adopts a running task, a mark is appended (Adopted). It is an entry of running with the text
// adopted in the place of the error. It is not part of the history that is returned, but the entries after it
// have its node. A release that does not know marks takes it for one more attempt.
//
// The entry of a release that takes the attempt back has the text takenBack in the place of the error. A release
// that does not know it counts the attempt.
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
	worker   string       // likewise
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

// Entry packs one change. at is in milliseconds. The node is used only for running. text is the error, and for
// running the worker.
func Entry(to task.State, at int64, node, text string) []byte {
	return entry(to, at, node, plain(text))
}

// plain returns an error or a worker that is no mark.
func plain(text string) string { return strings.TrimLeft(text, "\x00") }

func entry(to task.State, at int64, node, text string) []byte {
	b := make([]byte, 0, 16+len(node)+len(text))
	b = appendInt(appendInt(b, StateNumber(to)), at)
	if to == task.Running {
		b = appendText(b, node)
	}
	return appendText(b, text)
}

// stamped is added to the number of the state in a stamped entry.
const stamped = 8

// StampedEntry packs one change without its time. The statement writes the head, the time as eight bytes, and
// the tail. The node is used only for running.
func StampedEntry(to task.State, node, why string) (head, tail []byte) {
	return stampedEntry(to, node, plain(why))
}

func stampedEntry(to task.State, node, why string) (head, tail []byte) {
	head = appendInt(nil, StateNumber(to)+stamped)
	if to == task.Running {
		tail = appendText(tail, node)
	}
	return head, appendText(tail, why)
}

// Begun packs the beginning of an entry of running. The statement appends the packed node, and then Worker.
func Begun(at int64) []byte {
	return appendInt(appendInt(make([]byte, 0, 12), StateNumber(task.Running)), at)
}

// Worker packs the end of an entry of running: the worker and the definition of its action.
func Worker(name, definition string) []byte {
	text := ranBy(name, definition)
	return appendText(make([]byte, 0, 1+len(text)), text)
}

// Running packs an entry of running. at is in milliseconds.
func Running(at int64, node, worker, definition string) []byte {
	return entry(task.Running, at, node, ranBy(worker, definition))
}

// ranBy returns the text of an entry of running: the worker and, after a zero, the definition if there is one.
func ranBy(worker, definition string) string {
	if definition == "" {
		return plain(worker)
	}
	return plain(worker) + "\x00" + definition
}

// adopted stands in the place of the error in the mark of an adoption. No error of running has it.
const adopted = "\x00"

// Adopted packs the mark of an adoption: the node has a running task from then on.
func Adopted(node string) []byte { return entry(task.Running, 0, node, adopted) }

// takenBack stands in the place of the error in the entry of a release that takes the attempt back.
const takenBack = "\x00-"

// TakenBack packs a release to a state that takes the attempt back. at is in milliseconds.
func TakenBack(to task.State, at int64) []byte { return entry(to, at, "", takenBack) }

// StampedTakenBack is TakenBack without its time.
func StampedTakenBack(to task.State) (head, tail []byte) { return stampedEntry(to, "", takenBack) }

// unpackHistory reads a history and returns its newest entries, at most n.
func unpackHistory(b []byte, n int) (Timeline, error) {
	u := unpacker{rest: b}
	e := task.Entry{Seq: int(u.int()), Attempt: int(u.int()), Generation: int(u.int()), State: stateOf(u.int())}
	var line Timeline
	line.node, line.worker, _ = strings.Cut(u.text(), "\x00")
	for len(u.rest) > 0 {
		after, isEntry := next(e, &line, &u)
		if !isEntry {
			continue
		}
		line.Before, e = e.State, after
		line.Stored++
		if len(line.entries) == n {
			line.entries = slices.Delete(line.entries, 0, 1)
		}
		line.entries = append(line.entries, e)
	}
	return line, u.err
}

// next reads the entry that comes after e. It returns false for a mark.
func next(e task.Entry, line *Timeline, u *unpacker) (task.Entry, bool) {
	was := e.State
	number, at := u.int(), int64(0)
	if number >= stamped {
		e.State, at = stateOf(number-stamped), u.stamp()
	} else {
		e.State, at = stateOf(number), u.int()
	}
	e.Seq++
	at = max(at, Millis(e.At)) // a change never precedes the one before it, even if the clock was set back
	e.At, e.Node, e.Worker, e.Definition, e.Error = Time(at), "", "", "", ""
	if e.State == task.Running {
		line.node = u.text()
		worker := u.text()
		if worker == adopted {
			return e, false
		}
		e.Attempt++
		line.started = at
		line.worker, e.Definition, _ = strings.Cut(worker, "\x00")
		e.Node, e.Worker = line.node, line.worker
		return e, true
	}
	e.Error = u.text()
	switch {
	case was == task.Running:
		e.Node, e.Worker = line.node, line.worker
		if e.Error == takenBack {
			e.Attempt--
			e.Error = ""
		}
	case was.Final():
		e.Generation++
	}
	return e, true
}

// History packs the history of a task. There must be at least one entry.
func History(t *task.Task) []byte {
	first := t.History[0]
	// next must derive the first entry from the head.
	before, attempt := task.State(""), first.Attempt
	switch {
	case first.State == task.Running:
		attempt--
	case first.Node != "":
		before = task.Running
	}
	head := appendInt(appendInt(appendInt(nil, int64(first.Seq-1)), int64(attempt)), int64(first.Generation))
	return appendEntries(appendInt(head, StateNumber(before)), first, t.History, t.Node, t.Worker)
}

// appendEntries appends the end of the head and the entries, with marks where a node other than the one before has
// the attempt. before has the attempt and its node before the entries. node and worker are those of the latest
// attempt.
func appendEntries(packed []byte, before task.Entry, entries []task.Entry, latest, worker string) []byte {
	if !slices.ContainsFunc(entries, func(e task.Entry) bool { return e.State == task.Running }) {
		before.Node, before.Worker = latest, worker // the entries do not tell
	}
	node := before.Node
	if before.Worker == "" {
		packed = appendText(packed, node)
	} else {
		packed = appendText(packed, node+"\x00"+before.Worker)
	}
	for _, e := range entries {
		if e.Node != "" && e.Node != node {
			if node = e.Node; e.State != task.Running {
				packed = append(packed, Adopted(node)...)
			}
		}
		switch at := Millis(e.At); {
		case e.State == task.Running:
			packed = append(packed, Running(at, e.Node, e.Worker, e.Definition)...)
		case e.Attempt < before.Attempt:
			packed = append(packed, TakenBack(e.State, at)...)
		default:
			packed = append(packed, Entry(e.State, at, "", e.Error)...)
		}
		before = e
	}
	if latest != node {
		packed = append(packed, Adopted(latest)...)
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
	return appendEntries(appendInt(head, StateNumber(first.State)), first, kept, all.node, all.worker), nil
}
