package sqlite

import (
	"context"

	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/task"
)

// Cancel implements store.Tasks.
func (s *Store) Cancel(ctx context.Context, ids []string) ([]store.Changed, error) {
	written := func() error { return fail.Error("cancel.written") }
	return s.changeByID(ctx, ids, task.AuditCancel, written, func(w *writer, id string) (*task.Task, error) {
		t, err := w.one(sqlCancelWaiting, w.now, pack.Entry(task.Cancelled, w.now, "", ""), id)
		if t != nil || err != nil {
			return t, err
		}
		marked, err := w.change(sqlCancelRunning, id)
		if len(marked) == 0 || err != nil {
			return nil, err
		}
		return &marked[0].Task, nil
	})
}

// Retry implements store.Tasks.
func (s *Store) Retry(ctx context.Context, ids []string) ([]store.Changed, error) {
	written := func() error { return fail.Error("retry.written") }
	return s.changeByID(ctx, ids, task.AuditRetry, written, func(w *writer, id string) (*task.Task, error) {
		entry := pack.Entry(task.Queued, w.now, "", "")
		t, err := w.one(sqlRunScheduled, w.now, entry, id)
		if t != nil || err != nil {
			return t, err
		}
		return w.one(sqlRetryTask, w.now, entry, id)
	})
}

// changeByID makes a change that a client asked for. try returns nil if the change is not possible. written is
// called before the commit.
func (s *Store) changeByID(
	ctx context.Context, ids []string, verb task.AuditVerb, written func() error, try func(w *writer, id string) (*task.Task, error),
) ([]store.Changed, error) {
	answers := make([]store.Changed, len(ids))
	err := s.write(ctx, func(w *writer) error {
		for i, id := range ids {
			t, err := try(w, id)
			made := t != nil
			if err == nil && !made {
				t, err = w.existing(&task.Task{ID: id}, nil)
			}
			if err != nil {
				return err
			}
			answers[i] = store.Changed{ID: id, Made: made}
			if t == nil {
				continue
			}
			t.Payload.Inline = nil
			answers[i].Task, answers[i].State = *t, t.State
			if !made && t.State == task.Cancelled {
				if answers[i].KeyHolder, err = w.keyHolder(t); err != nil {
					return err
				}
			}
		}
		if err := w.note(task.AuditOf(ctx, verb, nil, store.IDsMade(answers)...)); err != nil {
			return err
		}
		return written()
	})
	if err != nil {
		return nil, err
	}
	return answers, nil
}

// keyHolder returns the id of the task that now has the key of a cancelled task, or "" if there is none.
func (w *writer) keyHolder(t *task.Task) (string, error) {
	q := w.queues.byName[t.Queue]
	if t.Key == "" || q == nil {
		return "", nil
	}
	holder, err := w.existing(&task.Task{Options: task.Options{Key: t.Key}}, q)
	if holder == nil {
		return "", err
	}
	return holder.ID, err
}
