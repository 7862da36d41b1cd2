package sqlite

import (
	"cmp"
	"context"
	"database/sql/driver"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/store/sqlite/file"
	"github.com/posta-tasks/posta/task"
)

// Get implements store.Tasks.
func (s *Store) Get(ctx context.Context, ids []string) ([]task.Task, error) {
	found := make([]task.Task, len(ids))
	err := s.file.Read(ctx, func(c *file.Conn) error {
		for i, id := range ids {
			err := c.Query(sqlTaskByID, func(row []driver.Value) (err error) {
				found[i], _, err = pack.Row(row, task.HistoryEntries)
				return err
			}, id)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// maxPage is the largest page of List.
const maxPage = 10_000

// List implements store.Tasks. Without query.Look it reads every task of its index that comes before the end of the page,
// so finding a rare action among a million tasks takes a while. It ends when ctx ends.
func (s *Store) List(ctx context.Context, query store.Query) (store.Page, error) {
	number, known := s.view.number(query.Queue)
	if query.Queue != "" && !known {
		return store.Page{}, ctx.Err()
	}
	limit := max(1, min(query.Limit, maxPage))
	var page store.Page
	each := func(row []driver.Value) error {
		t, _, err := pack.Row(row, 1)
		if err != nil || !query.Admits(&t) {
			return err
		}
		if len(page.Tasks) == limit {
			page.Cursor = page.Tasks[limit-1].ID
			return file.ErrEnough
		}
		t.Payload, t.Result, t.History = task.Body{}, task.Body{}, nil
		page.Tasks = append(page.Tasks, t)
		return nil
	}
	list, floor := listingFor(&query)
	cursor := cmp.Or(query.Cursor, highestID)
	err := s.file.Read(ctx, func(c *file.Conn) error {
		page = store.Page{}
		last := ""
		if query.Look > 0 {
			var err error
			if last, err = lookedAt(c, floor, cursor, query.Owner, query.Lowest, int64(query.Look-1)); err != nil {
				return err
			}
		}
		err := c.QueryFor(ctx, list, each, cursor, query.Owner, max(query.Lowest, last), number, pack.StateNumber(query.State), query.Action)
		page.Cursor = cmp.Or(page.Cursor, last)
		return err
	})
	if err != nil {
		return store.Page{}, err
	}
	return page, nil
}

// highestID comes after all ids.
const highestID = "~"

// lookedAt returns the id of the last task that a list may look at, or "" if it may look at all.
func lookedAt(c *file.Conn, floor string, args ...driver.Value) (string, error) {
	var ids []string
	err := c.Query(floor, func(row []driver.Value) error {
		id, _ := row[0].(string)
		ids = append(ids, id)
		return nil
	}, args...)
	if len(ids) < 2 || err != nil {
		return "", err
	}
	return ids[0], nil
}

// Pick implements store.Tasks.
func (s *Store) Pick(ctx context.Context, change task.Change, query store.Query) (store.Picked, error) {
	number, known := s.view.number(query.Queue)
	states := store.PickStates(change, query.State)
	if query.Queue != "" && !known || len(states) == 0 {
		return store.Picked{}, ctx.Err()
	}
	var numbers [3]int64
	for i, state := range states {
		numbers[i] = pack.StateNumber(state)
	}
	text := sqlPickOpen
	if states[0].Final() {
		text = sqlPickEnded
	}
	var picker *store.Picker
	each := func(row []driver.Value) error {
		t, _, err := pack.Row(row, 1)
		if err == nil && query.Admits(&t) && !picker.Add(&t) {
			return file.ErrEnough
		}
		return err
	}
	err := s.file.Read(ctx, func(c *file.Conn) error {
		now, _ := s.clock.Read()
		picker = store.NewPicker(max(1, min(query.Limit, maxPage)), now)
		return c.QueryFor(ctx, text, each, numbers[0], numbers[1], numbers[2], number, query.Action)
	})
	if err != nil {
		return store.Picked{}, err
	}
	return picker.Picked(), nil
}
