package postgres

import (
	"cmp"
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/store/postgres/server"
	"github.com/posta-tasks/posta/task"
)

// find reads tasks by id. Tasks that do not exist have an empty ID.
func find(ctx context.Context, c *pgx.Conn, ids []string, entries int) ([]task.Task, error) {
	found := make([]task.Task, len(ids))
	if len(ids) == 0 {
		return found, nil
	}
	list, err := scanner{entries: entries, payload: true}.all(ctx, c, sqlTasksByID, ids)
	for _, t := range list {
		found[t.ord] = t.Task
	}
	return found, err
}

// Get implements store.Tasks.
func (s *Store) Get(ctx context.Context, ids []string) ([]task.Task, error) {
	var found []task.Task
	err := s.server.Read(ctx, func(ctx context.Context, c *pgx.Conn) (err error) {
		found, err = find(ctx, c, ids, task.HistoryEntries)
		return err
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// maxPage is the largest page of List.
const maxPage = 10_000

// chunk is how many tasks List reads at a time when it filters by labels, or by what the client may see.
const chunk = 1_000

// List implements store.Tasks. Without query.Look it reads every task of its index that comes before the end of the page,
// so finding a rare action among a million tasks takes a while. It ends when ctx ends.
func (s *Store) List(ctx context.Context, query store.Query) (store.Page, error) {
	limit := max(1, min(query.Limit, maxPage))
	since := int64(0) // rounded up, since rows have whole milliseconds
	if !query.Since.IsZero() {
		since = pack.Millis(query.Since.Add(time.Millisecond - 1))
	}
	var page store.Page
	err := s.server.List(ctx, func(ctx context.Context, c *pgx.Conn) error {
		page = store.Page{}
		texts, cursor, lowest := listingFor(&query), cmp.Or(query.Cursor, highestID), query.Lowest
		last, err := texts.lookedAt(ctx, c, &query, cursor)
		if err != nil {
			return err
		}
		lowest = max(lowest, last)
		for {
			n := limit + 1
			if query.IsSparse() {
				n = max(n, chunk)
			}
			args := []any{cursor, query.Queue, int16(pack.StateNumber(query.State)), query.Action, n, lowest, since, pack.Millis(query.Until)}
			if query.Owner != "" {
				args = append(args, query.Owner)
			}
			list, err := scanner{entries: 1}.all(ctx, c, texts.list, args...)
			if err != nil || fill(&page, list, &query, limit) {
				return err
			}
			if len(list) < n {
				page.Cursor = last
				return nil
			}
			cursor = list[len(list)-1].ID
		}
	})
	if err != nil {
		return store.Page{}, err
	}
	return page, nil
}

// highestID comes after all ids.
const highestID = "~"

// lookedAt returns the id of the last task that a list may look at, or "" if it may look at all.
func (l *listing) lookedAt(ctx context.Context, c *pgx.Conn, query *store.Query, cursor string) (string, error) {
	if query.Look <= 0 {
		return "", nil
	}
	args := []any{cursor, query.Lowest, query.Look - 1}
	if query.Owner != "" {
		args = append(args, query.Owner)
	}
	rows, err := c.Query(ctx, l.floor, args...)
	if err != nil {
		return "", err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if len(ids) < 2 || err != nil {
		return "", err
	}
	return ids[0], nil
}

// Pick implements store.Tasks.
func (s *Store) Pick(ctx context.Context, change task.Change, query store.Query) (store.Picked, error) {
	states := store.PickStates(change, query.State)
	if len(states) == 0 {
		return store.Picked{}, ctx.Err()
	}
	var numbers []int16
	for _, state := range states {
		numbers = append(numbers, int16(pack.StateNumber(state)))
	}
	text := sqlPickOpen
	if states[0].Final() {
		text = sqlPickEnded
	}
	var picked store.Picked
	err := s.server.List(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return server.Tx(ctx, c, func(tx pgx.Tx) error {
			var now int64
			if err := tx.QueryRow(ctx, "SELECT clock_ms()").Scan(&now); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, text, numbers, query.Queue, query.Action); err != nil {
				return err
			}
			picker := store.NewPicker(max(1, min(query.Limit, maxPage)), pack.Time(now))
			for more := true; more; {
				list, err := scanner{entries: 1}.all(ctx, c, sqlFetchPicked)
				if err != nil {
					return err
				}
				more = addAll(picker, list, &query) && len(list) == pickFetched
			}
			picked = picker.Picked()
			return nil
		})
	})
	if err != nil {
		return store.Picked{}, err
	}
	return picked, nil
}

// addAll adds the tasks that the query admits, and reports whether the picker needs more tasks.
func addAll(picker *store.Picker, list []changed, query *store.Query) bool {
	for i := range list {
		if query.Admits(&list[i].Task) && !picker.Add(&list[i].Task) {
			return false
		}
	}
	return true
}

// fill adds the tasks that the query admits to a page, and reports whether the page is full.
func fill(page *store.Page, list []changed, query *store.Query, limit int) bool {
	for i := range list {
		t := list[i].Task
		if !query.Admits(&t) {
			continue
		}
		if len(page.Tasks) == limit {
			page.Cursor = page.Tasks[limit-1].ID
			return true
		}
		t.Payload, t.Result, t.History = task.Body{}, task.Body{}, nil
		page.Tasks = append(page.Tasks, t)
	}
	return false
}
