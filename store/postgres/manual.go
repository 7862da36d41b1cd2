package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/task"
)

// Cancel implements store.Tasks.
func (s *Store) Cancel(ctx context.Context, ids []string) ([]store.Changed, error) {
	return s.changeByID(ctx, ids, sqlCancelTasks, task.AuditCancel, task.Cancelled)
}

// Retry implements store.Tasks.
func (s *Store) Retry(ctx context.Context, ids []string) ([]store.Changed, error) {
	return s.changeByID(ctx, ids, sqlRetryTasks, task.AuditRetry, task.Queued)
}

// changeByID makes a change that a client asked for.
func (s *Store) changeByID(ctx context.Context, ids []string, text string, verb task.AuditVerb, to task.State) ([]store.Changed, error) {
	answers := make([]store.Changed, len(ids))
	head, tail := pack.StampedEntry(to, "", "")
	for _, places := range rounds(len(ids), func(i int) string { return ids[i] }) {
		asked := collect(ids, places, func(id *string) string { return *id })
		change := func(ctx context.Context, c *pgx.Conn) error {
			list, err := scanner{entries: 1}.all(ctx, c, text, asked, head, tail)
			if err != nil {
				return err
			}
			made := make([]string, len(list))
			for _, i := range places {
				answers[i] = store.Changed{ID: ids[i]}
			}
			for n, t := range list {
				made[n] = t.ID
				answers[places[t.ord]] = store.Changed{ID: t.ID, Made: true, Task: t.Task}
			}
			err = fillIn(ctx, c, places, func(i int) (string, *task.Task) { return ids[i], &answers[i].Task })
			if err != nil {
				return err
			}
			if err := s.note(ctx, c, task.AuditOf(ctx, verb, nil, made...)); err != nil {
				return err
			}
			return keyHolders(ctx, c, answers)
		}
		err := s.finish(ctx, func(ctx context.Context, c *pgx.Conn) error {
			return audited(ctx, c, func(c *pgx.Conn) error { return change(ctx, c) })
		})
		if err != nil {
			return nil, err
		}
	}
	for i := range answers {
		answers[i].State = answers[i].Task.State
	}
	return answers, nil
}

// keyHolders sets KeyHolder in the answers of cancelled tasks that were not changed.
func keyHolders(ctx context.Context, c *pgx.Conn, answers []store.Changed) error {
	var places []int
	var names, keys []string
	for i := range answers {
		if t := &answers[i].Task; !answers[i].Made && t.State == task.Cancelled && t.Key != "" {
			places, names, keys = append(places, i), append(names, t.Queue), append(keys, t.Key)
		}
	}
	if len(places) == 0 {
		return nil
	}
	holders, err := findHolders(ctx, c, names, keys)
	for n, i := range places {
		if holders[n] != answers[i].ID {
			answers[i].KeyHolder = holders[n]
		}
	}
	return err
}
