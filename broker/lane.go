package broker

import (
	"container/list"
	"strings"
	"unique"

	"github.com/posta-tasks/posta/task"
)

// place is where a lane is.
type place struct {
	queue    string
	priority task.Priority
}

// lane is the ids of one queue and priority, first in, first out.
type lane struct {
	place
	ids    []waiting // those before head are gone
	head   int
	closed bool          // it had no room for an id, and takes none until it is empty
	stands *list.Element // in the order of the lanes of its priority
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
	// A copy, since the id may be a piece of something large.
	l.ids = append(l.ids, waiting{strings.Clone(hint.ID), unique.Make(hint.Action)})
}

// pull takes the n-th id out; those before it keep their order.
func (l *lane) pull(n int) string {
	at := l.head + n
	id := l.ids[at].id
	copy(l.ids[l.head+1:at+1], l.ids[l.head:at])
	l.ids[l.head] = waiting{}
	l.head++
	return id
}

// turns deals thirteen ids to the priorities: eight high, four normal, one low, as evenly
// as that goes. Weights rather than strict order, so that low is never starved. Stores do
// the same.
const turns = "hnhhnhlhnhhnh"

// turnOrder gives the priorities as the n-th id looks at them: the one whose turn it is, then
// the others from high to low.
func turnOrder(n int) [3]task.Priority {
	switch turns[n%len(turns)] {
	case 'n':
		return [3]task.Priority{task.Normal, task.High, task.Low}
	case 'l':
		return [3]task.Priority{task.Low, task.High, task.Normal}
	default:
		return [3]task.Priority{task.High, task.Normal, task.Low}
	}
}

// round is one Take: what it has looked at, and what it can still get. It looks at lanes
// in their order and never at one that had nothing for it again; a lane that gives an id
// goes to the end, so its turn comes after those of the others.
type round struct {
	taker   *taker
	want    Want
	orders  *[3]list.List
	next    [3]*list.Element // to look at, by priority
	given   map[string]int   // ids, by queue, if the queue matters
	skipped map[*lane]int    // ids that the taker cannot run, of lanes that have such
}

func newRound(t *taker, want Want, orders *[3]list.List) *round {
	r := &round{taker: t, want: want, orders: orders, given: map[string]int{}, skipped: map[*lane]int{}}
	for priority := range orders {
		r.next[priority] = orders[priority].Front()
	}
	return r
}

// deal gives the id whose turn it is, and its lane; nil when there is none left.
func (r *round) deal(turn int) (id string, from *lane) {
	for _, priority := range turnOrder(turn) {
		for at := r.next[priority]; at != nil; at = r.next[priority] {
			r.next[priority] = at.Next()
			l := at.Value.(*lane)
			id, ok := r.from(l)
			if !ok {
				continue
			}
			r.orders[priority].MoveToBack(at)
			if r.next[priority] == nil { // it was the last, and its turn comes again
				r.next[priority] = at
			}
			return id, l
		}
	}
	return "", nil
}

// from takes the first id of a lane that the taker can run.
func (r *round) from(l *lane) (id string, ok bool) {
	if !r.taker.works(l.queue) || r.given[l.queue] >= r.want.room(l.queue) {
		return "", false
	}
	n := r.skipped[l]
	for ; n < l.len(); n++ {
		if r.taker.actions[l.ids[l.head+n].action] {
			r.given[l.queue]++
			return l.pull(n), true
		}
		r.skipped[l] = n + 1
	}
	return "", false
}
