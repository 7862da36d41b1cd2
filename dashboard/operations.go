package dashboard

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/posta-tasks/posta/task"
)

// previewed is how many tasks a preview names.
const previewed = 5

// wanted is a change of many tasks that a form asks for.
type wanted struct {
	Change task.Change
	All    bool // of all that match the filter, instead of the chosen ones
	Filter filter
	IDs    []string // the chosen ones
	Back   string   // the page of the filter as it was asked for
}

// wantedOf reads the change that a form asks for.
func (q *request) wantedOf() (wanted, *task.Error) {
	var w wanted
	if refusal := q.form(); refusal != nil {
		return w, refusal
	}
	f, refusal := q.filterOf(q.r.Form)
	if refusal != nil {
		return w, refusal
	}
	f.Cursor = ""
	back := f.page("tasks")
	f = f.Fixed(q.now)
	do, all := strings.CutSuffix(q.r.PostFormValue("do"), "-all")
	w = wanted{Change: task.Change(do), All: all, Filter: f, Back: back}
	if w.Change != task.Cancel && w.Change != task.Retry {
		return w, task.Refuse(task.InvalidRequest, "%s", q.lang.text("error.form"))
	}
	if all {
		if f.Text != "" {
			return w, task.RefuseField(task.InvalidRequest, "q", "%s", q.lang.text("error.textall"))
		}
		return w, nil
	}
	w.Filter = filter{}
	for _, id := range q.r.Form["task"] {
		if isID(id) && !slices.Contains(w.IDs, id) {
			w.IDs = append(w.IDs, id)
		}
	}
	switch n := len(w.IDs); {
	case n == 0:
		return w, task.Refuse(task.InvalidRequest, "%s", q.lang.text("error.none"))
	case n > task.MaxChosen:
		return w, task.Refuse(task.InvalidRequest, "%s", q.lang.text("error.toomany", q.lang.number(task.MaxChosen)))
	}
	return w, nil
}

// previewBody is the data of the page that asks whether tasks shall be changed.
type previewBody struct {
	wanted
	Count int
	More  bool // there are more than Count
	First []task.Task
}

// preview shows which tasks a change would act on, and asks for a confirmation.
func (d *Dashboard) preview(q *request) *task.Error {
	w, refusal := q.wantedOf()
	if refusal != nil {
		return refusal
	}
	b := previewBody{wanted: w, Count: len(w.IDs)}
	first := w.IDs
	if w.All {
		picked, refusal := d.config.Source.Preview(q.ctx(), w.Change, w.Filter.query(q.now, maxCounted))
		if refusal != nil {
			return refusal
		}
		first, b.Count, b.More = picked.IDs, len(picked.IDs), picked.More
	}
	for _, id := range first[:min(previewed, len(first))] {
		if t, refusal := d.config.Source.Get(q.ctx(), id); refusal == nil {
			b.First = append(b.First, t)
		}
	}
	q.show(http.StatusOK, "preview", "preview."+string(w.Change), &frame{Body: b})
	return nil
}

// changeTasks begins the change that a preview has shown.
func (d *Dashboard) changeTasks(q *request) *task.Error {
	w, refusal := q.wantedOf()
	if refusal != nil {
		return refusal
	}
	op := task.Operation{Change: w.Change, Filter: w.Filter.page("tasks"), IDs: w.IDs}
	if op, refusal = d.config.Source.Operate(q.ctx(), op, w.Filter.query(q.now, 0)); refusal != nil {
		return refusal
	}
	q.redirect("operations/" + op.ID)
	return nil
}

// operationBody is an operation as the pages show it.
type operationBody struct {
	task.Operation
	Set   []pair  // the fields of its filter
	State string  // running, done, stopped, draining, limit, revoked, failed or lost
	Share float64 // how much of what was found is done, in percent
	Again []pair  // the fields of a form that begins it anew; nil: there is nothing left to do
	Do    string  // the change that the form asks for
}

// Took returns how long the operation has run.
func (b operationBody) Took(now time.Time) time.Duration {
	if b.Ended.IsZero() {
		return max(0, now.Sub(b.Began))
	}
	return b.Ended.Sub(b.Began)
}

// describe returns what the pages show of an operation.
func (q *request) describe(op *task.Operation) operationBody {
	b := operationBody{Operation: *op, Do: string(op.Change)}
	switch {
	case op.IsLost():
		b.State = "lost"
	case op.Ended.IsZero():
		b.State = "running"
	case op.Error == "":
		b.State = "done"
	case slices.Contains([]string{task.OperationStopped, task.OperationDraining, task.OperationLimit, task.OperationRevoked}, op.Error):
		b.State = op.Error
	default:
		b.State = "failed"
	}
	if op.Matched > 0 {
		b.Share = 100 * float64(op.Changed+op.Refused) / float64(op.Matched)
	}
	if op.More {
		b.Share = min(b.Share, 99)
	}
	_, address, _ := strings.Cut(op.Filter, "?")
	if values, err := url.ParseQuery(address); err == nil && op.IDs == nil {
		if f, refusal := q.filterOf(values); refusal == nil {
			b.Set = f.Set()
		}
	}
	if b.State == "running" || b.State == "done" {
		return b
	}
	if op.IDs == nil {
		b.Again, b.Do = append(b.Again, b.Set...), b.Do+"-all"
	}
	for _, id := range op.IDs {
		b.Again = append(b.Again, pair{"task", id})
	}
	return b
}

// operation shows the progress of an operation.
func (d *Dashboard) operation(q *request) *task.Error {
	id := q.r.PathValue("operation")
	list, refusal := d.config.Source.Operations(q.ctx())
	if refusal != nil {
		return refusal
	}
	i := slices.IndexFunc(list, func(op task.Operation) bool { return op.ID == id })
	if i < 0 {
		return task.Refuse(task.NotFound, "%s", q.lang.text("missing.operation"))
	}
	f := &frame{Body: q.describe(&list[i])}
	if list[i].Ended.IsZero() {
		f.Part, f.Reloads = "always", true
	}
	q.show(http.StatusOK, "operation", "operation."+string(list[i].Change), f)
	return nil
}

// operations lists the newest operations.
func (d *Dashboard) operations(q *request) *task.Error {
	list, refusal := d.config.Source.Operations(q.ctx())
	if refusal != nil {
		return refusal
	}
	var b []operationBody
	for i := range list {
		b = append(b, q.describe(&list[i]))
	}
	q.show(http.StatusOK, "operations", "operations.title", &frame{Body: b, Part: "always"})
	return nil
}

// stopOperation asks an operation to stop.
func (d *Dashboard) stopOperation(q *request) *task.Error {
	id := q.r.PathValue("operation")
	if refusal := d.config.Source.StopOperation(q.ctx(), id); refusal != nil {
		return refusal
	}
	q.redirect("operations/" + url.PathEscape(id) + "?did=stopping")
	return nil
}
