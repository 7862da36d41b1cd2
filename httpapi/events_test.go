package httpapi_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/task"
)

// follow opens a stream of events.
func (d *door) follow(id string, headers ...string) (*bufio.Reader, *http.Response) {
	d.t.Helper()
	ctx, cancel := context.WithCancel(d.t.Context())
	d.t.Cleanup(cancel)
	response, err := d.client.Do(d.request("GET", "/v1/tasks/"+id+"/events", "", headers...).WithContext(ctx))
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { response.Body.Close() })
	return bufio.NewReader(response.Body), response
}

// block reads what stands before the next empty line; "" at the end.
func block(t *testing.T, from *bufio.Reader) string {
	t.Helper()
	var text strings.Builder
	for {
		line, err := from.ReadString('\n')
		if err == io.EOF && line == "" {
			return text.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		if line == "\n" {
			return text.String()
		}
		text.WriteString(line)
	}
}

// wantBlock compares the next block, but for comments, with a pattern in which … stands for any text.
func wantBlock(t *testing.T, from *bufio.Reader, pattern string) {
	t.Helper()
	got := block(t, from)
	for strings.HasPrefix(got, ":") {
		got = block(t, from)
	}
	if !testenv.Like(got, pattern) {
		t.Fatalf("got the event\n%swant\n%s", got, pattern)
	}
}

func TestEventsTellOfATaskFromItsBeginningToItsEnd(t *testing.T) {
	t.Parallel()
	d := openDurable(t)
	id := d.enqueue(`{"action":"block"}`)
	receive(t, d.began)
	events, response := d.follow(id)
	if kind := response.Header.Get("Content-Type"); response.StatusCode != http.StatusOK || kind != "text/event-stream" {
		t.Errorf("%s %s", response.Status, kind)
	}
	if buffering := response.Header.Get("X-Accel-Buffering"); buffering != "no" {
		t.Errorf("Nginx would hold the events back: X-Accel-Buffering is %q", buffering)
	}
	wantBlock(t, events, "retry: 1000\n")
	wantBlock(t, events, `id: 1`+"\n"+`event: state`+"\n"+`data: {"status":"queued","task":"`+id+`","attempt":0,"seq":1,"at":"…Z"}`+"\n")
	wantBlock(t, events, `id: 2`+"\n"+`event: state`+"\n"+`data: {"status":"running","task":"`+id+`","attempt":1,"seq":2,"at":"…Z","node":"n1"}`+"\n")
	close(d.free)
	final := `id: 3` + "\n" + `event: final` + "\n" + `data: {"status":"done","task":"` + id + `","result":{"ok":true,"data":"free"},"attempt":1,"seq":3,"at":"…Z"}` + "\n"
	wantBlock(t, events, final)
	if rest := block(t, events); rest != "" {
		t.Errorf("after the end came %q", rest)
	}
	for _, known := range []string{"1", "2"} {
		again, _ := d.follow(id, "Last-Event-ID", known)
		wantBlock(t, again, "retry: 1000\n")
		if known == "1" {
			wantBlock(t, again, "id: 2\nevent: state\n…\n")
		}
		wantBlock(t, again, final)
	}
	if _, over := d.follow(id, "Last-Event-ID", "3"); over.StatusCode != http.StatusNoContent {
		t.Errorf("who has all is told %s", over.Status)
	}
}

func TestProgressIsAnEventWithoutANumber(t *testing.T) {
	t.Parallel()
	d := openDurable(t)
	d.enqueue(`{"action":"echo","delay":3600}`)
	want(t, d.post("/v1/queues/default/pause", ""), http.StatusOK, `{"ok":true,"queue":"default","paused":true}`)
	id := d.enqueue(`{"action":"tell"}`)
	events, _ := d.follow(id)
	wantBlock(t, events, "retry: 1000\n")
	wantBlock(t, events, "id: 1\n…\n…\n")
	d.post("/v1/queues/default/resume", "")
	wantBlock(t, events, "id: 2\n…\n…\n")
	wantBlock(t, events, "event: progress\n"+`data: {"status":"running","task":"`+id+`","attempt":1,"progress":{"percent":50,"message":"half"}}`+"\n")
	close(d.free)
	wantBlock(t, events, "id: 3\nevent: final\n…\n")
}

func TestAQuietStreamIsKeptAlive(t *testing.T) {
	t.Parallel()
	durablyInBubble(t, func(d *door) {
		id := d.enqueue(`{"action":"echo","delay":3600}`)
		begun := time.Now()
		events, _ := d.follow(id)
		wantBlock(d.t, events, "retry: 1000\n")
		block(d.t, events)
		for beats := range 3 {
			if got := block(d.t, events); got != ": still here\n" {
				d.t.Errorf("got %q", got)
			}
			if after := time.Since(begun); after != time.Duration(beats+1)*15*time.Second {
				d.t.Errorf("it comes after %v", after)
			}
		}
	})
}

func TestAHalfClosedWaitOrStreamIsStillOwedItsEnd(t *testing.T) {
	t.Parallel()
	d := openDurable(t)
	id := d.enqueue(`{"action":"block"}`)
	receive(t, d.began)
	var conns []net.Conn
	for _, path := range []string{"?wait=60", "/events"} {
		conn := d.dial()
		if _, err := io.WriteString(conn, "GET /v1/tasks/"+id+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	eventually(t, "both are waited for", func() bool { return d.server.Stats().Running == 2 })
	close(d.free)
	for _, conn := range conns {
		if text, err := io.ReadAll(conn); err != nil || !strings.Contains(string(text), `"result":{"ok":true`) {
			t.Errorf("answered %s (%v)", text, err)
		}
	}
}

func TestADrainEndsAStream(t *testing.T) {
	t.Parallel()
	d := openDurable(t)
	id := d.enqueue(`{"action":"echo","delay":3600}`)
	events, _ := d.follow(id)
	wantBlock(t, events, "retry: 1000\n")
	wantBlock(t, events, "id: 1\n…\n…\n")
	d.server.Drain()
	d.drain()
	wantBlock(t, events, "event: refusal\n"+`data: {"status":"error","code":"draining","error":"…","task":"`+id+`"}`+"\n")
	if rest := block(t, events); rest != "" {
		t.Errorf("after the end came %q", rest)
	}
}

func TestEventsOfNoTaskAreRefused(t *testing.T) {
	t.Parallel()
	d := openDurable(t)
	wantProblem(t, d.get("/v1/tasks/01J/events"), http.StatusNotFound, task.NotFound, "no task 01J")
	wantProblem(t, d.get("/v1/tasks/01J/events?after=x"), http.StatusBadRequest, task.InvalidRequest, "after must be an integer")
	wantProblem(t, d.get("/v1/tasks/01J/events", "Last-Event-ID", "x"), http.StatusBadRequest, task.InvalidRequest, "after must be an integer")
	id := d.enqueue(`{"action":"echo"}`)
	if got := d.do(d.request("HEAD", "/v1/tasks/"+id+"/events", "")); got.status != http.StatusOK || got.body != "" {
		t.Errorf("HEAD: %d %q", got.status, got.body)
	}
}
