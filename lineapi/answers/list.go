package answers

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

const (
	// defaultPage is how many tasks a list has when it is not told.
	defaultPage = 50
	// pageBytes is how long a list may be; it has fewer tasks then. The line's own
	// members fit beside it into a line of 1 MiB.
	pageBytes = 1<<20 - 1<<10
	// defaultBulk is how many tasks a change by filter reaches when it is not told.
	defaultBulk = 1000
)

// list: {"id":1,"op":"list","queue":"mail"} → {"id":1,"status":"done","result":{"ok":true,"tasks":[…],"cursor":"…"}}
func list(ctx context.Context, engine *durable.Engine, r *Request) []byte {
	query, refusal := r.query(defaultPage)
	var page durable.Page
	if refusal == nil {
		page, refusal = engine.List(ctx, query)
	}
	if refusal != nil {
		return wire.AppendError(nil, r.ID, refusal)
	}
	body := []byte(`{"ok":true,"tasks":[`)
	cursor := page.Cursor
	for i := range page.Tasks {
		before := len(body)
		if i > 0 {
			body = append(body, ',')
		}
		body = wire.AppendRecordObject(body, &page.Tasks[i])
		if len(body) > pageBytes && i > 0 {
			body, cursor = body[:before], page.Tasks[i-1].ID
			break
		}
	}
	body = append(body, ']')
	if cursor != "" {
		body = wire.AppendString(append(body, `,"cursor":`...), cursor)
	}
	return wire.AppendDone(nil, r.ID, append(body, '}'))
}

// query is the selection that the request's fields make.
func (r *Request) query(limit int) (durable.Query, *task.Error) {
	o := &r.options
	query := durable.Query{Queue: o.Queue, Action: r.action, State: task.State(o.Status), Limit: limit, Cursor: o.Cursor}
	if o.Limit > 0 {
		query.Limit = o.Limit
	}
	var refusal *task.Error
	query.Meta, refusal = labels(o.Meta)
	return query, refusal
}

// labels reads labels that are known to be an object of strings.
func labels(raw []byte) (map[string]string, *task.Error) {
	if raw == nil {
		return nil, nil
	}
	var meta map[string]string
	if err := json.Unmarshal(raw, &meta); err != nil {
		return nil, task.RefuseField(task.InvalidRequest, "meta", "meta must be an object whose values are strings")
	}
	return meta, nil
}

// readFilter reads the filter of a cancel or retry.
func (r *Request) readFilter(raw []byte) *task.Error {
	if raw == nil {
		return nil
	}
	var filter struct {
		Queue  string            `json:"queue"`
		Action string            `json:"action"`
		Status task.State        `json:"status"`
		Meta   map[string]string `json:"meta"`
	}
	const want = "filter may have queue, action, status and meta (an object of strings), and needs one of them"
	if !exactKeys(raw, "queue", "action", "status", "meta") || json.Unmarshal(raw, &filter) != nil {
		return task.RefuseField(task.InvalidRequest, "filter", want)
	}
	known := filter.Status == ""
	for _, state := range task.States() {
		known = known || state == filter.Status
	}
	switch {
	case !known:
		return task.RefuseField(task.InvalidRequest, "filter", "filter: status must be one of %q", task.States())
	case filter.Queue == "" && filter.Action == "" && filter.Status == "" && len(filter.Meta) == 0:
		return task.RefuseField(task.InvalidRequest, "filter", want)
	}
	r.filter = durable.Query{Queue: filter.Queue, Action: filter.Action, State: filter.Status, Meta: filter.Meta, Limit: defaultBulk}
	if r.options.Limit > 0 {
		r.filter.Limit = r.options.Limit
	}
	return nil
}

// exactKeys tells whether an object has no other keys than these, which the standard library
// would compare without regard to case.
func exactKeys(raw []byte, allowed ...string) bool {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		return false
	}
	for name := range members {
		if !slices.Contains(allowed, name) {
			return false
		}
	}
	return true
}
