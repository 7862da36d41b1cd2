package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/oklog/ulid/v2"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/store/postgres/server"
	"github.com/posta-tasks/posta/task"
)

// slack is the distance to its bound at which a queue still accepts without a lock. It is more than all tasks
// that may be in running accepts.
const slack = 16_384

// youngID is the age up to which an id counts as new: it was made for this accept, or for one whose answer was
// just lost.
const youngID = 5 * time.Second

// accepting is the state of one call of Accept.
type accepting struct {
	*Store
	tasks   []task.Task
	answers []store.Accepted
	exact   bool // no slack: accepts to the same queues wait for each other
	stored  bool // some of the tasks are stored, whatever fails from now on
}

// Accept implements store.Tasks.
func (s *Store) Accept(ctx context.Context, tasks []task.Task) ([]store.Accepted, error) {
	a := &accepting{Store: s, tasks: tasks, answers: make([]store.Accepted, len(tasks))}
	left, err := a.known(ctx, allOf(len(tasks)))
	for err == nil && len(left) > 0 {
		first, later := a.leaders(left)
		left, err = a.round(ctx, first)
		left = append(left, later...)
		slices.Sort(left)
	}
	if err != nil {
		return nil, a.partlyStored(err)
	}
	return a.answers, nil
}

// partlyStored converts an error of a call that may have stored some of its tasks: their callers do not know
// whether theirs is stored, and must ask again.
func (a *accepting) partlyStored(err error) error {
	if !a.stored || task.CodeOf(err) != task.Unavailable {
		return err
	}
	refusal := task.Refuse(task.UnknownOutcome, "some of the tasks are accepted; whether this one is, is not known")
	return fmt.Errorf("%w: %w", refusal, err)
}

// known answers the tasks whose ids are old and exist already, and returns the places of the others.
func (a *accepting) known(ctx context.Context, places []int) (left []int, err error) {
	var old []string
	for _, i := range places {
		if !a.isYoung(&a.tasks[i]) {
			old = append(old, a.tasks[i].ID)
		}
	}
	if len(old) == 0 {
		return places, nil
	}
	found := map[string]*task.Task{}
	err = a.server.Read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		list, err := find(ctx, c, old, 1)
		for i := range list {
			if list[i].ID != "" {
				found[list[i].ID] = &list[i]
			}
		}
		return err
	})
	for _, i := range places {
		if kept := found[a.tasks[i].ID]; kept != nil {
			a.answers[i] = duplicate(&a.tasks[i], *kept)
		} else {
			left = append(left, i)
		}
	}
	return left, err
}

// isYoung reports whether a task's id has just been made. The id of a task whose payload was uploaded before is
// older than the task.
func (s *Store) isYoung(t *task.Task) bool {
	id, err := ulid.Parse(t.ID)
	age := s.now().Sub(ulid.Time(id.Time()))
	return err == nil && t.Payload.SHA256 == "" && age > -youngID && age < youngID
}

// leaders splits the tasks: first has those whose id and key no earlier task of the call has, and later the
// rest, which must wait for an earlier one.
func (a *accepting) leaders(left []int) (first, later []int) {
	type key struct{ queue, key string }
	ids, keys := map[string]bool{}, map[key]bool{}
	for _, i := range left {
		t := &a.tasks[i]
		k := key{t.Queue, t.Key}
		behind := ids[t.ID] || t.Key != "" && keys[k]
		ids[t.ID], keys[k] = true, true // also those of a task that must wait itself
		if behind {
			later = append(later, i)
		} else {
			first = append(first, i)
		}
	}
	return first, later
}

// round offers tasks to the database, and returns the places of those that must be offered again.
func (a *accepting) round(ctx context.Context, places []int) (again []int, err error) {
	results, err := a.offer(ctx, places)
	if err != nil {
		return nil, err
	}
	var others, unopened []int
	for n, i := range places {
		switch results[n].made {
		case true:
			a.stored = true
			a.answers[i] = store.Accepted{Task: results[n].task}
		case false:
			others = append(others, n)
		}
	}
	if len(others) == 0 {
		return nil, nil
	}
	held, err := a.holders(ctx, places, others)
	if err != nil {
		return nil, err
	}
	var cancelled []string
	for n, kept := range held {
		i := places[others[n]]
		switch result := results[others[n]]; {
		case kept.State == task.Cancelled && kept.ID != a.tasks[i].ID:
			cancelled, again = append(cancelled, kept.ID), append(again, i)
		case kept.ID != "":
			a.answers[i] = duplicate(&a.tasks[i], kept)
		case result.full && a.exact:
			a.answers[i] = store.Accepted{Refusal: a.limits.RefuseTask(a.tasks[i].Queue)}
		case result.full:
			again = append(again, i)
		default:
			unopened = append(unopened, i)
		}
	}
	a.exact = a.exact || len(again) > len(cancelled)
	if err := a.freeKeys(ctx, cancelled); err != nil {
		return nil, err
	}
	opened, err := a.open(ctx, unopened)
	again = append(again, opened...)
	slices.Sort(again)
	return again, err
}

// result is the outcome of offering one task.
type result struct {
	made, full bool
	task       task.Task
}

// offer stores the tasks that are new and fit into their queues.
func (a *accepting) offer(ctx context.Context, places []int) ([]result, error) {
	args := a.args(places)
	var results []result
	err := a.server.Work(ctx, func(ctx context.Context, c *pgx.Conn) error {
		results = make([]result, len(places))
		if !a.exact {
			rows, err := c.Query(ctx, sqlAcceptTasks, args...)
			if err != nil {
				return err
			}
			return a.results(rows, places, results)
		}
		return server.Tx(ctx, c, func(tx pgx.Tx) error {
			// When the lock is granted, all earlier accepts have been counted. The lock of counts comes first,
			// as in the statements that drop queues.
			if _, err := tx.Exec(ctx, "LOCK TABLE counts IN ROW EXCLUSIVE MODE"); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, "SELECT number FROM queues WHERE name = ANY($1) ORDER BY number FOR UPDATE", args[1])
			if err != nil {
				return err
			}
			rows, err := tx.Query(ctx, sqlAcceptTasks, args...)
			if err != nil {
				return err
			}
			return a.results(rows, places, results)
		})
	})
	return results, err
}

// results reads the rows of sqlAcceptTasks.
func (a *accepting) results(rows pgx.Rows, places []int, results []result) error {
	order := map[string]int{}
	for n, i := range places {
		order[a.tasks[i].ID] = n
	}
	var id string
	var state, created *int64
	_, err := pgx.ForEachRow(rows, []any{&id, &state, &created}, func() error {
		n := order[id]
		results[n].made, results[n].full = state != nil, state == nil
		if state != nil {
			results[n].task = stored(&a.tasks[places[n]], *state, pack.Time(*created))
		}
		return nil
	})
	return err
}

// stored returns a task as it was stored. state is that of its row.
func stored(asked *task.Task, state int64, created time.Time) task.Task {
	accepted, reserved := task.Queued, task.States()[state-1] == task.Running
	if task.States()[state-1] == task.Scheduled {
		accepted = task.Scheduled
	}
	t := pack.Accepted(asked, accepted, reserved, created)
	t.Payload.Inline, t.Meta = nil, maps.Clone(asked.Meta)
	return t
}

// args returns the parameters of sqlAcceptTasks.
func (a *accepting) args(places []int) []any {
	room := slack
	if a.exact {
		room = 0
	}
	scheduled, tail := pack.StampedEntry(task.Scheduled, "", "")
	queued, _ := pack.StampedEntry(task.Queued, "", "")
	return []any{
		collect(a.tasks, places, func(t *task.Task) string { return t.ID }),
		collect(a.tasks, places, func(t *task.Task) string { return t.Queue }),
		collect(a.tasks, places, func(t *task.Task) string { return t.Action }),
		collect(a.tasks, places, func(t *task.Task) int16 { return int16(t.Priority) }),
		collect(a.tasks, places, func(t *task.Task) int32 { return int32(t.MaxAttempts) }),
		collect(a.tasks, places, func(t *task.Task) int64 { return t.Keep.Milliseconds() }),
		collect(a.tasks, places, func(t *task.Task) int64 { return pack.Millis(t.RunAt) }),
		collect(a.tasks, places, func(t *task.Task) int64 { return task.WholeMillis(t.ExpiresIn).Milliseconds() }),
		collect(a.tasks, places, func(t *task.Task) *string {
			if t.Key == "" {
				return nil
			}
			return &t.Key
		}),
		collect(a.tasks, places, pack.Spec),
		collect(a.tasks, places, func(t *task.Task) []byte { return t.Payload.Inline }),
		collect(a.tasks, places, func(t *task.Task) int64 { return int64(a.limits.Bound(t.Queue)) }),
		room, append([]byte(pack.NoHistory), scheduled...), append([]byte(pack.NoHistory), queued...), tail,
		collect(a.tasks, places, func(t *task.Task) *string {
			if t.Node == "" {
				return nil
			}
			return &t.Node
		}),
		task.LeaseTime.Milliseconds(),
		collect(a.tasks, places, func(t *task.Task) int64 { return task.WholeMillis(t.Delay).Milliseconds() }),
		collect(a.tasks, places, func(t *task.Task) int64 { return t.KeepFailed.Milliseconds() }),
		collect(a.tasks, places, func(t *task.Task) *string {
			if t.Owner == "" {
				return nil
			}
			return &t.Owner
		}),
	}
}

// holders returns the tasks that prevent others from being stored: those with the same ids, or else with the
// same keys. others are indexes in places.
func (a *accepting) holders(ctx context.Context, places, others []int) (held []task.Task, err error) {
	var ids, names, keys []string
	for _, n := range others {
		t := &a.tasks[places[n]]
		ids, names, keys = append(ids, t.ID), append(names, t.Queue), append(keys, t.Key)
	}
	err = a.server.Read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		held, err = find(ctx, c, ids, 1)
		if err != nil {
			return err
		}
		byKey, err := findHolders(ctx, c, names, keys)
		if err != nil {
			return err
		}
		keyed, err := find(ctx, c, byKey, 1)
		for n := range keyed {
			if held[n].ID == "" {
				held[n] = keyed[n]
			}
		}
		return err
	})
	return held, err
}

// findHolders returns the ids of the tasks that have the given keys in the given queues; "" means none.
func findHolders(ctx context.Context, c *pgx.Conn, queues, keys []string) ([]string, error) {
	found := make([]string, len(keys))
	rows, err := c.Query(ctx, sqlFindHolders, queues, keys)
	if err != nil {
		return found, err
	}
	var ord int64
	var id string
	_, err = pgx.ForEachRow(rows, []any{&ord, &id}, func() error { found[ord-1] = id; return nil })
	return found, err
}

// freeKeys deletes the keys that the previous release has left to cancelled tasks.
func (a *accepting) freeKeys(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	return a.server.Work(ctx, func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, sqlFreeKeys, ids)
		return err
	})
}

// duplicate returns the answer to a task that exists already.
func duplicate(asked *task.Task, kept task.Task) store.Accepted {
	same := kept.Action == asked.Action && kept.Payload.Equal(asked.Payload)
	kept.Payload.Inline = nil
	return store.Accepted{Task: kept, Duplicate: true, SameRequest: same}
}

// open creates the queues of tasks, and returns the places of those whose queue exists now. It refuses the
// others.
func (a *accepting) open(ctx context.Context, places []int) (opened []int, err error) {
	if len(places) == 0 {
		return nil, nil
	}
	var names []string
	for _, i := range places {
		names = append(names, a.tasks[i].Queue)
	}
	there, err := a.openQueues(ctx, names)
	for n, i := range places {
		if there[names[n]] {
			opened = append(opened, i)
		} else {
			a.answers[i] = store.Accepted{Refusal: a.limits.RefuseQueue(names[n])}
		}
	}
	return opened, err
}
