package durable

import (
	"context"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// readMost is the largest number of tasks in one Get of the store.
const readMost = 256

// Get returns a task with its history. Refusals: not_found, unavailable, draining. A task whose action this process
// has just entered is shown as running, even if the store does not know it yet.
func (e *Engine) Get(ctx context.Context, id string, withPayload bool) (task.Task, *task.Error) {
	t, refusal := e.getWith(ctx, id, withPayload)
	if refusal == nil && t.Reserved != "" && e.hub.note(ctx, &t) {
		return e.getWith(ctx, id, withPayload)
	}
	return t, refusal
}

// getWith is Get, but does not check which actions this process has just entered.
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

// List returns tasks without payload, result and history, newest first. It refuses a cursor that is not from a
// page.
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

// clockSlack is how much the clock of the node that made the id of a task may differ from that of the store, which
// sets the creation time.
const clockSlack = 2 * time.Hour

// narrow converts bounds of time to bounds of ids, for which stores have an index: an id begins with the time at
// which it was made. A task whose payload was uploaded before has the id of the upload.
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

// idAt returns an id of that millisecond, with the given byte for all others.
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

// RefuseNotFound returns the refusal of a task that does not exist, or that the client may not see.
func RefuseNotFound(id string) *task.Error {
	refusal := task.RefuseField(task.NotFound, "task", "there is no task %s; finished ones are kept for a while only", id)
	refusal.Task = id
	return refusal
}
