package httpapi_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/httpapi"
	"github.com/posta-tasks/posta/task"
)

func TestSmugglingShapesAreRefused(t *testing.T) {
	t.Parallel()
	d := open(t)
	const inner = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
	head := "POST /v1/run HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	tests := map[string]string{
		"two lengths":                     head + "Content-Length: 17\r\nContent-Length: 18\r\n\r\n" + echo + inner,
		"two lengths in one":              head + "Content-Length: 17, 18\r\n\r\n" + echo + inner,
		"a signed length":                 head + "Content-Length: +17\r\n\r\n" + echo + inner,
		"a negative length":               head + "Content-Length: -1\r\n\r\n" + echo + inner,
		"a length in hex":                 head + "Content-Length: 0x11\r\n\r\n" + echo + inner,
		"an endless length":               head + "Content-Length: 99999999999999999999\r\n\r\n" + echo + inner,
		"a space before the colon":        head + "Content-Length : 17\r\n\r\n" + echo + inner,
		"a fold in the first header":      "POST /v1/run HTTP/1.1\r\n Host: localhost\r\nContent-Length: 17\r\n\r\n" + echo + inner,
		"a folded coding":                 head + "Transfer-Encoding: chunked\r\n ,identity\r\n\r\n0\r\n\r\n" + inner,
		"another coding":                  head + "Transfer-Encoding: gzip\r\n\r\n" + echo + inner,
		"chunked twice":                   head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner,
		"chunked and another":             head + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + inner,
		"chunked with a vertical tab":     head + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + inner,
		"a chunk of no size":              head + "Transfer-Encoding: chunked\r\n\r\nx\r\n" + echo + "\r\n0\r\n\r\n" + inner,
		"a chunk of a signed size":        head + "Transfer-Encoding: chunked\r\n\r\n+11\r\n" + echo + "\r\n0\r\n\r\n" + inner,
		"a chunk of too large a size":     head + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n" + echo + "\r\n0\r\n\r\n" + inner,
		"a chunk that is longer":          head + "Transfer-Encoding: chunked\r\n\r\n3\r\n" + echo + "\r\n0\r\n\r\n" + inner,
		"a zero byte in a header":         head + "X-Zero: a\x00b\r\nContent-Length: 17\r\n\r\n" + echo + inner,
		"a bare CR in a header":           head + "X-CR: a\rContent-Length: 1\r\nContent-Length: 17\r\n\r\n" + echo + inner,
		"a header without a name":         head + ": x\r\nContent-Length: 17\r\n\r\n" + echo + inner,
		"two hosts":                       "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n" + inner,
		"a host with a space":             "GET /healthz HTTP/1.1\r\nHost: local host\r\n\r\n" + inner,
		"a space in the path":             "GET /health z HTTP/1.1\r\nHost: localhost\r\n\r\n" + inner,
		"no version":                      "GET /healthz\r\nHost: localhost\r\n\r\n" + inner,
		"another version":                 "GET /healthz HTTP/3.0\r\nHost: localhost\r\n\r\n" + inner,
		"the preface of HTTP/2":           "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"another protocol altogether":     "EHLO localhost\r\nMAIL FROM:<a@b>\r\n\r\n",
		"a method with a control byte":    "GE\x01T /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"both, of HTTP/1.0":               strings.Replace(head, "1.1", "1.0", 1) + "Content-Length: 17\r\nTransfer-Encoding: chunked\r\n\r\n11\r\n" + echo + "\r\n0\r\n\r\n" + inner,
		"an expectation that is not ours": head + "Expect: tea\r\nContent-Length: 17\r\n\r\n" + echo,
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, more, closed := d.raw(text)
			if got.status < 400 || got.status > 505 || strings.Contains(got.body, `"ok":true`) {
				t.Errorf("status %d %s", got.status, got.body)
			}
			if strings.Contains(more, " 200 ") || !closed {
				t.Errorf("closed %v, and then came %q", closed, more)
			}
		})
	}
}

// A message with both has one meaning for net/http, the one of RFC 9112; as that asks for,
// the connection closes, so that nothing can hide behind it.
func TestChunksWinOverALengthAndEndTheConnection(t *testing.T) {
	t.Parallel()
	d := open(t)
	got, more, closed := d.raw("POST /v1/run HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n11\r\n" +
		echo + "\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if got.status != http.StatusOK || more != "" || !closed {
		t.Errorf("status %d %s, closed %v, then %q", got.status, got.body, closed, more)
	}
}

// A length in another request, or in a body, is no length beside the chunks of this one.
func TestChunksAloneKeepTheConnection(t *testing.T) {
	t.Parallel()
	t.Run("everybody", func(t *testing.T) { chunksAloneKeep(t, open(t), "") })
	t.Run("who shows a token", func(t *testing.T) {
		const token = "0123456789abcdef"
		d := open(t, func(config *httpapi.Config, _ *executor.Config) { config.Tokens = tokens(t, token) })
		chunksAloneKeep(t, d, "Authorization: Bearer "+token+"\r\n")
	})
}

// chunksAloneKeep sends requests with chunks and with lengths on one connection, which must live on.
func chunksAloneKeep(t *testing.T, d *door, header string) {
	t.Helper()
	head := "POST /v1/run HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + header
	chunked := head + "Transfer-Encoding: chunked\r\n\r\n11\r\n" + echo + "\r\n0\r\n\r\n"
	sized := head + "Content-Length: 17\r\n\r\n" + echo
	conn := d.dial()
	in := bufio.NewReader(conn)
	for i, request := range []string{chunked, sized, chunked, sized, sized, chunked} {
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		response, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != http.StatusOK || response.Close {
			t.Fatalf("request %d: status %d, closed %v (%v)", i, response.StatusCode, response.Close, err)
		}
	}
}

// However a length is written and whichever way it comes, beside chunks it ends the connection.
func TestALengthBesideChunksIsFoundInAnyPieces(t *testing.T) {
	t.Parallel()
	d := open(t)
	text := "POST /v1/run HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\ncONTENT-lENGTH: 3\r\nTransfer-Encoding: chunked\r\n\r\n11\r\n" + echo + "\r\n0\r\n\r\n"
	for size := 1; size < len(text); size += 1 + size/2 {
		conn := d.dial()
		for rest := text; rest != ""; {
			n := min(size, len(rest))
			if _, err := io.WriteString(conn, rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if got, _, closed := d.read(conn); got.status != http.StatusOK || !closed {
			t.Errorf("in pieces of %d: status %d, closed %v", size, got.status, closed)
		}
	}
}

// A fold is a space (RFC 9112, 5.2), so a folded length means what it says.
func TestAFoldedHeaderHidesNothing(t *testing.T) {
	t.Parallel()
	d := open(t)
	for _, fold := range []string{"X-Folded: a\r\n Content-Length: 3\r\nContent-Length: 17", "Content-Length:\r\n 17", "X-Folded: a\r\n\tTransfer-Encoding: chunked\r\nContent-Length: 17"} {
		got, more := d.rawToEnd("POST /v1/run HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + fold + "\r\n\r\n" + echo +
			"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		if got.status != http.StatusOK || strings.Count(more, "HTTP/1.1 ") != 1 || !strings.HasSuffix(more, "ok\n") {
			t.Errorf("%q: status %d %s, then %q", fold, got.status, got.body, more)
		}
	}
}

func TestAHeadIsBounded(t *testing.T) {
	t.Parallel()
	d := open(t)
	got, _, closed := d.raw("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: " + strings.Repeat("x", 30<<10) + "\r\nConnection: close\r\n\r\n")
	if got.status != http.StatusOK || !closed {
		t.Errorf("30 KiB: status %d", got.status)
	}
	got, _, closed = d.raw("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: " + strings.Repeat("x", 37<<10) + "\r\n\r\n")
	if got.status != http.StatusRequestHeaderFieldsTooLarge || !closed {
		t.Errorf("37 KiB: status %d, closed %v", got.status, closed)
	}
	server := d.server.HTTPServer()
	if server.ReadHeaderTimeout != 10*time.Second || server.IdleTimeout != 10*time.Minute || server.Handler != http.Handler(d.server) {
		t.Errorf("the server's times: header %s, idle %s", server.ReadHeaderTimeout, server.IdleTimeout)
	}
}

func TestRequestsMayBePipelined(t *testing.T) {
	t.Parallel()
	d := open(t)
	_, more := d.rawToEnd("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	if !strings.HasPrefix(more, "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(more, "ready\n") {
		t.Errorf("the second answer is %q", more)
	}
}

func TestADrainingDoorAnswersAndEndsItsConnections(t *testing.T) {
	t.Parallel()
	d := open(t)
	if got := d.run(echo); got.status != http.StatusOK {
		t.Fatal(got)
	}
	d.server.Drain()
	for _, text := range []string{
		"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"POST /v1/run HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n" + echo,
	} {
		got, _, closed := d.raw(text)
		if got.status != http.StatusOK || got.header.Get("Connection") != "close" && !closed {
			t.Errorf("status %d, closed %v", got.status, closed)
		}
		if !closed {
			t.Error("the connection stays open")
		}
	}
}

func TestClosingWaitsForOpenRequests(t *testing.T) {
	t.Parallel()
	d := open(t)
	idle := d.dial()
	if _, err := io.WriteString(idle, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 4096)
	if _, err := idle.Read(first); err != nil {
		t.Fatal(err)
	}
	running := make(chan answer, 1)
	go func() { running <- d.run(`{"action":"block"}`) }()
	receive(t, d.began)
	closed := make(chan error, 1)
	go func() { closed <- d.server.Close(t.Context()) }()
	if n, err := idle.Read(first); err != io.EOF {
		t.Errorf("the idle connection reads %d, %v; want EOF", n, err)
	}
	select {
	case err := <-closed:
		t.Fatalf("closed (%v) while a request was open", err)
	default:
	}
	close(d.free)
	if got := receive(t, running); got.status != http.StatusOK {
		t.Errorf("%d %s", got.status, got.body)
	}
	if err := receive(t, closed); err != nil {
		t.Error(err)
	}
	eventually(t, "no connection is open", func() bool { return d.server.Stats().ConnectionsOpen == 0 })
}

func TestClosingCancelsWhatRunsTooLong(t *testing.T) {
	t.Parallel()
	d := open(t)
	go d.client.Do(d.request("POST", "/v1/run", `{"action":"block"}`, "Content-Type", "application/json"))
	receive(t, d.began)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := d.server.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Close: %v", err)
	}
	if err := receive(t, d.ended); !errors.Is(err, context.Canceled) {
		t.Errorf("the task ended with %v", err)
	}
}

func TestAfterClosingConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	d := open(t)
	if err := d.server.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	here, there := net.Pipe()
	d.server.Serve(there)
	if _, err := here.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the connection reads %v, want EOF", err)
	}
}

func TestConnectionsAndBytesAreCounted(t *testing.T) {
	t.Parallel()
	d := open(t)
	const request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
	conn := d.dial()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	answered := make([]byte, 4096)
	n, err := conn.Read(answered)
	if err != nil {
		t.Fatal(err)
	}
	stats := d.server.Stats()
	if stats.ConnectionsOpen != 1 || stats.ConnectionsTotal != 1 || stats.Requests != 1 {
		t.Errorf("%+v", stats)
	}
	eventually(t, "all bytes are counted", func() bool { // what was written is counted after the client has it
		stats := d.server.Stats()
		return stats.BytesIn == int64(len(request)) && stats.BytesOut == int64(n)
	})
	conn.Close()
	eventually(t, "no connection is open", func() bool { return d.server.Stats().ConnectionsOpen == 0 })
}

func TestEveryCodeHasAStatus(t *testing.T) {
	t.Parallel()
	want := map[task.Code]int{
		task.InvalidJSON: 400, task.InvalidRequest: 400, task.UnknownOp: 400, task.UnknownField: 400, task.LineTooLong: 413,
		task.LineTimeout: 408, task.PayloadTooLarge: 413, task.Unauthenticated: 401, task.Forbidden: 403, task.NotFound: 404,
		task.Conflict: 409, task.KeyConflict: 409, task.Stale: 409, task.Quiet: 409, task.Overloaded: 503, task.Draining: 503, task.Unavailable: 503,
		task.UnknownOutcome: 504, task.Internal: 500,
	}
	for _, code := range task.Codes() {
		if code == task.SlowConsumer {
			continue // it is in logs only
		}
		d := openReady(t, task.Refuse(code, "because"))
		wantProblem(t, d.do(d.request("GET", "/readyz", "")), want[code], code, "because")
	}
}
