package dashboard

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// fakeSource is a Source with what a test has put into it. It notes what it was asked to change.
type fakeSource struct {
	store   bool
	narrow  bool // the visitor may not see the whole system
	queues  []task.Queue
	nodes   []task.Node
	workers []task.Worker
	keys    []task.AccessKey
	audit   []task.AuditEntry // newest first
	tasks   []task.Task       // newest first
	parts   Parts
	refusal *task.Error // of every call that may refuse
	answer  string      // of Send
	asked   []string
	reads   atomic.Int64  // of the queues
	queries []store.Query // of List
	looked  string        // the cursor of pages that are not full

	operations []task.Operation
}

func (f *fakeSource) Keeps() bool { return f.store }

func (f *fakeSource) Queues(context.Context) ([]task.Queue, *task.Error) {
	f.reads.Add(1)
	return f.queues, f.refusal
}

func (f *fakeSource) Nodes(context.Context) ([]task.Node, *task.Error) { return f.nodes, f.refusal }

func (f *fakeSource) Audit(_ context.Context, query store.AuditQuery) (store.AuditPage, *task.Error) {
	var page store.AuditPage
	for _, e := range f.audit {
		if query.Who == "" || query.Who == e.Who {
			page.Entries = append(page.Entries, e)
		}
	}
	return page, f.refusal
}

func (f *fakeSource) Keys(context.Context) ([]task.AccessKey, *task.Error) { return f.keys, f.refusal }

func (f *fakeSource) CreateKey(_ context.Context, name string, grants []string, lifetime time.Duration) (auth.NewKey, *task.Error) {
	if name == "" {
		return auth.NewKey{}, task.RefuseField(task.InvalidRequest, "name", "name <is> missing")
	}
	f.asked = append(f.asked, fmt.Sprint("create ", name, grants, lifetime))
	return auth.NewKey{AccessKey: task.AccessKey{ID: "new", Name: name}, Text: "posta_new_secret", SigningSecret: "signs-passes"}, f.refusal
}

func (f *fakeSource) RevokeKey(_ context.Context, id string) *task.Error {
	f.asked = append(f.asked, "revoke "+id)
	return f.refusal
}

func (f *fakeSource) Workers(context.Context) ([]task.Worker, *task.Error) {
	return f.workers, f.refusal
}

func (f *fakeSource) List(_ context.Context, query store.Query) (store.Page, *task.Error) {
	if f.refusal != nil {
		return store.Page{}, f.refusal
	}
	if query.Cursor != "" && len(query.Cursor) != 26 {
		return store.Page{}, task.RefuseField(task.InvalidRequest, "cursor", "cursor is not one of a page")
	}
	f.queries = append(f.queries, query)
	page := store.Page{Cursor: f.looked}
	for _, t := range f.tasks {
		fits := (query.State == "" || query.State == t.State) && (query.Queue == "" || query.Queue == t.Queue) &&
			(query.Action == "" || query.Action == t.Action) && (query.Cursor == "" || t.ID < query.Cursor) && (query.Until.IsZero() || !t.CreatedAt.After(query.Until))
		if !fits {
			continue
		}
		if len(page.Tasks) == query.Limit {
			page.Cursor = page.Tasks[len(page.Tasks)-1].ID
			break
		}
		page.Tasks = append(page.Tasks, t)
	}
	return page, nil
}

func (f *fakeSource) Get(_ context.Context, id string) (task.Task, *task.Error) {
	i := slices.IndexFunc(f.tasks, func(t task.Task) bool { return t.ID == id })
	if f.refusal == nil && i < 0 {
		return task.Task{}, task.Refuse(task.NotFound, "there is no task %s", id)
	}
	if f.refusal != nil {
		return task.Task{}, f.refusal
	}
	return f.tasks[i], nil
}

func (f *fakeSource) Open(ctx context.Context, id, body string) (io.ReadCloser, int64, *task.Error) {
	t, refusal := f.Get(ctx, id)
	if refusal != nil {
		return nil, 0, refusal
	}
	content := t.Payload.Inline
	if body == "result" {
		content = t.Result.Inline
	}
	return io.NopCloser(strings.NewReader(string(content))), int64(len(content)), nil
}

func (f *fakeSource) note(text string) *task.Error {
	f.asked = append(f.asked, text)
	return f.refusal
}

func (f *fakeSource) Cancel(_ context.Context, id string) *task.Error { return f.note("cancel " + id) }

func (f *fakeSource) Retry(_ context.Context, id string) *task.Error { return f.note("retry " + id) }

func (f *fakeSource) Preview(ctx context.Context, _ task.Change, query store.Query) (store.Picked, *task.Error) {
	page, refusal := f.List(ctx, query)
	picked := store.Picked{More: page.Cursor != ""}
	for i := range page.Tasks {
		picked.IDs = append(picked.IDs, page.Tasks[i].ID)
	}
	return picked, refusal
}

func (f *fakeSource) Operate(_ context.Context, op task.Operation, query store.Query) (task.Operation, *task.Error) {
	op.ID = idOf(len(f.operations) + 1)
	f.operations, f.queries = append(f.operations, op), append(f.queries, query)
	return op, f.note(string(op.Change) + " " + op.Filter + strings.Join(op.IDs, " "))
}

func (f *fakeSource) Operations(context.Context) ([]task.Operation, *task.Error) {
	return f.operations, f.refusal
}

func (f *fakeSource) StopOperation(_ context.Context, id string) *task.Error {
	return f.note("stop " + id)
}

func (f *fakeSource) AppendRecord(dst []byte, t *task.Task) []byte {
	return append(dst, t.ID+"\n"...)
}

func (f *fakeSource) Pause(_ context.Context, queue string, paused bool) *task.Error {
	if paused {
		return f.note("pause " + queue)
	}
	return f.note("resume " + queue)
}

func (f *fakeSource) Quiet(_ context.Context, worker string) *task.Error {
	return f.note("quiet " + worker)
}

func (f *fakeSource) Send(_ context.Context, line []byte) []byte {
	_ = f.note(string(line))
	return []byte(f.answer)
}

func (f *fakeSource) Parts() Parts { return f.parts }

func (f *fakeSource) Limits() task.Limits { return task.DefaultLimits() }

func (f *fakeSource) SeesAll(context.Context) bool { return !f.narrow }

func (f *fakeSource) Actions(context.Context) []string { return []string{"echo", "upper"} }

// noon is when the pages of the tests are made.
var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// idOf returns an id that is sorted by n.
func idOf(n int) string {
	const digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	id := []byte("01M8000000000000000000000Z")
	for i := len(id) - 2; n > 0; i-- {
		id[i] = digits[n%32]
		n /= 32
	}
	return string(id)
}

// filled returns a source with tasks in all states, whose texts are text.
func filled(text string) *fakeSource {
	f := &fakeSource{
		store:   true,
		queues:  []task.Queue{{Name: "mail", Queued: 3, Running: 1, Failed: 2, OldestAge: 2 * time.Minute, RateIn: 1.5}, {Name: "video", Queued: 4, Paused: true, Unserved: true}},
		nodes:   []task.Node{{Name: "n1" + text, Slots: 8, Actions: []string{"upper", text}, Queues: []string{"*"}, Started: noon.Add(-time.Hour), Seen: noon, Stuck: 1}},
		workers: []task.Worker{{Name: "w1" + text, Node: "n1" + text, Actions: []string{"resize", text}, Slots: 4, Held: 2, Version: text, Since: noon.Add(-time.Minute), Stuck: true}},
		parts:   Parts{Store: "SQLite", Broker: "RabbitMQ", Blobs: "files", BrokerAway: true},
		answer:  `{"id":1,"status":"done","result":{"ok":true,"data":"HOLA"}}`,
	}
	f.operations = []task.Operation{
		{ID: idOf(71), Change: task.Cancel, Filter: "tasks?action=" + url.QueryEscape("resize"+text), Who: "ana" + text, Node: "n1" + text, Began: noon.Add(-time.Minute), Matched: 10, Changed: 4, More: true},
		{ID: idOf(70), Change: task.Retry, IDs: []string{idOf(896)}, Who: "ana" + text, Node: "n1" + text, Began: noon.Add(-time.Minute), Ended: noon, Matched: 1, Refused: 1, Error: "away" + text},
	}
	for i, state := range task.States() {
		t := task.Task{ID: idOf(900 - i), Action: "resize" + text, State: state, Attempt: 1, CreatedAt: noon.Add(-time.Minute), StartedAt: noon.Add(-30 * time.Second), Node: "n1" + text, Worker: "w1" + text}
		t.Queue, t.Key, t.MaxAttempts, t.Timeout, t.Meta = "mail", "k"+text, 3, time.Minute, map[string]string{"user" + text: text}
		t.Payload.Inline = task.AppendString([]byte(`{"url":`), "a.png"+text)
		t.Payload.Inline = append(t.Payload.Inline, `,"n":18446744073709551616.10}`...)
		t.History = []task.Entry{
			{Seq: 1, State: task.Queued, At: noon.Add(-time.Minute)},
			{Seq: 2, State: task.Running, Attempt: 1, At: noon.Add(-30 * time.Second), Node: "n1" + text},
		}
		switch {
		case state == task.Scheduled:
			t.RunAt, t.Failures, t.Error, t.Code = noon.Add(40*time.Second), 1, "no route"+text, task.ActionFailed
			t.History = append(t.History, task.Entry{Seq: 3, State: task.Scheduled, Attempt: 1, At: noon.Add(-20 * time.Second), Error: "no route" + text})
		case state == task.Running:
			t.Progress = task.Progress{Percent: 40, Message: "half" + text}
		case state == task.Failed:
			t.Error, t.Code = "cannot read 17 of \"a-17.png\""+text, task.ActionFailed
		case state == task.Done:
			t.Result.Inline = task.AppendString([]byte(`{"ok":true,"data":`), text+" ")
			t.Result.Inline = append(t.Result.Inline, '}')
		}
		if state.Final() {
			t.FinishedAt = noon.Add(-10 * time.Second)
			t.History = append(t.History, task.Entry{Seq: 3, State: state, Attempt: 1, At: t.FinishedAt, Error: t.Error, Node: "n1" + text})
		}
		f.tasks = append(f.tasks, t)
	}
	return f
}

// served is a dashboard under test.
type served struct {
	*Dashboard
	t      *testing.T
	source *fakeSource
}

func serve(t *testing.T, source *fakeSource, change ...func(*Config)) *served {
	t.Helper()
	config := Config{
		Source: source, History: NewHistory(), Counters: func() Counters { return Counters{} }, Node: "n1", Version: "1.2.3",
		Now: func() time.Time { return noon },
	}
	for _, c := range change {
		c(&config)
	}
	d, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	return &served{d, t, source}
}

// get answers a GET with more headers, which are pairs.
func (s *served) get(path string, headers ...string) *httptest.ResponseRecorder {
	return s.do(http.MethodGet, path, "", headers...)
}

func (s *served) post(path, form string, headers ...string) *httptest.ResponseRecorder {
	return s.do(http.MethodPost, path, form, headers...)
}

func (s *served) do(method, path, body string, headers ...string) *httptest.ResponseRecorder {
	s.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = "localhost"
	if body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// paths are the pages of a filled source.
func paths() []string {
	list := []string{"/", "/?span=1h", "/tasks", "/tasks?state=failed", "/tasks?q=route", "/operations", "/operations/" + idOf(70), "/operations/" + idOf(71), "/failures", "/queues", "/nodes", "/try", "/settings", "/nowhere"}
	for i := range task.States() {
		list = append(list, "/tasks/"+idOf(900-i))
	}
	return append(list, "/try?from="+idOf(900))
}

func sorted(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
