// Package lane keeps the front of each lane that somebody claims from: of what is queued, the ids that are claimed
// next. The rest stays in the store, however many they are.
package lane

import (
	"slices"

	"github.com/posta-tasks/posta/task"
)

const (
	// PerQueue is how many lanes a queue has room for; three are in use.
	PerQueue = 4
	// WindowSize is how many ids of a lane are read at a time and kept.
	WindowSize = 256
	// maxWindows bounds the windows; when there are more, all are read anew.
	maxWindows = 100_000
)

// Number gives the lane of a queue and a priority.
func Number(queue int64, p task.Priority) int64 { return queue*PerQueue + int64(p) }

// Lane is where queued tasks wait: those of one action, queue and priority, and suspects
// apart, and of these the accused.
type Lane struct {
	Number  int64 // see Number
	Suspect bool
	Accused bool
	Action  string
}

// Window is the front of a lane: the queued tasks with the lowest ids, as the open
// transaction leaves them. It may name tasks that are not queued any more, which a claim
// finds out, but it leaves none out.
type Window struct {
	IDs   []string // sorted
	Whole bool     // nothing is queued behind the last one
}

// Windows are those of the lanes that some claim has asked for.
type Windows map[Lane]*Window

// Of gives a lane's window; a new one is empty and not whole.
func (ws Windows) Of(l Lane) *Window {
	w := ws[l]
	if w == nil {
		if len(ws) >= maxWindows {
			clear(ws)
		}
		w = &Window{}
		ws[l] = w
	}
	return w
}

// Queued puts a task that has become queued in its place.
func (ws Windows) Queued(queue int64, t *task.Task) {
	w := ws[Lane{Number(queue, t.Priority), t.Suspect, t.Suspect && t.Crashes > 0, t.Action}]
	if w == nil {
		return
	}
	i, there := slices.BinarySearch(w.IDs, t.ID)
	if there || i == len(w.IDs) && !w.Whole { // it lies behind what is known
		return
	}
	w.IDs = slices.Insert(w.IDs, i, t.ID)
	if len(w.IDs) > 2*WindowSize {
		w.IDs, w.Whole = w.IDs[:WindowSize], false
	}
}

// Gone takes out a task that is not queued any more, so that a claim does not ask for it.
func (ws Windows) Gone(queue int64, t *task.Task) {
	l := Lane{Number: Number(queue, t.Priority), Action: t.Action}
	suspects, accused := l, l
	suspects.Suspect, accused.Suspect, accused.Accused = true, true, true
	for _, l := range []Lane{l, suspects, accused} {
		w := ws[l]
		if w == nil {
			continue
		}
		if i, there := slices.BinarySearch(w.IDs, t.ID); there {
			w.IDs = slices.Delete(w.IDs, i, i+1)
		}
	}
}
