package httpapi_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/httpapi"
	"github.com/posta-tasks/posta/task"
)

func TestHealthzSaysThatTheNodeLives(t *testing.T) {
	t.Parallel()
	d := open(t, func(config *httpapi.Config, _ *executor.Config) {
		config.Ready = func() error { return errors.New("not at all") }
	})
	if got := d.do(d.request("GET", "/healthz", "")); got.status != http.StatusOK || got.body != "ok\n" {
		t.Errorf("%d %q", got.status, got.body)
	}
}

func TestReadyzSaysWhyTheNodeWantsNoWork(t *testing.T) {
	t.Parallel()
	var reason atomic.Value
	d := open(t, func(config *httpapi.Config, _ *executor.Config) {
		config.Ready = func() error {
			err, _ := reason.Load().(error)
			return err
		}
	})
	if got := d.do(d.request("GET", "/readyz", "")); got.status != http.StatusOK || got.body != "ready\n" {
		t.Errorf("%d %q", got.status, got.body)
	}
	reason.Store(error(task.Refuse(task.Draining, "the node is draining")))
	wantProblem(t, d.do(d.request("GET", "/readyz", "")), http.StatusServiceUnavailable, task.Draining, "the node is draining")
	got, _, closed := d.raw("GET /readyz HTTP/1.0\r\n\r\n")
	wantProblem(t, got, http.StatusServiceUnavailable, task.Draining, "the node is draining")
	if !closed {
		t.Error("the check's connection stays open")
	}
}

func TestReadyzTellsAnyReason(t *testing.T) {
	t.Parallel()
	d := open(t, func(config *httpapi.Config, _ *executor.Config) {
		config.Ready = func() error { return errors.New("9 slots are stuck, 8 could be replaced") }
	})
	wantProblem(t, d.do(d.request("GET", "/readyz", "")), http.StatusServiceUnavailable, task.Unavailable, "9 slots are stuck")
}

func TestMetricsAreTheNodes(t *testing.T) {
	t.Parallel()
	d := open(t)
	wantProblem(t, d.do(d.request("GET", "/metrics", "")), http.StatusServiceUnavailable, task.Unavailable, "no metrics")
	d = open(t, func(config *httpapi.Config, _ *executor.Config) {
		config.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "posta_up 1\n") })
	})
	if got := d.do(d.request("GET", "/metrics", "")); got.status != http.StatusOK || got.body != "posta_up 1\n" {
		t.Errorf("%d %q", got.status, got.body)
	}
}

func TestThePageAtTheRootNamesTheRoutes(t *testing.T) {
	t.Parallel()
	got := open(t).do(open(t).request("GET", "/", ""))
	for _, part := range []string{"Posta 0.0.1, node n1", "POST  /v1/run ", "GET   /healthz", "GET   /readyz", "GET   /metrics"} {
		if !strings.Contains(got.body, part) {
			t.Errorf("the page does not say %q:\n%s", part, got.body)
		}
	}
	if kind := got.header.Get("Content-Type"); got.status != http.StatusOK || kind != "text/plain; charset=utf-8" {
		t.Errorf("%d %s", got.status, kind)
	}
}

func TestWhatNeedsAStoreIsUnavailable(t *testing.T) {
	t.Parallel()
	d := open(t)
	for _, route := range []string{
		"POST /v1/tasks", "GET /v1/tasks", "GET /v1/tasks/01JE", "GET /v1/tasks/01JE/events", "GET /v1/tasks/01JE/payload",
		"GET /v1/tasks/01JE/result", "POST /v1/tasks/01JE/cancel", "POST /v1/tasks/01JE/retry", "PUT /v1/blobs",
		"GET /v1/queues", "POST /v1/queues/mail/pause", "POST /v1/queues/mail/resume", "GET /v1/nodes",
	} {
		method, path, _ := strings.Cut(route, " ")
		body := ""
		if method != "GET" {
			body = echo
		}
		wantProblem(t, d.do(d.request(method, path, body)), http.StatusServiceUnavailable, task.Unavailable, "no store")
	}
}

func TestASocketNeedsSomebodyWhoServesLines(t *testing.T) {
	t.Parallel()
	d := open(t)
	wantProblem(t, d.do(d.request("GET", "/v1/socket", "")), http.StatusServiceUnavailable, task.Unavailable, "no WebSockets")
}

func TestNothingIsAtAnyOtherPath(t *testing.T) {
	t.Parallel()
	d := open(t)
	for _, path := range []string{
		"/v1", "/v1/run/", "/v1/runs", "//v1/run", "/v1//run", "/v1/./run", "/v1/x/../run", "/v1%2Frun", "/V1/run", "/healthz/", "/healthz/..", "/index.html",
		"/debug/pprof/", "/v1/tasks/", "/v1/tasks/01JE/nope", "/%00", "/..%2f..%2fetc/passwd",
	} {
		for _, method := range []string{"GET", "POST", "OPTIONS", "NOPE"} {
			wantProblem(t, d.do(d.request(method, path, "")), http.StatusNotFound, task.NotFound, "nothing is at")
		}
	}
	for _, line := range []string{"OPTIONS * HTTP/1.1", "CONNECT localhost:80 HTTP/1.1"} {
		got, _, _ := d.raw(line + "\r\nHost: localhost\r\n\r\n")
		wantProblem(t, got, http.StatusNotFound, task.NotFound, "nothing is at")
	}
}

func TestAnotherMethodIsRefusedWithThoseThatAreAllowed(t *testing.T) {
	t.Parallel()
	d := open(t)
	for path, allow := range map[string]string{
		"/v1/run": "POST", "/healthz": "GET, HEAD", "/readyz": "GET, HEAD", "/metrics": "GET, HEAD", "/": "GET, HEAD",
		"/v1/tasks": "POST, GET, HEAD", "/v1/tasks/01JE/cancel": "POST", "/v1/blobs": "PUT",
	} {
		for _, method := range []string{"DELETE", "PATCH", "OPTIONS", "TRACE", "NOPE"} {
			got := d.do(d.request(method, path, ""))
			wantProblem(t, got, http.StatusMethodNotAllowed, task.InvalidRequest, "no method "+method)
			if got.header.Get("Allow") != allow {
				t.Errorf("%s %s: Allow %q, want %q", method, path, got.header.Get("Allow"), allow)
			}
		}
	}
	wantProblem(t, d.do(d.request("GET", "/v1/run", "")), http.StatusMethodNotAllowed, task.InvalidRequest, "no method GET")
}

func TestHEADIsGETWithoutABody(t *testing.T) {
	t.Parallel()
	d := open(t)
	if got := d.do(d.request("HEAD", "/healthz", "")); got.status != http.StatusOK || got.body != "" || got.header.Get("Content-Length") != "3" {
		t.Errorf("%d %q %v", got.status, got.body, got.header)
	}
	if got := d.do(d.request("HEAD", "/v1/run", "")); got.status != http.StatusMethodNotAllowed || got.body != "" {
		t.Errorf("%d %q", got.status, got.body)
	}
}

func TestNoAnswerLetsABrowserGuessFrameOrRemember(t *testing.T) {
	t.Parallel()
	d := open(t)
	for name, got := range map[string]answer{
		"run": d.run(echo), "problem": d.run("x"), "page": d.do(d.request("GET", "/", "")), "nowhere": d.do(d.request("GET", "/x", "")),
		"evil": d.run(echo, "Host", "evil.example"),
	} {
		for header, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
			"Cross-Origin-Resource-Policy": "same-origin", "Referrer-Policy": "no-referrer",
		} {
			if got.header.Get(header) != want {
				t.Errorf("%s: %s is %q, want %q", name, header, got.header.Get(header), want)
			}
		}
	}
}

func TestRefusalsAreCountedByCode(t *testing.T) {
	t.Parallel()
	d := open(t)
	d.run("x")
	d.run("y")
	d.run(echo, "Host", "evil.example")
	d.do(d.request("GET", "/x", ""))
	refused := d.server.Stats().Refused
	if refused[task.InvalidJSON] != 2 || refused[task.Forbidden] != 1 || refused[task.NotFound] != 1 || refused[task.Internal] != 0 {
		t.Errorf("refused: %v", refused)
	}
	if len(refused) != len(task.Codes()) {
		t.Errorf("%d codes are counted, want all %d", len(refused), len(task.Codes()))
	}
}
