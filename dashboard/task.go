package dashboard

import (
	"context"
	"html/template"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// taskBody is the data of the page of a task.
type taskBody struct {
	Task      *task.Task
	Why       []string // why it is in its state, in words; the first one leads
	Attempts  []attempt
	Fall      template.HTML
	Payload   shown
	Result    shown
	Waited    time.Duration // until the first attempt, or until now
	Ran       time.Duration // of all attempts
	CanCancel bool
	CanRetry  bool
	RunNow    bool // a retry starts it before its time
	Copies    []copied
}

// attempt is one attempt in the history.
type attempt struct {
	Number, Generation int
	Began, Ended       time.Time // Ended is zero while it runs
	Outcome            string    // the name of a state; "again" or "released" if another attempt follows
	Node, Worker       string
	Error              string
	Waited             time.Duration // since the change before it
}

// Took returns how long the attempt has run.
func (a attempt) Took(now time.Time) time.Duration {
	if a.Ended.IsZero() {
		return max(0, now.Sub(a.Began))
	}
	return a.Ended.Sub(a.Began)
}

// copied is a command for a terminal that does something with a task.
type copied struct{ Name, Text string }

// checkedID returns the id in the path. Ids that no task can have are not found.
func (q *request) checkedID() (string, *task.Error) {
	id := q.r.PathValue("task")
	if !isID(id) {
		return "", task.Refuse(task.NotFound, "%s", q.lang.text("missing.task", visible(brief(id, 40))))
	}
	return id, nil
}

// task shows a task.
func (d *Dashboard) task(q *request) *task.Error {
	id, refusal := q.checkedID()
	if refusal != nil {
		return refusal
	}
	t, refusal := d.config.Source.Get(q.ctx(), id)
	if refusal != nil {
		return refusal
	}
	b := taskBody{Task: &t, Attempts: attemptsOf(t.History)}
	b.Why = d.why(q, &t)
	b.Fall = waterfall(q, &t, b.Attempts)
	b.Payload, b.Result = showBody(t.Payload), showBody(t.Result)
	for _, a := range b.Attempts {
		b.Ran += a.Took(q.now)
	}
	switch {
	case len(b.Attempts) > 0:
		b.Waited = b.Attempts[0].Began.Sub(t.CreatedAt)
	case t.State.Final():
		b.Waited = t.FinishedAt.Sub(t.CreatedAt)
	default:
		b.Waited = q.now.Sub(t.CreatedAt)
	}
	b.CanCancel = !t.State.Final() && !t.Cancelling
	b.CanRetry, b.RunNow = t.State.Final(), t.State == task.Scheduled
	b.Copies = copies(q, &t)
	part := "tasks"
	if !t.State.Final() {
		part = "always"
	}
	q.show(http.StatusOK, "task", "", &frame{Body: b, Part: part, Title: visible(brief(t.Action, 60)) + " " + shortID(t.ID)})
	return nil
}

// copies returns what people would type to do the same elsewhere.
func copies(q *request, t *task.Task) []copied {
	origin := "http://" + q.r.Host
	if q.isPrivate() && q.r.TLS != nil || q.r.Header.Get("X-Forwarded-Proto") == "https" {
		origin = "https://" + q.r.Host
	}
	return []copied{
		{"posta", "posta get " + t.ID},
		{"curl", "curl " + visible(origin) + "/v1/tasks/" + t.ID},
		{"line", `{"id":1,"op":"get","task":"` + t.ID + `"}`},
	}
}

// attemptsOf returns the attempts in a history.
func attemptsOf(history []task.Entry) []attempt {
	var list []attempt
	var before time.Time
	for _, e := range history {
		switch {
		case e.State == task.Running:
			a := attempt{Number: e.Attempt, Generation: e.Generation, Began: e.At, Node: e.Node, Worker: e.Worker}
			if !before.IsZero() {
				a.Waited = e.At.Sub(before)
			}
			list = append(list, a)
		case len(list) > 0 && list[len(list)-1].Ended.IsZero():
			last := &list[len(list)-1]
			last.Ended, last.Error, last.Outcome = e.At, e.Error, string(e.State)
			if e.Error != "" && !e.State.Final() {
				last.Outcome = string(task.Failed)
			}
			if e.Node != "" {
				last.Node = e.Node
			}
		}
		before = e.At
	}
	return list
}

// waterfall draws when a task waited and when it ran.
func waterfall(q *request, t *task.Task, attempts []attempt) template.HTML {
	begin0, end := t.CreatedAt, t.FinishedAt
	if len(t.History) > 0 && t.History[0].At.Before(begin0) {
		begin0 = t.History[0].At
	}
	if !t.State.Final() || end.IsZero() {
		end = q.now
	}
	total := end.Sub(begin0)
	if total <= 0 {
		total = time.Millisecond
	}
	const most = 24 // rows
	if len(attempts) > most {
		attempts = attempts[len(attempts)-most:]
	}
	const width, left, right, row = 760.0, 96.0, 84.0, 26.0
	height := row*float64(max(1, len(attempts))) + 26
	x := func(at time.Time) float64 {
		share := float64(at.Sub(begin0)) / float64(total)
		return left + (width-left-right)*min(1, max(0, share))
	}
	d := begin(width, height, q.lang.text("task.fall"))
	if len(attempts) == 0 {
		d.rect("wait", x(begin0), 8, x(end)-x(begin0), 8, 4)
		d.label("name", 0, 16, "start", q.lang.text("task.waits"))
		d.label("", width, 16, "end", q.lang.span(total))
	}
	from := begin0
	for i, a := range attempts {
		y := float64(i)*row + 5
		ended, class := a.Ended, a.Outcome
		if ended.IsZero() {
			ended, class = end, string(task.Running)
		}
		if class == string(task.Queued) || class == string(task.Scheduled) { // it was given back
			class = string(task.Cancelled)
		}
		d.label("name", 0, y+12, "start", q.lang.text("task.attempt", strconv.Itoa(a.Number)))
		d.rect("wait", x(from), y+5, x(a.Began)-x(from), 4, 2)
		d.raw(`<g class="` + className(class) + `">`)
		d.rect("run", x(a.Began), y, max(3, x(ended)-x(a.Began)), 14, 3)
		d.raw(`</g>`)
		d.label("", width, y+12, "end", q.lang.span(a.Took(q.now)))
		if from = ended; i == len(attempts)-1 && !a.Ended.IsZero() && !t.State.Final() {
			d.rect("wait", x(from)+4, y+5, x(end)-x(from)-4, 4, 2) // it waits for another attempt
		}
	}
	d.label("", left, height-4, "start", begin0.UTC().Format("15:04:05"))
	d.label("", width-right, height-4, "end", q.lang.text("time.plus", q.lang.span(total)))
	return d.end()
}

// className returns the name of a state as a class.
func className(name string) string {
	if slices.Contains(task.States(), task.State(name)) {
		return name
	}
	return ""
}

// maxAhead is how many tasks are counted that are before a task in its queue.
const maxAhead = 100

// why returns why a task is in its state, in words.
func (d *Dashboard) why(q *request, t *task.Task) []string {
	l := q.lang
	switch t.State {
	case task.Done, task.Failed, task.Cancelled:
		return whyEnded(q, t)
	case task.Running:
		where := t.Node
		if t.Worker != "" {
			where = t.Worker
		}
		list := []string{l.text("why.running", strconv.Itoa(t.Attempt), visible(where), l.span(q.now.Sub(t.StartedAt)))}
		if t.Cancelling {
			list = append(list, l.text("why.cancelling"))
		}
		if t.Timeout > 0 {
			list = append(list, l.text("why.timeout", l.span(t.Timeout)))
		}
		return list
	case task.Scheduled:
		left := t.RunAt.Sub(q.now)
		list := []string{l.text("why.scheduled", l.span(left), t.RunAt.UTC().Format("15:04:05"))}
		if left <= 0 {
			list[0] = l.text("why.due")
		}
		if t.Failures > 0 {
			list = []string{l.text("why.backoff", strconv.Itoa(t.Attempt), l.span(max(0, left)), l.number(int64(max(0, t.MaxAttempts-t.Failures))))}
		}
		return append(list, d.whyBlocked(q, t)...)
	case task.Queued:
	}
	list := d.whyBlocked(q, t)
	if t.Reserved != "" {
		list = append(list, l.text("why.reserved", visible(t.Reserved)))
	}
	if t.Suspect {
		list = append(list, l.text("why.suspect", l.number(int64(t.Crashes))))
	}
	if len(list) == 0 || t.Reserved == "" {
		list = append(list, d.whyAhead(q, t))
	}
	return list
}

func whyEnded(q *request, t *task.Task) []string {
	l := q.lang
	key := map[task.State]string{task.Done: "why.done", task.Failed: "why.failed", task.Cancelled: "why.cancelled"}[t.State]
	list := []string{l.text(key, l.ago(q.now, t.FinishedAt))}
	if t.State == task.Failed {
		code := l.text("code." + string(t.Code))
		if code == "code."+string(t.Code) {
			code = visible(string(t.Code))
		}
		list = append(list, code)
	}
	if keep := t.KeptFor(t.State); keep > 0 && !t.FinishedAt.IsZero() {
		list = append(list, l.text("why.kept", l.coarse(max(0, t.FinishedAt.Add(keep).Sub(q.now)))))
	}
	return list
}

// whyBlocked returns what keeps a task from starting: its queue is paused, or nobody can run it.
func (d *Dashboard) whyBlocked(q *request, t *task.Task) (list []string) {
	queues, refusal := d.config.Source.Queues(q.ctx())
	if refusal == nil {
		for _, one := range queues {
			if one.Name == t.Queue && one.Paused {
				list = append(list, q.lang.text("why.paused", t.Queue))
			}
		}
	}
	nodes, refusal := d.config.Source.Nodes(q.ctx())
	if refusal != nil {
		return list
	}
	has, works := false, false
	for _, n := range nodes {
		actions := slices.Contains(n.Actions, t.Action)
		has = has || actions
		works = works || actions && (slices.Contains(n.Queues, t.Queue) || slices.Contains(n.Queues, "*"))
	}
	switch {
	case !has:
		list = append(list, q.lang.text("why.unknown", visible(brief(t.Action, 60))))
	case !works:
		list = append(list, q.lang.text("why.unworked", t.Queue))
	}
	return list
}

// whyAhead returns how many tasks are before a task in its queue, up to a bound.
func (d *Dashboard) whyAhead(q *request, t *task.Task) string {
	page, refusal := d.config.Source.List(q.ctx(), store.Query{Queue: t.Queue, State: task.Queued, Until: t.CreatedAt, Limit: maxAhead + 1})
	if refusal != nil {
		return q.lang.text("why.queued")
	}
	ahead := 0
	for i := range page.Tasks {
		if page.Tasks[i].ID < t.ID {
			ahead++
		}
	}
	if ahead >= maxAhead {
		return q.lang.text("why.many", q.lang.number(maxAhead))
	}
	if ahead == 0 {
		return q.lang.text("why.next")
	}
	return q.lang.count("why.ahead", int64(ahead))
}

// body returns the handler that answers with the payload or the result of a task, as a file.
func body(name string) func(*Dashboard, *request) *task.Error {
	return func(d *Dashboard, q *request) *task.Error {
		id, refusal := q.checkedID()
		if refusal != nil {
			return refusal
		}
		content, size, refusal := d.config.Source.Open(q.ctx(), id, name)
		if refusal != nil {
			return refusal
		}
		defer content.Close()
		q.w.Header().Set("Content-Type", "application/json")
		q.w.Header().Set("Content-Disposition", `attachment; filename="`+id+`-`+name+`.json"`)
		q.w.Header().Set("Content-Security-Policy", "default-src 'none'; sandbox; frame-ancestors 'none'")
		if size >= 0 {
			q.w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
		}
		_, _ = io.Copy(&steady{q.w, http.NewResponseController(q.w)}, content)
		return nil
	}
}

// steady writes for as long as the browser reads.
type steady struct {
	w       io.Writer
	control *http.ResponseController
}

// Write implements io.Writer.
func (s *steady) Write(p []byte) (int, error) {
	_ = s.control.SetWriteDeadline(time.Now().Add(streamPatience))
	return s.w.Write(p)
}

// cancel cancels a task.
func (d *Dashboard) cancel(q *request) *task.Error {
	return d.change(q, d.config.Source.Cancel, "cancelling")
}

// retry begins a finished task again, or starts a scheduled one now.
func (d *Dashboard) retry(q *request) *task.Error {
	return d.change(q, func(ctx context.Context, id string) *task.Error {
		refusal := d.config.Source.Retry(ctx, id)
		return refusal
	}, "retried")
}

func (d *Dashboard) change(q *request, change func(ctx context.Context, id string) *task.Error, did string) *task.Error {
	id, refusal := q.checkedID()
	if refusal == nil {
		refusal = change(q.ctx(), id)
	}
	if refusal == nil {
		q.redirect("tasks/" + id + "?did=" + did)
	}
	return refusal
}
