package sqlite

import (
	"slices"

	"github.com/posta-tasks/posta/task"
)

const (
	// windowSize is how many ids of a lane are read at a time and kept.
	windowSize = 256
	// maxWindows bounds the windows; when there are more, all are read anew.
	maxWindows = 100_000
)

// lane is where queued tasks wait: those of one action, queue and priority, and suspects
// apart, and of these the accused.
type lane struct {
	number  int64
	suspect bool
	accused bool
	action  string
}

// window is the front of a lane: the queued tasks with the lowest ids, as the open
// transaction leaves them. It may name tasks that are not queued any more, which a claim
// finds out, but it leaves none out.
type window struct {
	ids   []string // sorted
	whole bool     // nothing is queued behind the last one
}

// windows are those lanes that some claim has asked for.
type windows map[lane]*window

// of gives a lane's window; a new one is empty and not whole.
func (ws windows) of(l lane) *window {
	w := ws[l]
	if w == nil {
		if len(ws) >= maxWindows {
			clear(ws)
		}
		w = &window{}
		ws[l] = w
	}
	return w
}

// queued puts a task that has become queued in its place.
func (ws windows) queued(queue int64, t *task.Task) {
	w := ws[lane{laneOf(queue, t.Priority), t.Suspect, t.Suspect && t.Crashes > 0, t.Action}]
	if w == nil {
		return
	}
	i, there := slices.BinarySearch(w.ids, t.ID)
	if there || i == len(w.ids) && !w.whole { // it lies behind what is known
		return
	}
	w.ids = slices.Insert(w.ids, i, t.ID)
	if len(w.ids) > 2*windowSize {
		w.ids, w.whole = w.ids[:windowSize], false
	}
}

// gone takes out a task that is not queued any more, so that a claim does not ask for it.
func (ws windows) gone(queue int64, t *task.Task) {
	l := lane{number: laneOf(queue, t.Priority), action: t.Action}
	suspects, accused := l, l
	suspects.suspect, accused.suspect, accused.accused = true, true, true
	for _, l := range []lane{l, suspects, accused} {
		w := ws[l]
		if w == nil {
			continue
		}
		if i, there := slices.BinarySearch(w.ids, t.ID); there {
			w.ids = slices.Delete(w.ids, i, i+1)
		}
	}
}
