package durable

import (
	"context"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// readMost bounds the tasks of one Get of the store.
const readMost = 256

// Get returns a task with its history; not_found, unavailable or draining otherwise. A task whose action this process has
// just entered is running, although the store may not have been told so yet.
func (e *Engine) Get(ctx context.Context, id string, withPayload bool) (task.Task, *task.Error) {
	t, refusal := e.getWith(ctx, id, withPayload)
	if refusal == nil && t.Reserved != "" && e.hub.note(ctx, &t) {
		return e.getWith(ctx, id, withPayload)
	}
	return t, refusal
}

// getWith is Get without a look at what the engines of this process have just entered.
func (e *Engine) getWith(ctx context.Context, id string, withPayload bool) (task.Task, *task.Error) {
	t, refusal := e.get(ctx, id)
	if refusal != nil {
		return task.Task{}, refusal
	}
	t.Warning = e.registry.warning(&t)
	if !withPayload {
		t.Payload = task.Body{}
	}
	return t, nil
}

// List returns tasks without payload, result and history, newest first.
// A cursor that no page gave is refused.
func (e *Engine) List(ctx context.Context, query store.Query) (store.Page, *task.Error) {
	if _, err := ulid.ParseStrict(query.Cursor); err != nil && query.Cursor != "" {
		return store.Page{}, task.RefuseField(task.InvalidRequest, "cursor", "cursor must be that of the page before")
	}
	narrow(&query)
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	page, err := e.config.Store.List(ctx, query)
	if err != nil {
		return store.Page{}, e.readRefusal(err)
	}
	for i := range page.Tasks {
		page.Tasks[i].Warning = e.registry.warning(&page.Tasks[i])
	}
	return page, nil
}

// clockSlack is how far the clock of the node that made a task's id may be from the store's, which
// says when the task was created.
const clockSlack = 2 * time.Hour

// narrow turns bounds of time into bounds of ids, which stores find by their index: an id begins with
// the time at which it was made. A payload that was uploaded before its task has given it its id.
func narrow(query *store.Query) {
	if !query.Since.IsZero() {
		query.Lowest = idAt(query.Since.Add(-clockSlack-orphanGrace), 0)
	}
	if !query.Until.IsZero() {
		if highest := idAt(query.Until.Add(clockSlack), 0xff); query.Cursor == "" || query.Cursor > highest {
			query.Cursor = highest
		}
	}
}

// idAt is an id of that millisecond, with its other bytes as given.
func idAt(at time.Time, rest byte) string {
	var id ulid.ULID
	if err := id.SetTime(uint64(min(max(at.UnixMilli(), 0), int64(ulid.MaxTime())))); err != nil {
		return ""
	}
	for i := 6; i < len(id); i++ {
		id[i] = rest
	}
	return id.String()
}

func refuseNotFound(id string) *task.Error {
	refusal := task.RefuseField(task.NotFound, "task", "there is no task %s; finished ones are kept for a while only", id)
	refusal.Task = id
	return refusal
}
