package dashboard

import (
	"net/http"
	"strings"
	"time"

	"github.com/posta-tasks/posta/task"
)

// exportPage is how many tasks an export reads at once.
const exportPage = 1000

// export sends the tasks of a filter as lines of JSON, newest first, without payload and result. It ends with the oldest
// one; tasks that are accepted meanwhile are not in it.
func (d *Dashboard) export(q *request) *task.Error {
	f, refusal := q.filterOf(q.r.URL.Query())
	if refusal != nil {
		return refusal
	}
	if q.r.Method == http.MethodHead {
		q.w.Header().Set("Content-Type", "application/x-ndjson")
		return nil
	}
	text, query := strings.ToLower(f.Text), f.query(q.now, exportPage)
	query.Look = 10 * maxSearch // so that a rare filter does not exceed the time of one call
	control := http.NewResponseController(q.w)
	for begun := false; ; begun = true {
		page, refusal := d.config.Source.List(q.ctx(), query)
		switch {
		case refusal != nil && !begun:
			return refusal
		case refusal != nil:
			panic(http.ErrAbortHandler) // so that the client notices that lines are missing
		case !begun:
			q.w.Header().Set("Content-Type", "application/x-ndjson")
			q.w.Header().Set("Content-Disposition", `attachment; filename="tasks.ndjson"`)
		}
		var lines []byte
		for i := range page.Tasks {
			if t := &page.Tasks[i]; text == "" || contains(t, text) {
				lines = d.config.Source.AppendRecord(lines, t)
			}
		}
		_ = control.SetWriteDeadline(time.Now().Add(streamPatience))
		if _, err := q.w.Write(lines); err != nil || page.Cursor == "" {
			return nil
		}
		query.Cursor = page.Cursor
	}
}
