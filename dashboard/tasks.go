package dashboard

import (
	"net/http"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/posta-tasks/posta/task"
)

const (
	// pageTasks is how many tasks a page shows.
	pageTasks = 50
	// maxCounted is up to how many tasks of a filter a page counts.
	maxCounted = 1000
	// maxSearch is how many tasks a filter looks at before the page shows what it has found, and searchTime how long a
	// search for a text may take.
	maxSearch, searchTime = 10_000, 300 * time.Millisecond
	// searchPage is how many tasks a search reads at once.
	searchPage = 500
)

// tasksBody is the data of the page of tasks.
type tasksBody struct {
	Filter              filter
	States              []task.State
	Queues              []string
	Actions             []string
	Tasks               []task.Task
	Nodes, Workers      []string
	Next                string    // the cursor of the next page
	Searched            int       // how many tasks were looked at until now; 0: all that there are, or a page is full
	Oldest              time.Time // when the oldest of them was accepted
	Count               int       // how many tasks match, at least, if they were counted
	CountMore           bool      // there are more
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
	if f.Text != "" {
		refusal = d.search(q, &b)
	} else {
		refusal = d.list(q, &b)
	}
	if refusal != nil {
		return refusal
	}
	d.offer(q, &b)
	b.CanRetry = f.Text == "" && (f.State == "" || task.State(f.State).Final() || f.State == string(task.Scheduled))
	b.CanCancel = f.Text == "" && !task.State(f.State).Final()
	part := "tasks"
	if f.Cursor != "" {
		part = ""
	}
	q.show(http.StatusOK, "tasks", "tasks.title", &frame{Body: b, Search: f.Text, Part: part})
	return nil
}

// offer adds what the fields of the filter suggest.
func (d *Dashboard) offer(q *request, b *tasksBody) {
	queues, _ := d.config.Source.Queues(q.ctx())
	for i := range queues {
		b.Queues = append(b.Queues, queues[i].Name)
	}
	b.Actions = d.config.Source.Actions(q.ctx())
	nodes, _ := d.config.Source.Nodes(q.ctx())
	for i := range nodes {
		b.Nodes = append(b.Nodes, nodes[i].Name)
	}
	workers, _ := d.config.Source.Workers(q.ctx())
	for i := range workers {
		b.Workers = append(b.Workers, workers[i].Name)
	}
}

// list fills the page with the newest tasks of the filter. On the first page of a filter it also counts them, up to a
// bound, but not again for each live refresh.
func (d *Dashboard) list(q *request, b *tasksBody) *task.Error {
	f := &b.Filter
	query, counts := f.query(q.now, pageTasks), f.Any() && f.Cursor == "" && !q.isPart()
	if counts {
		query.Limit = maxCounted
	}
	page, refusal := d.config.Source.List(q.ctx(), query)
	if refusal != nil {
		return refusal
	}
	b.Tasks, b.Next = page.Tasks, page.Cursor
	if page.Cursor != "" && len(page.Tasks) < query.Limit {
		b.Searched, b.Oldest = maxSearch, acceptedAt(page.Cursor)
	}
	if counts {
		b.Count, b.CountMore = len(page.Tasks), page.Cursor != ""
	}
	if len(page.Tasks) > pageTasks {
		b.Tasks = page.Tasks[:pageTasks]
		b.Next, b.Searched = b.Tasks[pageTasks-1].ID, 0
	}
	return nil
}

// acceptedAt returns about when the task with an id was accepted.
func acceptedAt(id string) time.Time {
	parsed, err := ulid.ParseStrict(id)
	if err != nil {
		return time.Time{}
	}
	return ulid.Time(parsed.Time()).UTC()
}

// search fills the page with the newest tasks that contain a text. It looks at a bounded number of tasks.
func (d *Dashboard) search(q *request, b *tasksBody) *task.Error {
	text, end := strings.ToLower(b.Filter.Text), time.Now().Add(searchTime)
	query := b.Filter.query(q.now, searchPage)
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
		if page.Cursor != "" && len(page.Tasks) < query.Limit {
			b.Searched, b.Oldest = maxSearch, acceptedAt(page.Cursor)
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
