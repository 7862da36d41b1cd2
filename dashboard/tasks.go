package dashboard

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

const (
	// pageTasks is how many tasks a page shows.
	pageTasks = 50
	// maxSearch is how many tasks a search for a text looks at before it shows what it has found, and searchTime how
	// long it may take.
	maxSearch, searchTime = 10_000, 300 * time.Millisecond
	// searchPage is how many tasks a search reads at once.
	searchPage = 500
)

// filter is what the address of the page of tasks says.
type filter struct {
	State, Queue, Action, Text, Cursor string
}

// filterOf reads the filter of a request. It refuses what no task can have.
func (q *request) filterOf(values url.Values) (filter, *task.Error) {
	f := filter{values.Get("state"), strings.TrimSpace(values.Get("queue")), strings.TrimSpace(values.Get("action")), strings.TrimSpace(values.Get("q")), values.Get("cursor")}
	if f.State != "" && !slices.Contains(task.States(), task.State(f.State)) {
		return f, task.RefuseField(task.InvalidRequest, "state", "%s", q.lang.text("error.state", visible(brief(f.State, 40))))
	}
	if f.Queue != "" {
		if refusal := task.CheckQueue(f.Queue); refusal != nil {
			return f, refusal
		}
	}
	for name, text := range map[string]string{"action": f.Action, "q": f.Text, "cursor": f.Cursor} {
		if refusal := task.CheckText(name, text); refusal != nil {
			return f, refusal
		}
	}
	if len(f.Action) > task.MaxAction || len(f.Text) > 200 || len(f.Cursor) > 1000 {
		return f, task.Refuse(task.InvalidRequest, "%s", q.lang.text("error.long"))
	}
	return f, nil
}

// query returns the query of the store.
func (f *filter) query(limit int) store.Query {
	return store.Query{State: task.State(f.State), Queue: f.Queue, Action: f.Action, Cursor: f.Cursor, Limit: limit}
}

// With returns the address of the page with another value of one field, from the first page on.
func (f filter) With(name, value string) string {
	f.Cursor = ""
	switch name {
	case "state":
		f.State = value
	case "queue":
		f.Queue = value
	case "action":
		f.Action = value
	case "q":
		f.Text = value
	case "cursor":
		f.Cursor = value
	}
	return "tasks" + queryOf("state", f.State, "queue", f.Queue, "action", f.Action, "q", f.Text, "cursor", f.Cursor)
}

// Any reports whether the filter selects anything.
func (f filter) Any() bool { return f.State != "" || f.Queue != "" || f.Action != "" || f.Text != "" }

// tasksBody is the data of the page of tasks.
type tasksBody struct {
	Filter              filter
	States              []task.State
	Queues              []string
	Actions             []string
	Tasks               []task.Task
	Next                string // the cursor of the next page
	Searched            int    // how many tasks a search has looked at; 0: there was none
	Oldest              time.Time
	CanRetry, CanCancel bool
}

// tasks lists tasks, newest first.
func (d *Dashboard) tasks(q *request) *task.Error {
	f, refusal := q.filterOf(q.r.URL.Query())
	if refusal != nil {
		return refusal
	}
	if isID(f.Text) {
		q.redirect("tasks/" + strings.ToUpper(f.Text))
		return nil
	}
	b := tasksBody{Filter: f, States: task.States()}
	if f.Text == "" {
		page, refusal := d.config.Source.List(q.ctx(), f.query(pageTasks))
		if refusal != nil {
			return refusal
		}
		b.Tasks, b.Next = page.Tasks, page.Cursor
	} else if refusal := d.search(q, &b); refusal != nil {
		return refusal
	}
	queues, _ := d.config.Source.Queues(q.ctx())
	for _, one := range queues {
		b.Queues = append(b.Queues, one.Name)
	}
	b.Actions = d.config.Source.Actions(q.ctx())
	b.CanRetry = f.Text == "" && (f.State == "" || task.State(f.State).Final() || f.State == string(task.Scheduled))
	b.CanCancel = f.Text == "" && !task.State(f.State).Final()
	part := "tasks"
	if f.Cursor != "" {
		part = ""
	}
	q.show(http.StatusOK, "tasks", "tasks.title", &frame{Body: b, Search: f.Text, Part: part})
	return nil
}

// search fills the page with the newest tasks that contain a text. It looks at a bounded number of tasks.
func (d *Dashboard) search(q *request, b *tasksBody) *task.Error {
	text, end := strings.ToLower(b.Filter.Text), time.Now().Add(searchTime)
	query := b.Filter.query(searchPage)
	for {
		page, refusal := d.config.Source.List(q.ctx(), query)
		if refusal != nil {
			return refusal
		}
		for i := range page.Tasks {
			if t := &page.Tasks[i]; contains(t, text) {
				b.Tasks = append(b.Tasks, *t)
			}
		}
		b.Searched += len(page.Tasks)
		if n := len(page.Tasks); n > 0 {
			b.Oldest = page.Tasks[n-1].CreatedAt
		}
		b.Next, query.Cursor = page.Cursor, page.Cursor
		if page.Cursor == "" || b.Searched >= maxSearch || len(b.Tasks) >= pageTasks || time.Now().After(end) {
			return nil
		}
	}
}

// contains reports whether a text, in lower case, is in what a list shows of a task, or in its key or labels.
func contains(t *task.Task, text string) bool {
	for _, field := range []string{t.ID, t.Action, t.Queue, t.Key, t.Error, string(t.Code), t.Node, t.Worker} {
		if strings.Contains(strings.ToLower(field), text) {
			return true
		}
	}
	for label, value := range t.Meta {
		if strings.Contains(strings.ToLower(label+"="+value), text) {
			return true
		}
	}
	return false
}

// isID reports whether a text is the id of a task.
func isID(text string) bool {
	return len(text) == 26 && strings.Trim(strings.ToUpper(text), "0123456789ABCDEFGHJKMNPQRSTVWXYZ") == ""
}

// changeTasks cancels or retries the tasks that match the filter of a form.
func (d *Dashboard) changeTasks(q *request) *task.Error {
	if refusal := q.form(); refusal != nil {
		return refusal
	}
	f, refusal := q.filterOf(q.r.Form)
	if refusal != nil {
		return refusal
	}
	f.Cursor = ""
	query := f.query(10_000)
	change, did := d.config.Source.CancelWhere, "stopped"
	switch q.r.PostFormValue("do") {
	case "cancel":
	case "retry":
		change, did = d.config.Source.RetryWhere, "changed"
	default:
		return task.Refuse(task.InvalidRequest, "%s", q.lang.text("error.form"))
	}
	bulk, refusal := change(q.ctx(), query)
	if refusal != nil {
		return refusal
	}
	page := f.With("", "")
	separator := "?"
	if strings.Contains(page, "?") {
		separator = "&"
	}
	q.redirect(page + separator + "did=" + did + "&n=" + strconv.Itoa(bulk.Changed+bulk.Cancelling))
	return nil
}
