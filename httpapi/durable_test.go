package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/httpapi"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/worker"
)

// engineOf makes an engine that runs until the test ends, or until drain is called.
func engineOf(t *testing.T, exec *executor.Executor, blobs blob.Blobs, workers *worker.Pool) (engine *durable.Engine, drain func()) {
	t.Helper()
	kept := &forgetful{Store: store.NewMemory(store.MemoryConfig{})}
	engine, err := durable.New(durable.Config{Store: kept, Executor: exec, Node: "n1", Blobs: blobs, Workers: workers, RunsSuspects: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return engine, stop
}

// forgetful is a store whose answer to tasks of the queue "lost" never arrives, though it has them.
type forgetful struct{ store.Store }

func (f *forgetful) Accept(ctx context.Context, tasks []task.Task) ([]store.Accepted, error) {
	answers, err := f.Store.Accept(ctx, tasks)
	if err == nil && tasks[0].Queue == "lost" {
		return nil, task.Refuse(task.UnknownOutcome, "the answer to the commit was lost")
	}
	return answers, err
}

// openDurable starts a Server with a store in memory and bodies in a directory of the test.
func openDurable(t *testing.T, change ...func(*httpapi.Config)) *door {
	t.Helper()
	return openWith(t, openBlobs(t), change...)
}

// openBlobs opens a directory of the test for bodies.
func openBlobs(t *testing.T) *blob.Dir {
	t.Helper()
	dir, err := blob.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return dir
}

// openWith is openDurable with this blob storage, or none.
func openWith(t *testing.T, blobs blob.Blobs, change ...func(*httpapi.Config)) *door {
	t.Helper()
	return openDurableOn(t, (*door).listenTCP, blobs, change...)
}

// durablyInBubble is inBubble with a store in memory and without storage for bodies.
func durablyInBubble(t *testing.T, test func(d *door), change ...func(*httpapi.Config)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(openDurableOn(t, (*door).listenInMemory, nil, change...)) })
}

func openDurableOn(t *testing.T, listen func(*door) net.Listener, blobs blob.Blobs, change ...func(*httpapi.Config)) *door {
	t.Helper()
	d := &door{t: t, began: make(chan string, 16), ended: make(chan error, 16), free: make(chan bool)}
	tell := actions.Action{Name: "tell", Slow: true, Run: func(ctx context.Context, call *actions.Call) (any, error) {
		call.Report(50, "half")
		return d.block(ctx, call)
	}}
	registry, err := actions.NewRegistry(append(actions.Builtin(), actions.Action{Name: "block", Slow: true, Run: d.block}, tell)...)
	if err != nil {
		t.Fatal(err)
	}
	exec, err := executor.New(executor.Config{Registry: registry})
	if err != nil {
		t.Fatal(err)
	}
	closeLast(t, exec)
	config := httpapi.Config{Executor: exec, Node: "n1", Version: "0.0.1"}
	for _, c := range change {
		c(&config)
	}
	config.Durable, d.drain = engineOf(t, exec, blobs, config.Workers)
	if d.server, err = httpapi.New(config); err != nil {
		t.Fatal(err)
	}
	d.serve(listen(d))
	return d
}

// post sends JSON.
func (d *door) post(path, body string, headers ...string) answer {
	d.t.Helper()
	return d.do(d.request("POST", path, body, append([]string{"Content-Type", "application/json"}, headers...)...))
}

// get asks for a path.
func (d *door) get(path string, headers ...string) answer {
	d.t.Helper()
	return d.do(d.request("GET", path, "", headers...))
}

// enqueue has a task accepted and gives its id.
func (d *door) enqueue(body string) string {
	d.t.Helper()
	got := d.post("/v1/tasks", body)
	found := regexp.MustCompile(`"task":"(\w{26})"`).FindStringSubmatch(got.body)
	if got.status != http.StatusAccepted || found == nil {
		d.t.Fatalf("not accepted: %d %s", got.status, got.body)
	}
	return found[1]
}

// finished waits for a task's end and gives its record.
func (d *door) finished(id string) string {
	d.t.Helper()
	got := d.get("/v1/tasks/" + id + "?wait=60")
	if got.status != http.StatusOK || !strings.Contains(got.body, "finished_at") {
		d.t.Fatalf("%d %s", got.status, got.body)
	}
	return got.body
}

// want compares an answer with a pattern, in which … stands for any text.
func want(t *testing.T, got answer, status int, pattern string) {
	t.Helper()
	expression := `^` + strings.ReplaceAll(regexp.QuoteMeta(pattern), "…", `[\s\S]*`) + `\n?$`
	if got.status != status || !regexp.MustCompile(expression).MatchString(got.body) {
		t.Errorf("got %d\n%s\nwant %d\n%s", got.status, got.body, status, pattern)
	}
	if kind := got.header.Get("Content-Type"); kind != "application/json" {
		t.Errorf("the content type is %q", kind)
	}
	if !json.Valid([]byte(got.body)) {
		t.Errorf("this is no JSON: %s", got.body)
	}
}

func TestATaskIsAcceptedAndItsResultWaitedFor(t *testing.T) {
	t.Parallel()
	d := openDurable(t)
	got := d.post("/v1/tasks", `{"id":7,"action":"upper","payload":"hola"}`)
	want(t, got, http.StatusAccepted, `{"id":7,"status":"queued","task":"…"}`)
	location, relative := strings.CutPrefix(got.header.Get("Location"), "tasks/")
	if location = "/v1/tasks/" + location; !relative {
		t.Errorf("Location is %s, want one that survives a prefix of the path", got.header.Get("Location"))
	}
	want(t, d.get(location+"?wait=60"), http.StatusOK,
		`{"status":"done","task":"…","queue":"default","action":"upper","attempt":1,…,"result":{"ok":true,"data":"HOLA"}}`)
	want(t, d.get(location+"?payload=true"), http.StatusOK, `{"status":"done",…,"payload":"hola","result":…}`)
	if got := d.get(location); strings.Contains(got.body, "payload") {
		t.Errorf("a payload that nobody asked for: %s", got.body)
	}
	want(t, d.post("/v1/tasks", `{"action":"echo","delay":3600}`), http.StatusAccepted, `{"id":null,"status":"scheduled","task":"…","run_at":"…Z"}`)
	want(t, d.post("/v1/tasks", `{"action":"nobody"}`), http.StatusAccepted, `{…,"warning":"no live node has the action nobody; the task waits for one"}`)
}

func TestAWaitThatRunsOutShowsTheTaskAsItStands(t *testing.T) {
	t.Parallel()
	d := openDurable(t)
	id := d.enqueue(`{"action":"block"}`)
	receive(t, d.began)
	// The action has been entered; the store knows it a moment later.
	for strings.Contains(d.get("/v1/tasks/"+id+"?wait=0.05").body, `"status":"queued"`) && t.Context().Err() == nil {
		continue
	}
	want(t, d.get("/v1/tasks/"+id+"?wait=0.05"), http.StatusOK, `{"status":"running",…}`)
	want(t, d.get("/v1/tasks/"+id+"?wait=0"), http.StatusOK, `{"status":"running",…}`)
	for _, bad := range []string{"x", "-1", "3601", "1e", ""} {
		p := wantProblem(t, d.get("/v1/tasks/"+id+"?wait="+bad), http.StatusBadRequest, task.InvalidRequest, "from 0 to 3600")
		if p.Field != "wait" {
			t.Errorf("%q: the field is %s", bad, p.Field)
		}
	}
	close(d.free)
}

func TestAKeyMayComeAsAHeader(t *testing.T) {
	t.Parallel()
	d := openDurable(t)
	const body = `{"action":"echo","payload":1}`
	first := d.post("/v1/tasks", body, "Idempotency-Key", "k")
	want(t, first, http.StatusAccepted, `{…"status":"queued"…}`)
	d.finished(strings.TrimPrefix(first.header.Get("Location"), "tasks/"))
	for _, again := range []answer{
		d.post("/v1/tasks", body, "Idempotency-Key", "k"), d.post("/v1/tasks", `{"action":"echo","payload":1,"key":"k"}`),
		d.post("/v1/tasks", `{"action":"echo","payload":1,"key":"k"}`, "Idempotency-Key", "k"),
	} {
		want(t, again, http.StatusOK, `{"id":null,"status":"done","task":"…","result":{"ok":true,"data":1},"attempt":1,"duplicate":true}`)
		if again.header.Get("Location") != first.header.Get("Location") {
			t.Errorf("it is said to be at %s", again.header.Get("Location"))
		}
	}
	wantProblem(t, d.post("/v1/tasks", `{"action":"echo","payload":1,"key":"l"}`, "Idempotency-Key", "k"), http.StatusBadRequest, task.InvalidRequest, "must be the same")
	wantProblem(t, d.post("/v1/tasks", `{"action":"echo","payload":2}`, "Idempotency-Key", "k"), http.StatusConflict, task.KeyConflict, "belongs to task")
	wantProblem(t, d.post("/v1/tasks", body, "Idempotency-Key", strings.Repeat("k", 257)), http.StatusBadRequest, task.InvalidRequest, "257 bytes")
	wantProblem(t, d.post("/v1/tasks", body, "Idempotency-Key", "a", "Idempotency-Key", "b"), http.StatusBadRequest, task.InvalidRequest, "must come once")
}

func TestRefusalsOfDurableRoutesNameWhatIsWrong(t *testing.T) {
	t.Parallel()
	d := openDurable(t)
	for body, part := range map[string]string{
		`{"action":"echo","wait":true}`: "?wait=30", `{"action":"echo","op":"run"}`: "leave op out", `{"action":"echo","priority":"x"}`: "priority must be one of",
		`{"action":"echo","delay":1,"run_at":"2030-01-01T00:00:00Z"}`: "cannot both", `{"payload":1}`: "action is missing",
		`{"action":"echo","payload_blob":{"task":"x"}}`: "PUT /v1/blobs",
	} {
		wantProblem(t, d.post("/v1/tasks", body), http.StatusBadRequest, task.InvalidRequest, part)
	}
	wantProblem(t, d.post("/v1/tasks", `{"action":"echo","nope":1}`), http.StatusBadRequest, task.UnknownField, "unknown field nope")
	wantProblem(t, d.get("/v1/tasks/01J"), http.StatusNotFound, task.NotFound, "no task 01J")
	wantProblem(t, d.get("/v1/tasks/"+strings.Repeat("x", 65)), http.StatusBadRequest, task.InvalidRequest, "65 bytes")
	for path, part := range map[string]string{
		"/v1/tasks?nope=1": "GET /v1/tasks has queue, action", "/v1/tasks/01J?queue=a": "has wait, payload", "/v1/queues?x=1": "has none",
		"/v1/tasks?op=run": "unknown parameter op", "/v1/tasks?meta=1": "unknown parameter meta",
	} {
		wantProblem(t, d.get(path), http.StatusBadRequest, task.UnknownField, part)
	}
	for path, part := range map[string]string{
		"/v1/tasks?limit=0": "from 1 to 200", "/v1/tasks?limit=x": "from 1 to 200", "/v1/tasks?limit=1e1": "from 1 to 200", "/v1/tasks?status=gone": "status must be one of", "/v1/tasks?queue=A": "queue may have only",
		"/v1/tasks?queue=a&queue=b": "must come once", "/v1/tasks?limit=%zz": "cannot be read", "/v1/tasks/01J?payload=maybe": "true or false", "/v1/tasks?queue=%ff": "as UTF-8",
	} {
		wantProblem(t, d.get(path), http.StatusBadRequest, task.InvalidRequest, part)
	}
	for _, change := range []string{"pause", "resume"} {
		wantProblem(t, d.post("/v1/queues/mail/"+change, ""), http.StatusNotFound, task.NotFound, "no queue mail")
	}
	wantProblem(t, d.post("/v1/queues/MAIL/pause", ""), http.StatusBadRequest, task.InvalidRequest, "queue may have only")
	wantProblem(t, d.post("/v1/tasks/01J/cancel", `{"x":1}`), http.StatusBadRequest, task.InvalidRequest, "takes no body")
	wantProblem(t, d.post("/v1/tasks/cancel", `{"limit":1}`), http.StatusBadRequest, task.InvalidRequest, "either task or filter")
	wantProblem(t, d.post("/v1/tasks", `{}`, "Content-Type", "text/plain"), http.StatusUnsupportedMediaType, task.InvalidRequest, "application/json or application/x-ndjson")
	if refused := d.server.Stats().Refused; refused[task.UnknownField] != 6 || refused[task.NotFound] != 3 {
		t.Errorf("refusals are not counted: %v", refused)
	}
}

func TestAnUnknownOutcomeNamesItsTask(t *testing.T) {
	t.Parallel()
	d := openDurable(t)
	got := d.post("/v1/tasks", `{"action":"echo","queue":"lost","delay":3600}`)
	p := wantProblem(t, got, http.StatusGatewayTimeout, task.UnknownOutcome, "was lost")
	if len(p.Task) != 26 {
		t.Fatalf("the task is %q", p.Task)
	}
	want(t, d.get("/v1/tasks/"+p.Task), http.StatusOK, `{"status":"scheduled",…}`)
}

func TestListsAreFilteredAndPaged(t *testing.T) {
	t.Parallel()
	d := openDurable(t)
	first := d.enqueue(`{"action":"echo","queue":"mail","keep":0.001}`)
	want(t, d.get("/v1/tasks/"+first+"?wait=30"), http.StatusOK, `{"status":"done",…}`)
	want(t, d.post("/v1/queues/mail/pause", ""), http.StatusOK, `{"ok":true,"queue":"mail","paused":true}`)
	for i := range 5 {
		d.enqueue(fmt.Sprintf(`{"action":"echo","queue":"mail","meta":{"n":"%d","a b":"ñ&"}}`, i))
	}
	var page struct {
		Tasks  []struct{ Meta map[string]string }
		Cursor string
	}
	var seen []string
	for path := "/v1/tasks?queue=mail&status=queued&action=echo&limit=2&meta.a+b=%C3%B1%26"; ; path = "/v1/tasks?queue=mail&status=queued&limit=2&cursor=" + page.Cursor {
		got := d.get(path)
		want(t, got, http.StatusOK, `{"ok":true,"tasks":[…]…}`)
		page.Cursor, page.Tasks = "", nil
		if err := json.Unmarshal([]byte(got.body), &page); err != nil {
			t.Fatal(err)
		}
		for _, one := range page.Tasks {
			seen = append(seen, one.Meta["n"])
		}
		if page.Cursor == "" {
			break
		}
	}
	if got := strings.Join(seen, ""); got != "43210" {
		t.Errorf("the pages have %s", got)
	}
	want(t, d.get("/v1/tasks?since=2020-01-01T00:00:00+02:00&until=2999-01-01T00:00:00Z&meta.n=3"), http.StatusOK, `{"ok":true,"tasks":[{…}]}`)
	want(t, d.get("/v1/tasks?until=2020-01-01T00:00:00Z"), http.StatusOK, `{"ok":true,"tasks":[]}`)
	wantProblem(t, d.get("/v1/tasks?since=soon"), http.StatusBadRequest, task.InvalidRequest, "since must be a time")
	want(t, d.get("/v1/tasks?meta.n=3"), http.StatusOK, `{"ok":true,"tasks":[{…"meta":{"a b":"ñ&","n":"3"}}]}`)
	want(t, d.get("/v1/queues"), http.StatusOK, `{"ok":true,"queues":[{"queue":"mail","paused":true,"scheduled":0,"queued":5,"running":0,"failed":0,"oldest_s":…,"rate_in":…,"rate_out":…,"unserved":false}]}`)
	want(t, d.get("/v1/nodes"), http.StatusOK, `{"ok":true,"nodes":[{"node":"n1","pid":…,"actions":["block","echo",…],"queues":["*"],"slots":…,"started_at":"…Z","seen_at":"…Z"}]}`)
	want(t, d.post("/v1/tasks/cancel", `{"id":"x","filter":{"queue":"mail"},"limit":4}`), http.StatusOK,
		`{"id":"x","status":"done","result":{"ok":true,"matched":4,"changed":4,"cancelling":0,"more":true}}`)
	want(t, d.post("/v1/tasks/retry", `{"filter":{"meta":{"n":"0"}}}`), http.StatusOK,
		`{"id":null,"status":"done","result":{"ok":true,"matched":1,"changed":1,"cancelling":0,"more":false}}`)
	want(t, d.post("/v1/queues/mail/resume", ""), http.StatusOK, `{"ok":true,"queue":"mail","paused":false}`)
}

func TestATaskIsCancelledAndBegunAgain(t *testing.T) {
	t.Parallel()
	d := openDurable(t)
	id := d.enqueue(`{"action":"block"}`)
	receive(t, d.began)
	want(t, d.post("/v1/tasks/"+id+"/cancel", ""), http.StatusOK, `{"status":"cancelling","task":"`+id+`"}`)
	want(t, d.get("/v1/tasks/"+id+"?wait=60"), http.StatusOK, `{"status":"cancelled",…}`)
	want(t, d.post("/v1/tasks/"+id+"/cancel", ""), http.StatusOK, `{"status":"cancelled","task":"`+id+`"}`)
	want(t, d.post("/v1/tasks/"+id+"/retry", ""), http.StatusOK, `{"status":"queued","task":"`+id+`","generation":1}`)
	close(d.free)
	want(t, d.get("/v1/tasks/"+id+"?wait=60"), http.StatusOK, `{"status":"done",…"attempt":2,"max_attempts":12,"timeout":60,"generation":1,…}`)
	wantProblem(t, d.post("/v1/tasks/"+id+"/cancel", ""), http.StatusConflict, task.Conflict, "is done")
	wantProblem(t, d.post("/v1/tasks/none/retry", ""), http.StatusNotFound, task.NotFound, "no task none")
}

func TestADrainEndsWaits(t *testing.T) {
	t.Parallel()
	d := openDurable(t)
	id := d.enqueue(`{"action":"block"}`)
	receive(t, d.began)
	got := make(chan answer, 1)
	go func() { got <- d.get("/v1/tasks/" + id + "?wait=3600") }()
	eventually(t, "the wait is open", func() bool { return d.server.Stats().Running == 1 })
	d.server.Drain()
	close(d.free)
	d.drain()
	if a := receive(t, got); a.status != http.StatusOK { // whichever comes first
		wantProblem(t, a, http.StatusServiceUnavailable, task.Draining, "about to stop")
	}
	wantProblem(t, d.post("/v1/tasks", `{"action":"echo"}`), http.StatusServiceUnavailable, task.Draining, "about to stop")
}
