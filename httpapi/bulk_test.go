package httpapi_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/httpapi"
	"github.com/posta-tasks/posta/internal/testenv"
)

const lines = "application/x-ndjson"

// bulk opens a stream of tasks: what is written to in is read from out.
func (d *door) bulk() (in *io.PipeWriter, out *bufio.Reader) {
	d.t.Helper()
	body, in := io.Pipe()
	r, err := http.NewRequestWithContext(d.t.Context(), http.MethodPost, "http://"+d.addr+"/v1/tasks", body)
	if err != nil {
		d.t.Fatal(err)
	}
	r.Header.Set("Content-Type", lines)
	answers, replies := io.Pipe()
	go func() {
		response, err := d.client.Do(r)
		if err != nil {
			replies.CloseWithError(err)
			return
		}
		defer response.Body.Close()
		_, err = io.Copy(replies, response.Body)
		replies.CloseWithError(err)
	}()
	d.t.Cleanup(func() { in.Close(); answers.Close() })
	return in, bufio.NewReader(answers)
}

// wantLine compares the next line with a pattern, in which … stands for any text.
func wantLine(t *testing.T, from *bufio.Reader, pattern string) {
	t.Helper()
	got, err := from.ReadString('\n')
	if err != nil {
		t.Fatalf("got %q and %v instead of %s", got, err, pattern)
	}
	if !testenv.Like(got, pattern+"\n") {
		t.Fatalf("got %swant %s", got, pattern)
	}
}

func wantEnd(t *testing.T, from *bufio.Reader) {
	t.Helper()
	if rest, err := io.ReadAll(from); err != nil || len(rest) > 0 {
		t.Errorf("instead of the end there came %q, %v", rest, err)
	}
}

func TestAStreamOfTasksIsAnsweredLineByLine(t *testing.T) {
	t.Parallel()
	d := openDurable(t)
	in, out := d.bulk()
	for i := range 3 { // each line is answered before the next is sent
		fmt.Fprintf(in, `{"id":%d,"action":"upper","payload":"hola","key":"k"}`+"\n", i)
		wantLine(t, out, fmt.Sprintf(`{"id":%d,"status":"…","task":"…"…}`, i))
	}
	fmt.Fprint(in, "\r\n\n", `{"id":4,"action":"upper","payload":2,"key":"k"}`, "\r\n", "no json\n", `{"id":5,"op":"run","action":"echo"}`, "\n",
		`{"id":6,"action":"echo","wait":true}`, "\n", `{"id":7,"action":"echo","queue":"Q"}`, "\n", `{"id":8,"action":"echo","delay":60}`)
	in.Close()
	wantLine(t, out, `{"id":4,"status":"error","code":"key_conflict",…,"task":"…"}`)
	wantLine(t, out, `{"id":null,"status":"error","code":"invalid_json","error":"invalid json","detail":"…"}`)
	wantLine(t, out, `{"id":5,"status":"error","code":"invalid_request",…"field":"op"}`)
	wantLine(t, out, `{"id":6,"status":"error","code":"invalid_request",…"field":"wait"}`)
	wantLine(t, out, `{"id":7,"status":"error","code":"invalid_request",…"field":"queue"}`)
	wantLine(t, out, `{"id":8,"status":"scheduled","task":"…","run_at":"…"}`)
	wantEnd(t, out)
}

func TestAStreamMayBeOfAnyLength(t *testing.T) {
	t.Parallel()
	d := openDurable(t)
	in, out := d.bulk()
	const count = 5_000
	go func() {
		defer in.Close()
		for i := range count {
			if _, err := fmt.Fprintf(in, `{"id":%d,"action":"echo","queue":"bulk","delay":3600,"payload":"%0*d"}`+"\n", i, i%200, i); err != nil {
				return
			}
		}
	}()
	for i := range count {
		if got, err := out.ReadString('\n'); err != nil || !strings.HasPrefix(got, fmt.Sprintf(`{"id":%d,"status":"scheduled","task":"`, i)) {
			t.Fatalf("line %d is answered %q (%v)", i, got, err)
		}
	}
	wantEnd(t, out)
	want(t, d.get("/v1/queues"), http.StatusOK, fmt.Sprintf(`{…"queue":"bulk","paused":false,"scheduled":%d,…}`, count))
}

func TestALineOfAStreamHasTheLimitsOfALine(t *testing.T) {
	t.Parallel()
	d := openDurable(t, func(config *httpapi.Config) { config.Limits.Line = 100_000 })
	big := func(n int) string { return `{"id":1,"action":"echo","payload":"` + strings.Repeat("x", n) + `"}` }
	got := d.do(d.request("POST", "/v1/tasks", big(60_000)+"\n"+`{"id":2,"action":"echo"}`+"\n"+big(200_000)+"\n"+`{"id":3,"action":"echo"}`, "Content-Type", lines))
	replies := bufio.NewReader(strings.NewReader(got.body))
	wantLine(t, replies, `{"id":1,"status":"queued",…}`)
	wantLine(t, replies, `{"id":2,"status":"queued",…}`)
	wantLine(t, replies, `{"id":null,"status":"error","code":"line_too_long","error":"the line is longer than 100000 bytes","limit":"max-line"}`)
	wantEnd(t, replies)
}

func TestAStreamHasTheTimesOfALine(t *testing.T) {
	t.Parallel()
	durablyInBubble(t, func(d *door) {
		in, out := d.bulk()
		fmt.Fprint(in, `{"id":1,"action":"echo"}`+"\n"+`{"id":`)
		wantLine(d.t, out, `{"id":1,"status":"queued",…}`)
		wantLine(d.t, out, `{"id":null,"status":"error","code":"line_timeout",…}`)
		wantEnd(d.t, out)
	})
	durablyInBubble(t, func(d *door) {
		in, out := d.bulk()
		fmt.Fprint(in, `{"id":1,"action":"echo"}`+"\n")
		wantLine(d.t, out, `{"id":1,"status":"queued",…}`)
		wantLine(d.t, out, `{"id":null,"status":"goaway","code":"idle","retry_after":0}`)
		wantEnd(d.t, out)
	}, func(config *httpapi.Config) { config.Limits.Idle = time.Second })
}

func TestAStreamEndsWhenTheServerCloses(t *testing.T) {
	t.Parallel()
	d := openDurable(t)
	in, out := d.bulk()
	fmt.Fprint(in, `{"id":1,"action":"echo"}`+"\n")
	wantLine(t, out, `{"id":1,"status":"queued",…}`)
	closed := make(chan error, 1)
	go func() { closed <- d.server.Close(d.t.Context()) }()
	wantLine(t, out, `{"id":null,"status":"goaway","code":"draining","retry_after":0}`)
	wantEnd(t, out)
	if err := receive(t, closed); err != nil {
		t.Error(err)
	}
}

func TestAStreamHasNoKeyOfItsOwn(t *testing.T) {
	t.Parallel()
	d := openDurable(t)
	got := d.do(d.request("POST", "/v1/tasks", `{"action":"echo"}`, "Content-Type", lines, "Idempotency-Key", "k"))
	wantProblem(t, got, http.StatusBadRequest, "invalid_request", "each line its own")
}

func TestAClientThatDoesNotReadIsNotReadEither(t *testing.T) {
	t.Parallel()
	d := openDurable(t, func(config *httpapi.Config) { config.Limits.WriteTimeout = 200 * time.Millisecond })
	conn := d.dial()
	fmt.Fprint(conn, "POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nContent-Length: 1000000000\r\n\r\n")
	part := []byte(strings.Repeat(`{"id":"`+strings.Repeat("x", 128)+`"}`+"\n", 500))
	for range 1_000_000_000 / len(part) {
		if _, err := conn.Write(part); err != nil {
			return // it was closed
		}
	}
	t.Error("a gigabyte of tasks was taken without an answer being read")
}
