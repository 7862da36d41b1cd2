package webhook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posta-tasks/posta/actions"
)

// endpointOf returns an Endpoint for a test's server.
func endpointOf(t *testing.T, rawURL string, change ...func(*Config)) *Endpoint {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	config := Config{URL: u, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	for _, c := range change {
		c(&config)
	}
	e := New(config)
	t.Cleanup(e.Close)
	return e
}

func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

// TestEachAnswerMeansWhatTheTableSays plays a script of answers.
// TestAnAttemptStaysOpenAfterAnAsynchronousAnswer: the endpoint learns the lease, and the action waits for the end of its
// context.
func TestAnAttemptStaysOpenAfterAnAsynchronousAnswer(t *testing.T) {
	t.Parallel()
	leases := make(chan string, 1)
	e := endpointOf(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Posta-Async", "True")
		w.WriteHeader(http.StatusAccepted)
		leases <- r.Header.Get("Posta-Lease")
	}), func(*Config) {})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := e.Call(ctx, &actions.Call{Action: "hook", Payload: []byte(`{}`), Task: "T", Attempt: 1, OnLease: func() string { return "T.3" }}, nil)
		ended <- err
	}()
	if lease := <-leases; lease != "T.3" {
		t.Errorf("the lease is %q, want T.3", lease)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the action ends with %v", err)
	}
}

func TestEachAnswerMeansWhatTheTableSays(t *testing.T) {
	t.Parallel()
	type answer struct {
		code   int
		header map[string]string
		body   string
	}
	type want struct {
		data      string // or the error's text
		failed    bool
		permanent bool
		slow      time.Duration
	}
	const long = "0123456789"
	script := []struct {
		answer
		want
	}{
		{answer{code: 200, body: `{"a": 1}` + "\n"}, want{data: `"data":{"a":1}`}},
		{answer{code: 200, body: `12345678901234567890.10`}, want{data: `"data":12345678901234567890.10`}},
		{answer{code: 201, body: "created"}, want{data: `"data":"created"`}},
		{answer{code: 204}, want{data: `"data":null`}},
		{answer{code: 200}, want{data: `"data":null`}},
		{answer{code: 202, body: `"later"`}, want{data: `"data":"later"`}},
		{answer{code: 202, header: map[string]string{"Posta-Async": "true"}}, want{data: "a direct task has no lease", failed: true, permanent: true}},
		{answer{code: 200, body: "\"\xff\""}, want{data: `"data":"` + "\uFFFD" + `"`}},
		{answer{code: 200, body: "a\nb"}, want{data: `"data":"a\nb"`}},
		{answer{code: 301, header: map[string]string{"Location": "http://127.0.0.1:1/"}}, want{data: "301 Moved Permanently", failed: true, permanent: true}},
		{answer{code: 307, header: map[string]string{"Location": "/inward"}}, want{data: "307 Temporary Redirect", failed: true, permanent: true}},
		{answer{code: 304}, want{data: "304 Not Modified", failed: true, permanent: true}},
		{answer{code: 400, body: "no \x1b[31mred\x00"}, want{data: `400 Bad Request: "no \x1b[31mred\x00"`, failed: true, permanent: true}},
		{answer{code: 401}, want{data: "401 Unauthorized", failed: true, permanent: true}},
		{answer{code: 404}, want{data: "404 Not Found", failed: true, permanent: true}},
		{answer{code: 410}, want{data: "410 Gone", failed: true, permanent: true}},
		{answer{code: 422, body: strings.Repeat(long, 100)}, want{data: `422 Unprocessable Entity: "` + strings.Repeat(long, 20) + `"`, failed: true, permanent: true}},
		{answer{code: 408}, want{data: "408 Request Timeout", failed: true}},
		{answer{code: 425}, want{data: "425 Too Early", failed: true}},
		{answer{code: 429}, want{data: "429 Too Many Requests", failed: true}},
		{answer{code: 429, header: map[string]string{"Retry-After": "7"}}, want{data: "429", failed: true, slow: 7 * time.Second}},
		{answer{code: 503, header: map[string]string{"Retry-After": "86400"}}, want{data: "503", failed: true, slow: time.Hour}},
		{answer{code: 503, header: map[string]string{"Retry-After": "Mon, 30 Nov 2026 12:01:00 GMT"}}, want{data: "503", failed: true, slow: time.Minute}},
		{answer{code: 503, header: map[string]string{"Retry-After": "Mon, 30 Nov 2026 11:00:00 GMT"}}, want{data: "503", failed: true}},
		{answer{code: 503, header: map[string]string{"Retry-After": "soon"}}, want{data: "503", failed: true}},
		{answer{code: 500, body: "oh"}, want{data: `500 Internal Server Error: "oh"`, failed: true}},
		{answer{code: 502}, want{data: "502 Bad Gateway", failed: true}},
		{answer{code: 599}, want{data: "599", failed: true}},
		{answer{code: 200, body: strings.Repeat("x", MaxAnswer+1)}, want{data: "more than the 1048576 bytes", failed: true}},
	}
	var at atomic.Int32
	e := endpointOf(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/inward" || r.Method != http.MethodPost {
			t.Errorf("a redirect was followed: %s %s", r.Method, r.URL)
		}
		answer := script[at.Load()].answer
		for name, value := range answer.header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(answer.code)
		_, _ = io.WriteString(w, answer.body)
	}), func(c *Config) { c.Now = func() time.Time { return time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC) } })
	for i, step := range script {
		at.Store(int32(i))
		data, err := e.Call(t.Context(), &actions.Call{Action: "hook", Payload: []byte(`{}`)}, nil)
		got := string(data)
		if err != nil {
			got = err.Error()
		}
		if (err != nil) != step.failed || !strings.Contains(got, step.data) || !step.failed && got != step.data {
			t.Errorf("%d %q: %q, want %q", step.code, step.body[:min(20, len(step.body))], got, step.data)
		}
		if actions.IsPermanent(err) != step.permanent || actions.SlowDownTime(err) != step.slow {
			t.Errorf("%d: permanent %t, slow down for %s", step.code, actions.IsPermanent(err), actions.SlowDownTime(err))
		}
	}
}

func TestAServerThatMisbehavesIsLeftAfterTheTimeout(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	drip := func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = io.WriteString(w, "x")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-time.After(time.Millisecond):
			case <-r.Context().Done():
			case <-over:
				return
			}
		}
	}
	silent := func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-r.Context().Done():
		case <-over:
		}
	}
	for name, handler := range map[string]http.HandlerFunc{"drips": drip, "is silent": silent} {
		e := endpointOf(t, serve(t, handler))
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_, err := e.Call(ctx, &actions.Call{Payload: []byte("1")}, nil)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a server that %s: %v", name, err)
		}
	}
	early := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half")
	}
	torn := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	}
	endless := func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}
	headers := func(w http.ResponseWriter, _ *http.Request) {
		for i := range 100 {
			w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat("x", 4<<10))
		}
	}
	for name, handler := range map[string]http.HandlerFunc{"closes early": early, "closes at once": torn, "never ends": endless, "sends a large header": headers} {
		_, err := endpointOf(t, serve(t, handler)).Call(t.Context(), &actions.Call{Payload: []byte("1")}, nil)
		var large *actions.TooLargeError
		if err == nil || actions.IsPermanent(err) || errors.As(err, &large) != (name == "never ends") {
			t.Errorf("a server that %s: %v", name, err)
		}
	}
}

func TestErrorsDoNotTellTheURL(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	_ = listener.Close() // nobody listens there
	for _, host := range []string{addr, "no-such-host.invalid", "10.0.0.1"} {
		_, err := endpointOf(t, "http://"+host+"/hooks/s3cret?token=s3cret").Call(t.Context(), &actions.Call{Payload: []byte("1")}, nil)
		if err == nil || strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), host) {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func TestNoProxyOfTheEnvironmentIsUsed(t *testing.T) {
	called := false
	proxy := serve(t, func(http.ResponseWriter, *http.Request) { called = true })
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy"} {
		t.Setenv(name, proxy)
	}
	if _, err := endpointOf(t, "http://no-such-host.invalid/").Call(t.Context(), &actions.Call{Payload: []byte("1")}, nil); err == nil || called {
		t.Errorf("%v; the proxy was called: %t", err, called)
	}
}
