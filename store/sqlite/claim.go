package sqlite

import (
	"cmp"
	"context"
	"database/sql/driver"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/store/sqlite/statement"
	"github.com/posta-tasks/posta/task"
)

// claim is a claim while it is made.
type claim struct {
	store.Claim
	w       *writer
	room    map[int64]int // how many more of each queue, by number; those without room are not in it
	actions string        // as the statement wants them
	queues  string        // likewise; follows from room
	beside  string        // likewise
	got     []task.Task
}

// Claim implements store.Work.
func (s *Store) Claim(ctx context.Context, by store.Claim) ([]task.Task, error) {
	var got []task.Task
	err := s.write(ctx, func(w *writer) error {
		c := claim{Claim: by, w: w, actions: "\n" + strings.Join(by.Actions, "\n") + "\n", beside: strings.Join(by.Beside, ",")}
		if c.Lone {
			c.Limit = min(c.Limit, 1)
		}
		c.open()
		err := c.take()
		got = c.got
		if err == nil && len(got) > 0 {
			err = fail.Error("claim.written")
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return got, nil
}

// open finds the queues that the claim may take something of.
func (c *claim) open() {
	c.room = map[int64]int{}
	for name, q := range c.w.queues.byName {
		n := c.Limit
		if c.Queues != nil {
			named, ok := c.Queues[name]
			if n = named; !ok {
				n = c.Queues["*"]
			}
		}
		if n > 0 && q.Queued > 0 && !q.Paused {
			c.room[q.number] = n
		}
	}
	c.list()
}

// list writes down the queues that have room.
func (c *claim) list() {
	text := []byte{','}
	for _, number := range slices.Sorted(maps.Keys(c.room)) {
		text = append(strconv.AppendInt(text, number, 10), ',')
	}
	c.queues = string(text)
}

// take claims what there is.
func (c *claim) take() error {
	if c.Lone {
		alone := true
		err := c.w.Query(statement.SuspectRuns, func([]driver.Value) error { alone = false; return nil }, c.Node, c.beside)
		if err != nil || !alone {
			return err
		}
	}
	if c.IDs != nil {
		return c.named()
	}
	return c.next()
}

// named claims the tasks that the caller has named.
func (c *claim) named() error {
	for _, id := range c.IDs {
		if len(c.got) >= c.Limit || len(c.room) == 0 {
			break
		}
		if _, err := c.one(id); err != nil {
			return err
		}
	}
	return nil
}

// next claims the next tasks: of the priority whose turn it is, the one with the lowest id
// of all lanes that the claim may have.
func (c *claim) next() error {
	if len(c.room) == 0 || c.Limit <= 0 {
		return nil
	}
	fronts, err := c.fronts()
	for err == nil && len(c.got) < c.Limit {
		var found *front
		for _, priority := range store.Turn(c.w.turn) {
			if found, err = c.first(fronts[priority]); found != nil || err != nil {
				break
			}
		}
		if found == nil || err != nil {
			break
		}
		var taken bool
		taken, err = c.one(found.pop())
		if taken {
			c.w.turn++
		}
	}
	return err
}

// front is a lane that a claim looks at.
type front struct {
	lane
	*window
}

func (f *front) pop() string {
	id := f.ids[0]
	f.ids = f.ids[1:]
	return id
}

// fronts gives the lanes that the claim may have, by priority.
func (c *claim) fronts() (fronts [lanes][]*front, err error) {
	for number := range c.room {
		for _, action := range c.Actions {
			for priority := range fronts {
				l := lane{number: number*lanes + int64(priority), suspect: c.Lone, action: action}
				fronts[priority] = append(fronts[priority], c.front(l)...)
			}
		}
	}
	for priority := range fronts {
		fronts[priority] = slices.DeleteFunc(fronts[priority], func(f *front) bool {
			err = cmp.Or(err, c.refill(f))
			return len(f.ids) == 0
		})
	}
	return fronts, err
}

// front gives the lane, and if the claim may have it, that of its accused.
func (c *claim) front(l lane) []*front {
	list := []*front{{l, c.w.windows.of(l)}}
	if c.Lone && c.Accused {
		l.accused = true
		list = append(list, &front{l, c.w.windows.of(l)})
	}
	return list
}

// first finds the lane whose first task has the lowest id.
func (c *claim) first(fronts []*front) (first *front, err error) {
	for _, f := range fronts {
		if c.room[f.number/lanes] == 0 {
			continue
		}
		if err := c.refill(f); err != nil {
			return nil, err
		}
		if len(f.ids) > 0 && (first == nil || f.ids[0] < first.ids[0]) {
			first = f
		}
	}
	return first, nil
}

// refill reads on when a window has been used up.
func (c *claim) refill(f *front) error {
	if len(f.ids) > 0 || f.whole {
		return nil
	}
	read := statement.QueuedTasks
	switch {
	case f.accused:
		read = statement.QueuedAccused
	case f.suspect:
		read = statement.QueuedSuspects
	}
	f.ids = nil
	err := c.w.Query(read, func(row []driver.Value) error {
		id, _ := row[0].(string)
		f.ids = append(f.ids, id)
		return nil
	}, f.number, f.action, c.w.now, int64(windowSize))
	f.whole = len(f.ids) < windowSize
	return err
}

// one claims one task if the claim may have it.
func (c *claim) one(id string) (bool, error) {
	lease := c.w.now + task.LeaseTime.Milliseconds()
	args := []driver.Value{c.Node, lease, pack.Entry(task.Running, c.w.now, c.Node, ""), id}
	text := statement.ClaimTask
	if c.Lone {
		text = statement.ClaimSuspect
		args = append(args, c.Accused, c.Node, c.beside)
	}
	t, err := c.w.one(text, append(args, c.w.now, c.actions, c.queues)...)
	if t == nil || err != nil {
		return false, err
	}
	c.got = append(c.got, *t)
	number := c.w.queues.byName[t.Queue].number
	if c.room[number]--; c.room[number] == 0 {
		delete(c.room, number)
		c.list()
	}
	return true, nil
}
