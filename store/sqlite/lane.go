package sqlite

import (
	"slices"

	"github.com/posta-tasks/posta/task"
)

const (
	// lanesPerQueue is how many lanes a queue has room for; three are in use.
	lanesPerQueue = 4
	// windowSize is how many ids of a lane are read at a time and kept.
	windowSize = 256
	// maxWindows bounds the windows; when there are more, all are read anew.
	maxWindows = 100_000
)

// laneNumber gives the lane of a queue and a priority.
func laneNumber(queue int64, p task.Priority) int64 { return queue*lanesPerQueue + int64(p) }

// lane is where queued tasks wait: those of one action, queue and priority, and suspects
// apart, and of these the accused.
type lane struct {
	number  int64 // see laneNumber
	Suspect bool
	Accused bool
	Action  string
}

// laneWindow is the front of a lane: the queued tasks with the lowest ids, as the open
// transaction leaves them. It may name tasks that are not queued any more, which a claim
// finds out, but it leaves none out.
type laneWindow struct {
	IDs   []string // sorted
	Whole bool     // nothing is queued behind the last one
}

// laneWindows are those of the lanes that some claim has asked for.
type laneWindows map[lane]*laneWindow

// Of gives a lane's window; a new one is empty and not whole.
func (ws laneWindows) Of(l lane) *laneWindow {
	w := ws[l]
	if w == nil {
		if len(ws) >= maxWindows {
			clear(ws)
		}
		w = &laneWindow{}
		ws[l] = w
	}
	return w
}

// Queued puts a task that has become queued in its place.
func (ws laneWindows) Queued(queue int64, t *task.Task) {
	w := ws[lane{laneNumber(queue, t.Priority), t.Suspect, t.Suspect && t.Crashes > 0, t.Action}]
	if w == nil {
		return
	}
	i, there := slices.BinarySearch(w.IDs, t.ID)
	if there || i == len(w.IDs) && !w.Whole { // it lies behind what is known
		return
	}
	w.IDs = slices.Insert(w.IDs, i, t.ID)
	if len(w.IDs) > 2*windowSize {
		w.IDs, w.Whole = w.IDs[:windowSize], false
	}
}

// Gone takes out a task that is not queued any more, so that a claim does not ask for it.
func (ws laneWindows) Gone(queue int64, t *task.Task) {
	l := lane{number: laneNumber(queue, t.Priority), Action: t.Action}
	suspects, accused := l, l
	suspects.Suspect, accused.Suspect, accused.Accused = true, true, true
	for _, l := range []lane{l, suspects, accused} {
		w := ws[l]
		if w == nil {
			continue
		}
		if i, there := slices.BinarySearch(w.IDs, t.ID); there {
			w.IDs = slices.Delete(w.IDs, i, i+1)
		}
	}
}
