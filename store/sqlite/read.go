package sqlite

import (
	"context"
	"database/sql/driver"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/store/sqlite/file"
	"github.com/posta-tasks/posta/store/sqlite/statement"
	"github.com/posta-tasks/posta/task"
)

// Get implements store.Tasks.
func (s *Store) Get(ctx context.Context, ids []string) ([]task.Task, error) {
	found := make([]task.Task, len(ids))
	err := s.file.Read(ctx, func(c *file.Conn) error {
		for i, id := range ids {
			err := c.Query(statement.KeptByID, func(row []driver.Value) (err error) {
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

// maxPage is the largest page of a list.
const maxPage = 10_000

// List implements store.Tasks. It reads past the tasks that the query does not select, so
// a rare state among a million tasks takes a while; it ends with ctx.
func (s *Store) List(ctx context.Context, query store.Query) (store.Page, error) {
	number, known := s.board.number(query.Queue)
	if query.Queue != "" && !known {
		return store.Page{}, ctx.Err()
	}
	limit := max(1, min(query.Limit, maxPage))
	var page store.Page
	each := func(row []driver.Value) error {
		t, _, err := pack.Row(row, 1)
		if err != nil || !hasLabels(&t, query.Meta) || !isWithin(&t, query) {
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
	err := s.file.Read(ctx, func(c *file.Conn) error {
		return c.QueryFor(ctx, statement.ListTasks, each, query.Cursor, number, pack.StateNumber(query.State), query.Action, query.Lowest)
	})
	if err != nil {
		return store.Page{}, err
	}
	return page, nil
}

// isWithin reports whether a task was created within the bounds of a query.
func isWithin(t *task.Task, query store.Query) bool {
	return (query.Since.IsZero() || !t.CreatedAt.Before(query.Since)) && (query.Until.IsZero() || !t.CreatedAt.After(query.Until))
}

func hasLabels(t *task.Task, labels map[string]string) bool {
	for label, value := range labels {
		if has, ok := t.Meta[label]; !ok || has != value {
			return false
		}
	}
	return true
}
