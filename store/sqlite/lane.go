package sqlite

import (
	"slices"

	"github.com/posta-tasks/posta/task"
)

const (
	// lanesPerQueue is the number of lane numbers reserved for each queue; three are in use.
	lanesPerQueue = 4
	// windowSize is how many ids of a lane are read at a time.
	windowSize = 256
	// maxWindows bounds the number of windows. When it is reached, all windows are dropped and read again.
	maxWindows = 100_000
)

// laneNumber returns the number of the lane of a queue and a priority.
func laneNumber(queue int64, p task.Priority) int64 { return queue*lanesPerQueue + int64(p) }

// lane identifies a sequence of queued tasks: those of one action, queue and priority. Suspects are in lanes of
// their own, and so are suspects in quarantine.
type lane struct {
	number      int64 // see laneNumber
	Suspect     bool
	Quarantined bool // a suspect with a crash
	Action      string
}

// laneWindow is the front of a lane: the queued tasks with the lowest ids, including the changes of the open
// transaction. It may contain tasks that are not queued any more, which a claim detects, but it leaves out none
// that is.
type laneWindow struct {
	IDs   []string // sorted
	Whole bool     // no task is queued behind the last id
}

// laneWindows has a window for each lane that a claim has asked for.
type laneWindows map[lane]*laneWindow

// Of returns the window of a lane. A new window is empty and not whole.
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

// Queued adds a task that has become queued.
func (ws laneWindows) Queued(queue int64, t *task.Task) {
	w := ws[lane{laneNumber(queue, t.Priority), t.Suspect, t.Suspect && t.Crashes > 0, t.Action}]
	if w == nil {
		return
	}
	i, there := slices.BinarySearch(w.IDs, t.ID)
	if there || i == len(w.IDs) && !w.Whole { // it is behind the known part
		return
	}
	w.IDs = slices.Insert(w.IDs, i, t.ID)
	if len(w.IDs) > 2*windowSize {
		w.IDs, w.Whole = w.IDs[:windowSize], false
	}
}

// Gone removes a task that is not queued any more, so that no claim tries it.
func (ws laneWindows) Gone(queue int64, t *task.Task) {
	l := lane{number: laneNumber(queue, t.Priority), Action: t.Action}
	suspects, quarantined := l, l
	suspects.Suspect, quarantined.Suspect, quarantined.Quarantined = true, true, true
	for _, l := range []lane{l, suspects, quarantined} {
		w := ws[l]
		if w == nil {
			continue
		}
		if i, there := slices.BinarySearch(w.IDs, t.ID); there {
			w.IDs = slices.Delete(w.IDs, i, i+1)
		}
	}
}
