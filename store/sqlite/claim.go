package sqlite

import (
	"cmp"
	"context"
	"database/sql/driver"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// claim is the state of a running Claim.
type claim struct {
	store.Claim
	w           *writer
	capacity    map[int64]int  // how many more tasks it may take, by number of the queue; only queues that have some
	actionSlots map[string]int // how many more tasks it may take of each action that has a limit
	actions     string         // those that have some, as the statement's parameter
	queues      string         // likewise; derived from capacity
	beside      string         // likewise
	got         []task.Task
}

// Claim implements store.Work. It runs last in its transaction, so that it also gets the tasks that the same
// transaction accepts. A task that finds a free slot thus needs one commit less.
func (s *Store) Claim(ctx context.Context, by store.Claim) ([]task.Task, error) {
	var got []task.Task
	err := s.file.WriteLast(ctx, s.with(func(w *writer) error {
		c := claim{Claim: by, w: w, actionSlots: maps.Clone(by.ActionSlots), beside: strings.Join(by.Beside, ",")}
		if c.Isolated {
			c.Limit = min(c.Limit, 1)
		}
		c.open()
		err := c.take()
		got = c.got
		if err == nil && len(got) > 0 {
			err = fail.Error("claim.written")
		}
		return err
	}))
	if err != nil {
		return nil, err
	}
	return got, nil
}

// open computes how many tasks the claim may take of each queue.
func (c *claim) open() {
	c.capacity = map[int64]int{}
	for name, q := range c.w.queues.byName {
		if n := c.Capacity(name); n > 0 && q.Queued > 0 && !q.Paused {
			c.capacity[q.number] = n
		}
	}
	c.list()
}

// list sets the parameters with the queues and the actions that have capacity.
func (c *claim) list() {
	c.actions = "\n"
	for _, action := range c.Actions {
		if n, named := c.actionSlots[action]; !named || n > 0 {
			c.actions += action + "\n"
		}
	}
	text := []byte{','}
	for _, number := range slices.Sorted(maps.Keys(c.capacity)) {
		text = append(strconv.AppendInt(text, number, 10), ',')
	}
	c.queues = string(text)
}

// take claims tasks.
func (c *claim) take() error {
	if c.Isolated {
		alone := true
		err := c.w.Query(sqlSuspectRuns, func([]driver.Value) error { alone = false; return nil }, c.Node, c.beside)
		if err != nil || !alone {
			return err
		}
	}
	if c.IDs != nil {
		return c.byID()
	}
	return c.next()
}

// byID claims the tasks with the given ids.
func (c *claim) byID() error {
	for _, id := range c.IDs {
		if len(c.got) >= c.Limit || len(c.capacity) == 0 {
			break
		}
		if _, err := c.one(id); err != nil {
			return err
		}
	}
	return nil
}

// next claims the next tasks: of the priority whose turn it is, the task with the lowest id of all lanes that
// the claim may use. All ids that the windows contain are claimed by one statement.
func (c *claim) next() error {
	if len(c.capacity) == 0 || c.Limit <= 0 {
		return nil
	}
	fronts, err := c.fronts()
	for err == nil && len(c.got) < c.Limit {
		picked := c.pick(fronts)
		if len(picked) > 0 {
			err = c.several(picked)
			continue
		}
		var read bool
		if read, err = c.refillAll(fronts); !read {
			break
		}
	}
	return err
}

// fronts returns the lanes that the claim may use, by priority. It omits empty ones.
func (c *claim) fronts() (fronts laneFronts, err error) {
	for number := range c.capacity {
		for _, action := range c.Actions {
			for priority := range fronts {
				l := lane{number: laneNumber(number, task.Priority(priority)), Suspect: c.Isolated, Action: action}
				fronts[priority] = append(fronts[priority], c.front(l)...)
			}
		}
	}
	for priority := range fronts {
		fronts[priority] = slices.DeleteFunc(fronts[priority], func(f *laneFront) bool {
			err = cmp.Or(err, c.refill(f))
			return len(f.IDs) == 0
		})
	}
	return fronts, err
}

// front returns the lane and, if the claim may take quarantined tasks, the lane of these.
func (c *claim) front(l lane) []*laneFront {
	list := []*laneFront{{lane: l, laneWindow: c.w.windows.Of(l)}}
	if c.Isolated && c.Quarantined {
		l.Quarantined = true
		list = append(list, &laneFront{lane: l, laneWindow: c.w.windows.Of(l)})
	}
	return list
}

// pick takes ids out of the windows, in the order in which they will be claimed, until there are enough or a
// window is empty. The ids behind an empty window must be read after these are claimed, not before.
func (c *claim) pick(fronts laneFronts) []picked {
	var list []picked
	for len(c.got)+len(list) < c.Limit {
		first, unknown := fronts.First(task.Turn(c.w.turn+len(list)), c.capacity, c.actionSlots)
		if unknown || first == nil {
			break
		}
		queue := first.number / lanesPerQueue
		list = append(list, picked{first.Pop(), queue, first.Action})
		c.capacity[queue]--
		c.takeAction(first.Action, 1)
	}
	return list
}

// refillAll refills all empty windows and reports whether there were any. If a lane turns out to be empty, the
// lanes of lower priority get its turn.
func (c *claim) refillAll(fronts laneFronts) (read bool, err error) {
	for _, list := range fronts {
		for _, f := range list {
			if len(f.IDs) > 0 || f.Whole || !f.HasRoom(c.capacity, c.actionSlots) {
				continue
			}
			if err := c.refill(f); err != nil {
				return false, err
			}
			read = true
		}
	}
	return read, nil
}

// refill reads the next ids of a lane if its window is empty.
func (c *claim) refill(f *laneFront) error {
	if len(f.IDs) > 0 || f.Whole {
		return nil
	}
	read := sqlQueuedTasks
	switch {
	case f.Quarantined:
		read = sqlQueuedQuarantined
	case f.Suspect:
		read = sqlQueuedSuspects
	}
	f.IDs = nil
	err := c.w.Query(read, func(row []driver.Value) error {
		id, _ := row[0].(string)
		f.IDs = append(f.IDs, id)
		return nil
	}, f.number, f.Action, c.w.now, int64(windowSize))
	f.Whole = len(f.IDs) < windowSize
	return err
}

// takeAction takes n places of an action, if it has a limit.
func (c *claim) takeAction(action string, n int) {
	if free, named := c.actionSlots[action]; named {
		c.actionSlots[action] = free - n
	}
}

// picked is an id to claim, and whose capacity it uses: the number of its queue, and its action.
type picked struct {
	id     string
	queue  int64
	action string
}

// several claims tasks, in their order. Each task that cannot be claimed returns its capacity.
func (c *claim) several(list []picked) error {
	ids, places := make([]string, len(list)), make(map[string]int, len(list))
	for i, p := range list {
		ids[i], places[p.id] = p.id, i
	}
	text, which := sqlClaimTask, driver.Value(ids[0])
	if c.Isolated {
		text = sqlClaimSuspect
	} else if len(ids) > 1 {
		all, err := json.Marshal(ids)
		if err != nil {
			return err
		}
		text, which = sqlClaimTasks, string(all)
	}
	tasks, err := c.make(text, which)
	if err != nil {
		return err
	}
	slices.SortFunc(tasks, func(a, b task.Task) int { return places[a.ID] - places[b.ID] })
	for i := range tasks {
		delete(places, tasks[i].ID)
	}
	for _, i := range places {
		c.capacity[list[i].queue]++
		c.takeAction(list[i].action, -1)
	}
	if c.got == nil {
		c.got = tasks
	} else {
		c.got = append(c.got, tasks...)
	}
	c.w.turn += len(tasks)
	return nil
}

// one claims one task if the claim may have it.
func (c *claim) one(id string) (bool, error) {
	text := sqlClaimTask
	if c.Isolated {
		text = sqlClaimSuspect
	}
	tasks, err := c.make(text, id)
	if len(tasks) == 0 || err != nil {
		return false, err
	}
	c.got = append(c.got, tasks[0])
	number := c.w.queues.byName[tasks[0].Queue].number
	c.takeAction(tasks[0].Action, 1)
	if c.capacity[number]--; c.capacity[number] == 0 {
		delete(c.capacity, number)
	}
	if n, limited := c.actionSlots[tasks[0].Action]; c.capacity[number] == 0 || limited && n == 0 {
		c.list()
	}
	return true, nil
}

// make runs a statement that claims the tasks named by its third parameter.
func (c *claim) make(text string, which driver.Value) ([]task.Task, error) {
	lease := c.w.now + task.LeaseTime.Milliseconds()
	args := []driver.Value{c.Node, lease, which}
	if c.Isolated {
		args = append(args, c.Quarantined, c.Node, c.beside)
	}
	return c.w.reserve(text, append(args, c.w.now, c.actions, c.queues)...)
}
