package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"github.com/posta-tasks/posta/actions"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/httpapi"
	"github.com/posta-tasks/posta/task"
)

func TestRunAnswersWithTheReplyOfTheLineProtocol(t *testing.T) {
	t.Parallel()
	d := open(t)
	tests := map[string]string{
		`{"id":1,"action":"upper","payload":"hola"}`:                      `{"id":1,"status":"done","result":{"ok":true,"data":"HOLA"}}`,
		`{"action":"echo"}`:                                               `{"id":null,"status":"done","result":{"ok":true,"data":null}}`,
		`{"id":12345678901234567890,"action":"echo","payload":1.0e2}`:     `{"id":12345678901234567890,"status":"done","result":{"ok":true,"data":1.0e2}}`,
		`{"id":"ñ","op":"run","action":"fib","payload":25}`:               `{"id":"ñ","status":"done","result":{"ok":true,"fib":75025}}`,
		`{"id":2,"action":"nope"}`:                                        `{"id":2,"status":"done","result":{"ok":false,"error":"unknown action nope"}}`,
		`{"id":3,"action":"sleep","payload":5,"timeout":0.05}`:            `{"id":3,"status":"done","result":{"ok":false,"error":"timed out after 0.05s"}}`,
		"\r\n {\n\t\"id\": 4,\r\n \"action\": \"echo\",\"payload\":[]}\n": `{"id":4,"status":"done","result":{"ok":true,"data":[]}}`,
	}
	for body, want := range tests {
		got := d.run(body)
		if got.status != http.StatusOK || got.body != want+"\n" {
			t.Errorf("%s\n got %d %s\nwant 200 %s", body, got.status, got.body, want)
		}
		if kind := got.header.Get("Content-Type"); kind != "application/json" {
			t.Errorf("the content type is %q", kind)
		}
	}
}

func TestRunTakesJSONUnderAnyOfItsNames(t *testing.T) {
	t.Parallel()
	d := open(t)
	for _, kind := range []string{"application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8"} {
		got := d.do(d.request("POST", "/v1/run", `{"action":"echo"}`, "Content-Type", kind))
		if got.status != http.StatusOK {
			t.Errorf("%s: %d %s", kind, got.status, got.body)
		}
	}
}

func TestRunRefusesWhatIsNoJSONByItsType(t *testing.T) {
	t.Parallel()
	d := open(t)
	tests := map[string][]string{
		"none":             {},
		"a form":           {"Content-Type", "application/x-www-form-urlencoded"},
		"a file form":      {"Content-Type", "multipart/form-data; boundary=x"},
		"text":             {"Content-Type", "text/plain"},
		"text, cunningly":  {"Content-Type", "text/plain; application/json"},
		"two":              {"Content-Type", "application/json", "Content-Type", "text/plain"},
		"other JSON":       {"Content-Type", "application/json-seq"},
		"another argument": {"Content-Type", "application/json; boundary=x"},
		"broken":           {"Content-Type", "application/json; charset"},
		"compressed":       {"Content-Type", "application/json", "Content-Encoding", "gzip"},
	}
	for name, headers := range tests {
		got := d.do(d.request("POST", "/v1/run", `{"action":"echo"}`, headers...))
		p := wantProblem(t, got, http.StatusUnsupportedMediaType, task.InvalidRequest, "")
		if p.Field == "" || got.header.Get("Accept") != "application/json" {
			t.Errorf("%s: field %q, Accept %q", name, p.Field, got.header.Get("Accept"))
		}
	}
}

func TestRunRefusesABodyThatIsNoTask(t *testing.T) {
	t.Parallel()
	d := open(t)
	tests := []struct {
		body, part, field string
		code              task.Code
	}{
		{``, "invalid json: ", "", task.InvalidJSON},
		{`hello`, "invalid json: ", "", task.InvalidJSON},
		{`{"action":"echo"}{"action":"echo"}`, "invalid json: ", "", task.InvalidJSON},
		{`{"action":"echo","action":"echo"}`, "invalid json: ", "", task.InvalidJSON},
		{"{\"action\":\"\xff\"}", "invalid json: ", "", task.InvalidJSON},
		{`{"action":"echo","payload":` + strings.Repeat("[", 80) + strings.Repeat("]", 80) + `}`, "invalid json: ", "", task.InvalidJSON},
		{`[]`, "object", "", task.InvalidRequest},
		{`{"id":[],"action":"echo"}`, "id must be", "id", task.InvalidRequest},
		{`{"id":"` + strings.Repeat("x", 129) + `","action":"echo"}`, "128", "id", task.InvalidRequest},
		{`{}`, "action is missing", "action", task.InvalidRequest},
		{`{"action":"echo","timeout":-1}`, "timeout", "timeout", task.InvalidRequest},
		{`{"action":"echo","timeout":3601}`, "3600", "timeout", task.InvalidRequest},
		{`{"action":"echo","prioridad":1}`, "unknown field prioridad", "prioridad", task.UnknownField},
		{`{"action":"echo","token":"x"}`, "unknown field token", "token", task.UnknownField},
		{`{"op":"nope"}`, "unknown op nope", "op", task.UnknownOp},
		{`{"op":"ping"}`, "op is ping", "op", task.InvalidRequest},
		{`{"op":"enqueue","action":"echo"}`, "op is enqueue", "op", task.InvalidRequest},
	}
	for _, test := range tests {
		p := wantProblem(t, d.run(test.body), http.StatusBadRequest, test.code, test.part)
		if p.Field != test.field {
			t.Errorf("%.60s: field %q, want %q", test.body, p.Field, test.field)
		}
	}
}

func TestAByteOrderMarkBeforeABodyIsSkipped(t *testing.T) {
	t.Parallel()
	d := openDurable(t)
	const mark = "\xEF\xBB\xBF"
	want(t, d.run(mark+`{"action":"upper","payload":"hola"}`), http.StatusOK, `{"id":null,"status":"done","result":{"ok":true,"data":"HOLA"}}`)
	want(t, d.post("/v1/tasks", mark+`{"action":"upper","payload":"hola"}`), http.StatusAccepted, `{"id":null,"status":"queued","task":"…"}`)
	wantProblem(t, d.run(mark+mark+`{"action":"upper"}`), http.StatusBadRequest, task.InvalidJSON, "at byte 1")
	got := d.do(d.request("POST", "/v1/tasks", mark+`{"id":1,"action":"echo"}`+"\n"+mark+`{"id":2,"action":"echo"}`, "Content-Type", lines))
	if !strings.HasPrefix(got.body, `{"id":1,"status":"queued"`) || !strings.Contains(got.body, "\n"+`{"id":null,"status":"error","code":"invalid_json"`) {
		t.Errorf("a stream of lines is answered %s", got.body)
	}
	uploaded := d.do(d.request("PUT", "/v1/blobs", mark+"[1]", "Content-Type", "application/json"))
	want(t, uploaded, http.StatusOK, `{"blob":{"task":"…","size":3,"sha256":"…"}}`)
}

func TestRunRefusesAQuery(t *testing.T) {
	t.Parallel()
	d := open(t)
	r := d.request("POST", "/v1/run?timeout=5", `{"action":"echo"}`, "Content-Type", "application/json")
	wantProblem(t, d.do(r), http.StatusBadRequest, task.UnknownField, "has none")
}

// hasty returns a body one second.
func hasty(config *httpapi.Config, _ *executor.Config) { config.Limits.LineTimeout = time.Second }

// small makes the largest body 1,000 bytes.
func small(config *httpapi.Config, _ *executor.Config) { config.Limits.Line = 1000 }

func TestABodyMayBeAsLargeAsALine(t *testing.T) {
	t.Parallel()
	d := open(t, small)
	body := func(size int) string {
		const frame = `{"action":"echo","payload":""}`
		return strings.Replace(frame, `""`, `"`+strings.Repeat("x", size-len(frame))+`"`, 1)
	}
	chunked := func(size int) *http.Request {
		r := d.request("POST", "/v1/run", "", "Content-Type", "application/json")
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body(size))), -1
		return r
	}
	if got := d.run(body(1000)); got.status != http.StatusOK {
		t.Errorf("1000 bytes: %d %s", got.status, got.body)
	}
	if got := d.do(chunked(1000)); got.status != http.StatusOK {
		t.Errorf("1000 bytes in chunks: %d %s", got.status, got.body)
	}
	for name, got := range map[string]answer{"1001": d.run(body(1001)), "1001 in chunks": d.do(chunked(1001)), "a million": d.run(body(1_000_000)), "a million in chunks": d.do(chunked(1_000_000))} {
		if p := wantProblem(t, got, http.StatusRequestEntityTooLarge, task.PayloadTooLarge, "1000 bytes"); p.Limit != "max-line" {
			t.Errorf("%s: limit %q", name, p.Limit)
		}
	}
}

func TestTheRefusalOfALargeBodyArrivesThoughTheClientSendsOn(t *testing.T) {
	t.Parallel()
	inBubble(t, refusedButSendingOn, small) // where sending takes no time: what follows a refusal is read for a while only
}

func refusedButSendingOn(d *door) {
	t := d.t
	for name, head := range map[string]string{"announced": "Content-Length: 6000000\r\n\r\n", "in chunks": "Transfer-Encoding: chunked\r\n\r\n5b8d80\r\n"} {
		conn := d.dial()
		if _, err := fmt.Fprintf(conn, "POST /v1/run HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n%s", head); err != nil {
			t.Fatal(err)
		}
		sent := make(chan error, 1)
		go func() {
			_, err := io.WriteString(conn, strings.Repeat("x", 6_000_000))
			sent <- err
		}()
		got, _, closed := d.read(conn)
		if err := receive(t, sent); err != nil {
			t.Errorf("%s: the connection was cut while the client sent: %v", name, err)
		}
		wantProblem(t, got, http.StatusRequestEntityTooLarge, task.PayloadTooLarge, "1000 bytes")
		if !closed {
			t.Errorf("%s: the connection stays open", name)
		}
	}
}

func TestALargeBodyIsRefusedBeforeItIsSent(t *testing.T) {
	t.Parallel()
	d := open(t, small)
	got, _, closed := d.raw("POST /v1/run HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 6000000\r\n\r\n")
	wantProblem(t, got, http.StatusRequestEntityTooLarge, task.PayloadTooLarge, "1000 bytes")
	if !closed {
		t.Error("the connection stays open")
	}
}

func TestABodyThatDoesNotComeIsRefusedInTime(t *testing.T) {
	t.Parallel()
	head := "POST /v1/run HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	for _, text := range []string{head + "Content-Length: 50\r\n\r\n{", head + "Transfer-Encoding: chunked\r\n\r\n5\r\n{"} {
		inBubble(t, func(d *door) {
			got, _, closed := d.raw(text)
			wantProblem(d.t, got, http.StatusRequestTimeout, task.LineTimeout, "1s")
			if !closed {
				d.t.Error("the connection stays open")
			}
		}, hasty)
	}
}

func TestABodyThatNobodyReadsEndsInTime(t *testing.T) {
	t.Parallel()
	inBubble(t, func(d *door) {
		got, more := d.rawToEnd("GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{")
		if got.status != http.StatusOK || more != "" {
			d.t.Errorf("status %d, and then %q", got.status, more)
		}
	}, hasty)
}

func TestATaskMayTakeLongerThanItsBody(t *testing.T) {
	t.Parallel()
	inBubble(t, func(d *door) {
		for range 2 { // also on a connection that has been used before
			if got := d.run(`{"action":"sleep","payload":30}`); got.body != `{"id":null,"status":"done","result":{"ok":true,"slept":30}}`+"\n" {
				d.t.Errorf("%d %s", got.status, got.body)
			}
		}
	}, hasty)
}

func TestAReplyMayComeLongAfterTheWriteTimeout(t *testing.T) {
	t.Parallel()
	inBubble(t, func(d *door) {
		for range 2 {
			if got := d.run(`{"action":"sleep","payload":30}`); got.status != http.StatusOK {
				d.t.Errorf("%d %s", got.status, got.body)
			}
		}
	}, func(config *httpapi.Config, _ *executor.Config) { config.Limits.WriteTimeout = time.Second })
}

func TestAFullPoolIsReportedAfterAWait(t *testing.T) {
	t.Parallel()
	d := open(t, func(_ *httpapi.Config, running *executor.Config) {
		running.Slots, running.PoolWait = 1, 100*time.Millisecond
	})
	first := make(chan answer, 1)
	go func() { first <- d.run(`{"id":1,"action":"block"}`) }()
	receive(t, d.began)
	got := d.run(`{"id":2,"action":"block"}`)
	p := wantProblem(t, got, http.StatusServiceUnavailable, task.Overloaded, "full")
	if got.header.Get("Retry-After") != "1" || p.RetryAfter != 1 { // how long it waits is tested in the executor
		t.Errorf("Retry-After %q, retry_after %v", got.header.Get("Retry-After"), p.RetryAfter)
	}
	close(d.free)
	if got := receive(t, first); got.status != http.StatusOK {
		t.Errorf("the first task: %d %s", got.status, got.body)
	}
}

func TestAConnectionThatBreaksCancelsItsTask(t *testing.T) {
	t.Parallel()
	d := open(t)
	const body = `{"action":"block"}`
	for _, halfClosed := range []bool{false, true} {
		conn := d.dial()
		if _, err := fmt.Fprintf(conn, "POST /v1/run HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
			t.Fatal(err)
		}
		receive(t, d.began)
		if halfClosed {
			if err := conn.CloseWrite(); err != nil {
				t.Fatal(err)
			}
		}
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
		if err := receive(t, d.ended); !errors.Is(err, context.Canceled) {
			t.Errorf("the task ended with %v, want it cancelled", err)
		}
	}
	eventually(t, "no request is open", func() bool { return d.server.Stats().Running == 0 })
}

// pipe is a connection within the process of which the client can close its writing side alone.
type pipe struct {
	net.Conn
	halfClosed chan struct{}
}

// Read ends when the client has closed its writing side.
func (p *pipe) Read(into []byte) (int, error) {
	if p.isHalfClosed() {
		return 0, io.EOF
	}
	n, err := p.Conn.Read(into)
	if n == 0 && p.isHalfClosed() {
		return 0, io.EOF
	}
	return n, err
}

func (p *pipe) isHalfClosed() bool {
	select {
	case <-p.halfClosed:
		return true
	default:
		return false
	}
}

// halfClosed sends a request, closes the writing side while it is being worked on, and returns what is answered.
// It must be called in a bubble.
func halfClosed(t *testing.T, server *httpapi.Server, request string) string {
	t.Helper()
	near, far := net.Pipe()
	serving := &pipe{far, make(chan struct{})}
	go server.Serve(serving)
	if _, err := io.WriteString(near, request); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	close(serving.halfClosed)
	far.SetReadDeadline(time.Unix(1, 0)) // ends the read that is going on, with the end of the stream
	text, err := io.ReadAll(near)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAHalfClosedRequestIsStillOwedItsAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		registry, err := actions.NewRegistry(actions.Builtin()...)
		if err != nil {
			t.Fatal(err)
		}
		running, err := executor.New(executor.Config{Registry: registry})
		if err != nil {
			t.Fatal(err)
		}
		server, err := httpapi.New(httpapi.Config{Executor: running})
		if err != nil {
			t.Fatal(err)
		}
		const body = `{"action":"sleep","payload":30}`
		got := halfClosed(t, server, fmt.Sprintf("POST /v1/run HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
		if !strings.HasPrefix(got, "HTTP/1.1 200 ") || !strings.HasSuffix(got, `"result":{"ok":true,"slept":30}}`+"\n") {
			t.Errorf("answered %s", got)
		}
		if err := server.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if err := running.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestAConnectionServesManyTasks(t *testing.T) {
	t.Parallel()
	d := open(t)
	for i := range 50 {
		want := fmt.Sprintf(`{"id":%d,"status":"done","result":{"ok":true,"data":%d}}`+"\n", i, i)
		if got := d.run(fmt.Sprintf(`{"id":%d,"action":"echo","payload":%d}`, i, i)); got.body != want {
			t.Fatalf("got %s, want %s", got.body, want)
		}
	}
	if stats := d.server.Stats(); stats.ConnectionsTotal != 1 || stats.Requests != 50 {
		t.Errorf("%d connections and %d requests, want 1 and 50", stats.ConnectionsTotal, stats.Requests)
	}
}
