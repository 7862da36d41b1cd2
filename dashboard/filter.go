package dashboard

import (
	"cmp"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// filter is what the address of the page of tasks says, by the names in filterNames and cursor.
type filter struct {
	State, Queue, Action, Node, Worker, Owner, Meta, Since, Until, Fault, Text, Cursor string
}

// filterNames are the names of the fields in an address, without cursor.
func filterNames() []string {
	return []string{"state", "queue", "action", "node", "worker", "owner", "meta", "since", "until", "fault", "q"}
}

// field returns the field that a name stands for.
func (f *filter) field(name string) *string {
	return map[string]*string{
		"state": &f.State, "queue": &f.Queue, "action": &f.Action, "node": &f.Node, "worker": &f.Worker, "owner": &f.Owner,
		"meta": &f.Meta, "since": &f.Since, "until": &f.Until, "fault": &f.Fault, "q": &f.Text, "cursor": &f.Cursor,
	}[name]
}

// filterOf reads the filter of a request. It refuses what no task can have.
func (q *request) filterOf(values url.Values) (filter, *task.Error) {
	f := filter{Cursor: values.Get("cursor")}
	if refusal := task.CheckText("cursor", f.Cursor); refusal != nil {
		return f, refusal
	}
	for _, name := range filterNames() {
		text := ""
		for _, value := range values[name] { // a form has a duration, and then the field for the time that replaces it
			text = cmp.Or(strings.TrimSpace(value), text)
		}
		if refusal := task.CheckText(name, text); refusal != nil {
			return f, refusal
		}
		if len(text) > maxFilterText || len(f.Cursor) > 1000 {
			return f, task.Refuse(task.InvalidRequest, "%s", q.lang.text("error.long"))
		}
		*f.field(name) = text
	}
	if f.State != "" && !slices.Contains(task.States(), task.State(f.State)) {
		return f, task.RefuseField(task.InvalidRequest, "state", "%s", q.lang.text("error.state", visible(brief(f.State, 40))))
	}
	if f.Queue != "" {
		if refusal := task.CheckQueue(f.Queue); refusal != nil {
			return f, refusal
		}
	}
	if f.Meta != "" && !strings.Contains(f.Meta, "=") {
		return f, task.RefuseField(task.InvalidRequest, "meta", "%s", q.lang.text("error.meta"))
	}
	for _, name := range []string{"since", "until"} {
		if text := *f.field(name); text != "" && moment(text, q.now).IsZero() {
			return f, task.RefuseField(task.InvalidRequest, name, "%s", q.lang.text("error.time", visible(brief(text, 40))))
		}
	}
	return f, nil
}

// maxFilterText is the longest text of a field: a label with its value.
const maxFilterText = 1200

// moment parses a time, which is UTC if it names no other zone, or a duration before now such as 90m. Other texts are the
// zero time.
func moment(text string, now time.Time) time.Time {
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d)
	}
	for _, layout := range []string{"2006-01-02T15:04", "2006-01-02T15:04:05", time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return at
		}
	}
	return time.Time{}
}

// query returns the query of the store. It does not include the text.
func (f filter) query(now time.Time, limit int) store.Query {
	query := store.Query{
		State: task.State(f.State), Queue: f.Queue, Action: f.Action, Node: f.Node, Worker: f.Worker, Owner: f.Owner,
		Since: moment(f.Since, now), Until: moment(f.Until, now), Cursor: f.Cursor, Limit: limit,
	}
	if f.Meta != "" {
		label, value, _ := strings.Cut(f.Meta, "=")
		query.Meta = map[string]string{label: value}
	}
	if f.Fault != "" {
		query.State, query.Fault = task.Failed, f.Fault
	}
	if f.Any() {
		query.Look = maxSearch
	}
	return query
}

// With returns the address of the page with another value of one field, from the first page on.
func (f filter) With(name, value string) string {
	f.Cursor = ""
	if field := f.field(name); field != nil {
		*field = value
	}
	return f.page("tasks")
}

// page returns the address of a page with the filter.
func (f filter) page(name string) string {
	var pairs []string
	for _, field := range append(filterNames(), "cursor") {
		pairs = append(pairs, field, *f.field(field))
	}
	return name + queryOf(pairs...)
}

// Export returns the address of the export of the filter.
func (f filter) Export() string {
	f.Cursor = ""
	return f.page("tasks/export")
}

// Any reports whether the filter selects anything.
func (f filter) Any() bool { return len(f.Set()) > 0 }

// Set returns the fields that are set.
func (f filter) Set() []pair {
	var set []pair
	for _, name := range filterNames() {
		if value := *f.field(name); value != "" {
			set = append(set, pair{name, value})
		}
	}
	return set
}

// More reports whether a field is set that the page does not always show.
func (f filter) More() bool {
	return f.Node != "" || f.Worker != "" || f.Owner != "" || f.Meta != "" || f.Since != "" || f.Until != ""
}

// Hidden returns the fields that the form of the page keeps and does not show.
func (f filter) Hidden() []pair {
	return slices.DeleteFunc(f.Set(), func(p pair) bool {
		return p.A != "state" && p.A != "fault" && p.A != f.span("since") && p.A != f.span("until")
	})
}

// span returns the name of a field that is a duration, or "".
func (f filter) span(name string) string {
	if *f.field(name) == "" || f.Stamp(name) != "" {
		return ""
	}
	return name
}

// Fixed returns the filter with times instead of durations, so that it selects the same tasks later.
func (f filter) Fixed(now time.Time) filter {
	for _, name := range []string{"since", "until"} {
		if f.span(name) != "" {
			field := f.field(name)
			*field = moment(*field, now).UTC().Truncate(time.Millisecond).Format(time.RFC3339Nano)
		}
	}
	return f
}

// Stamp returns a time of the filter as a field for times has it, or "" if it is a duration.
func (f filter) Stamp(name string) string {
	text := *f.field(name)
	if _, err := time.ParseDuration(text); err == nil || text == "" {
		return ""
	}
	return moment(text, time.Time{}).UTC().Format("2006-01-02T15:04:05")
}
