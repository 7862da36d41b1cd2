package dashboard

import (
	"html/template"
	"net/http"
	"slices"
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

const (
	// maxFaults is how many groups of failures a page shows.
	maxFaults = 100
	// sparkBars is how many bars the small chart of a group has.
	sparkBars = 16
)

// fault is a group of failed tasks: the same action, code and error, apart from numbers, ids and quoted texts.
type fault struct {
	ID          string
	Action      string
	Code        task.Code
	Error       string // of the newest task
	Count       int
	First, Last time.Time
	Sample      string // the newest task
	Queues      []string
	times       []time.Time
	Spark       template.HTML
}

// failuresBody is the data of the page of failures.
type failuresBody struct {
	Faults []*fault
	Looked int       // how many failed tasks were looked at
	Since  time.Time // when the oldest of them was accepted
	More   bool      // there are older ones
	Hidden int       // groups that are not shown
}

// collect groups the newest failed tasks. It looks at a bounded number of them, for a bounded time.
func (d *Dashboard) collect(q *request, each func(t *task.Task, id string) bool) (looked int, since time.Time, more bool, refusal *task.Error) {
	query, end := store.Query{State: task.Failed, Limit: searchPage}, time.Now().Add(searchTime)
	for {
		page, refusal := d.config.Source.List(q.ctx(), query)
		if refusal != nil {
			return looked, since, false, refusal
		}
		for i := range page.Tasks {
			t := &page.Tasks[i]
			looked, since = looked+1, t.CreatedAt
			if !each(t, task.Fault(t.Action, t.Code, t.Error)) {
				return looked, since, true, nil
			}
		}
		query.Cursor = page.Cursor
		if page.Cursor == "" {
			return looked, since, false, nil
		}
		if looked >= maxSearch || time.Now().After(end) {
			return looked, since, true, nil
		}
	}
}

// failures shows the failed tasks by their cause, the most frequent one first.
func (d *Dashboard) failures(q *request) *task.Error {
	groups := map[string]*fault{}
	var b failuresBody
	var refusal *task.Error
	b.Looked, b.Since, b.More, refusal = d.collect(q, func(t *task.Task, id string) bool {
		g := groups[id]
		if g == nil {
			g = &fault{ID: id, Action: t.Action, Code: t.Code, Error: t.Error, Last: t.FinishedAt, First: t.FinishedAt, Sample: t.ID}
			groups[id] = g
		}
		g.Count++
		g.times = append(g.times, t.FinishedAt)
		if t.FinishedAt.Before(g.First) {
			g.First = t.FinishedAt
		}
		if t.FinishedAt.After(g.Last) {
			g.Last = t.FinishedAt
		}
		if !slices.Contains(g.Queues, t.Queue) && len(g.Queues) < 4 {
			g.Queues = append(g.Queues, t.Queue)
		}
		return true
	})
	if refusal != nil {
		return refusal
	}
	oldest := q.now
	for _, id := range sortedKeys(groups) {
		g := groups[id]
		b.Faults = append(b.Faults, g)
		if g.First.Before(oldest) {
			oldest = g.First
		}
	}
	slices.SortStableFunc(b.Faults, func(a, b *fault) int {
		if a.Count != b.Count {
			return b.Count - a.Count
		}
		return b.Last.Compare(a.Last)
	})
	if len(b.Faults) > maxFaults {
		b.Hidden, b.Faults = len(b.Faults)-maxFaults, b.Faults[:maxFaults]
	}
	for _, g := range b.Faults {
		bars, span := make([]int, sparkBars), max(time.Second, q.now.Sub(oldest))
		for _, at := range g.times {
			bars[min(sparkBars-1, max(0, int(float64(at.Sub(oldest))/float64(span)*sparkBars)))]++
		}
		g.Spark = spark(bars)
	}
	q.show(http.StatusOK, "failures", "failures.title", &frame{Body: b, Part: "tasks"})
	return nil
}
