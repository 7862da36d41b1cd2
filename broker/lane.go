package broker

import (
	"container/list"
	"strings"
	"unique"

	"github.com/posta-tasks/posta/task"
)

// place identifies a lane.
type place struct {
	queue    string
	priority task.Priority
}

// lane holds the ids of one queue and priority, first in, first out.
type lane struct {
	place
	ids     []waiting // those before head are taken
	head    int
	closed  bool          // the lane dropped an id, and accepts none until it is empty
	element *list.Element // in the list of lanes of its priority
}

type waiting struct {
	id     string
	action unique.Handle[string] // few actions, many ids
}

func (l *lane) len() int { return len(l.ids) - l.head }

func (l *lane) push(hint *Hint) {
	if l.head > len(l.ids)/2 {
		n := copy(l.ids, l.ids[l.head:])
		clear(l.ids[n:])
		l.ids, l.head = l.ids[:n], 0
	}
	// A copy, since the id may be a substring of a large message.
	l.ids = append(l.ids, waiting{strings.Clone(hint.ID), unique.Make(hint.Action)})
}

// pull removes and returns the n-th id. The ids before it keep their order.
func (l *lane) pull(n int) string {
	at := l.head + n
	id := l.ids[at].id
	copy(l.ids[l.head+1:at+1], l.ids[l.head:at])
	l.ids[l.head] = waiting{}
	l.head++
	return id
}

// picker chooses the ids of one Take. It searches the lanes in order, and does not return to
// a lane that had nothing for the taker. A lane that yields an id moves to the end of its
// priority.
type picker struct {
	taker   *taker
	want    Want
	orders  *[3]list.List
	next    [3]*list.Element              // the lane to search next, by priority
	picked  map[string]int                // ids taken, by queue
	actions map[unique.Handle[string]]int // ids that may still be taken, by action that has a limit
	skipped map[*lane]int                 // ids at the head of a lane that the taker cannot run
}

func newPicker(t *taker, want Want, orders *[3]list.List) *picker {
	r := &picker{taker: t, want: want, orders: orders, picked: map[string]int{}, skipped: map[*lane]int{}}
	if want.Actions != nil {
		r.actions = make(map[unique.Handle[string]]int, len(want.Actions))
		for action, n := range want.Actions {
			r.actions[unique.Make(action)] = n
		}
	}
	for priority := range orders {
		r.next[priority] = orders[priority].Front()
	}
	return r
}

// pick removes the next id and returns it with its lane, or nil if there is none.
func (r *picker) pick(turn int) (id string, from *lane) {
	for _, priority := range task.Turn(turn) {
		for at := r.next[priority]; at != nil; at = r.next[priority] {
			r.next[priority] = at.Next()
			l := at.Value.(*lane)
			id, ok := r.from(l)
			if !ok {
				continue
			}
			r.orders[priority].MoveToBack(at)
			if r.next[priority] == nil { // it was the last lane, so it is next again
				r.next[priority] = at
			}
			return id, l
		}
	}
	return "", nil
}

// mayTake reports whether the taker can run one more task of an action.
func (r *picker) mayTake(action unique.Handle[string]) bool {
	left, limited := r.actions[action]
	return r.taker.actions[action] && (!limited || left > 0)
}

// from removes the first id of a lane that the taker can run, if there is one.
func (r *picker) from(l *lane) (id string, ok bool) {
	if !r.taker.takesFrom(l.queue) || r.picked[l.queue] >= r.want.limit(l.queue) {
		return "", false
	}
	n := r.skipped[l]
	for ; n < l.len(); n++ {
		if action := l.ids[l.head+n].action; r.mayTake(action) {
			r.picked[l.queue]++
			if left, limited := r.actions[action]; limited {
				r.actions[action] = left - 1
			}
			return l.pull(n), true
		}
		r.skipped[l] = n + 1
	}
	return "", false
}
