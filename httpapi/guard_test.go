package httpapi_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/httpapi"
	"github.com/posta-tasks/posta/task"
)

const echo = `{"action":"echo"}`

func TestOnlyTheNodesOwnNamesAreAnswered(t *testing.T) {
	t.Parallel()
	d := open(t, func(config *httpapi.Config, _ *executor.Config) {
		config.AllowedHosts = []string{"Tasks.Example", ".svc", ".Svc.Cluster.Local", "node1:9001", "192.0.2.5", "2001:db8::5"}
	})
	allowed := []string{
		"localhost", "localhost:9001", "LOCALHOST.:1", "127.0.0.1", "127.0.0.1:9001", "127.8.9.1:80", "[::1]", "[::1]:9001",
		"[::ffff:127.0.0.1]", "tasks.example", "TASKS.example:443", "tasks.example.", "node1", "192.0.2.5:9001", "[2001:db8:0::5]:9001", d.addr,
		"posta.default.svc", "posta.default.svc:9000", "POSTA.default.svc.cluster.local.", "svc.cluster.local",
	}
	refused := []string{
		"evil.example", "evil.example:9001", "localhost.evil.example", "127.0.0.1.evil.example", "xlocalhost", "sub.localhost",
		"192.0.2.6", "0.0.0.0:9001", "[::]:9001", "[::2]", "1.127.0.0", "2130706433", "0x7f.1", "127.1", "localhost:9001:1", "[::1", "[::1]x", "[::1]:x",
		"posta.default.svc.evil.example", "evilsvc", "posta.default.evilsvc", "posta.default", "svc.cluster.local.evil.example",
		"localhost:evil", ":9001", ".", "tasks.example/..",
	}
	for _, host := range allowed {
		for _, got := range []answer{d.run(echo, "Host", host), d.do(d.request("GET", "/metrics", "", "Host", host))} {
			if got.status == http.StatusForbidden {
				t.Errorf("host %s: %s", host, got.body)
			}
		}
	}
	for _, host := range refused {
		got, _, _ := d.raw("POST /v1/run HTTP/1.1\r\nConnection: close\r\nHost: " + host + "\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n" + echo)
		if got.status == http.StatusBadRequest && strings.Contains(got.body, "malformed Host header") {
			continue // net/http was faster
		}
		if p := wantProblem(t, got, http.StatusForbidden, task.Forbidden, "--allowed-hosts"); p.Field != "Host" {
			t.Errorf("host %s: field %q", host, p.Field)
		}
		for _, path := range []string{"/", "/metrics", "/v1/tasks", "/nowhere"} {
			got, _, _ := d.raw("GET " + path + " HTTP/1.1\r\nConnection: close\r\nHost: " + host + "\r\n\r\n")
			wantProblem(t, got, http.StatusForbidden, task.Forbidden, "--allowed-hosts")
		}
	}
}

func TestAnAbsoluteAddressNamesTheHost(t *testing.T) {
	t.Parallel()
	d := open(t)
	got, _, _ := d.raw("GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
	wantProblem(t, got, http.StatusForbidden, task.Forbidden, "evil.example")
}

// Balancers check with the public name, with the node's address, or with no name at all.
func TestTheHealthRoutesAreAnsweredUnderAnyHost(t *testing.T) {
	t.Parallel()
	d := open(t)
	for _, path := range []string{"/healthz", "/readyz"} {
		for _, host := range []string{"posta.example.com", "posta.example.com:443", "192.0.2.6:9001", "[2001:db8::6]", ""} {
			if got, _, _ := d.raw("GET " + path + " HTTP/1.1\r\nConnection: close\r\nHost: " + host + "\r\n\r\n"); got.status != http.StatusOK {
				t.Errorf("host %q at %s: %d %s", host, path, got.status, got.body)
			}
		}
		got, _, _ := d.raw("POST " + path + " HTTP/1.1\r\nConnection: close\r\nHost: evil.example\r\nContent-Length: 0\r\n\r\n")
		wantProblem(t, got, http.StatusMethodNotAllowed, task.InvalidRequest, "has no method POST")
	}
}

// A proxy that cuts the port off the Host makes the node refuse its own page.
func TestARefusedOriginNamesWhatWasCompared(t *testing.T) {
	t.Parallel()
	d := open(t)
	p := wantProblem(t, d.run(echo, "Host", "localhost", "Origin", "http://localhost:8080"), http.StatusForbidden, task.Forbidden, "its Origin is http://localhost:8080 and its Host is localhost;")
	if p.Field != "Origin" || !strings.Contains(p.Detail, "pass on Host as the browser sent it, with the port") {
		t.Errorf("the refusal is %+v", p)
	}
	wantProblem(t, d.run(echo, "Sec-Fetch-Site", "cross-site", "Origin", "http://localhost:8080"), http.StatusForbidden, task.Forbidden, "the browser says Sec-Fetch-Site: cross-site")
}

func TestAHealthCheckNeedsNoHost(t *testing.T) {
	t.Parallel()
	d := open(t)
	for path, status := range map[string]int{"/healthz": 200, "/readyz": 200, "/": 403, "/metrics": 403, "/v1/queues": 403} {
		got, _, closed := d.raw("GET " + path + " HTTP/1.0\r\n\r\n")
		if got.status != status || !closed {
			t.Errorf("HTTP/1.0 without Host at %s: %d, closed %v; want %d and closed", path, got.status, closed, status)
		}
		if got, _, _ := d.raw("GET " + path + " HTTP/1.1\r\nHost:\r\n\r\n"); got.status != status {
			t.Errorf("HTTP/1.1 with an empty Host at %s: %d, want %d", path, got.status, status)
		}
		if got, _, _ := d.raw("GET " + path + " HTTP/1.1\r\n\r\n"); got.status != http.StatusBadRequest {
			t.Errorf("HTTP/1.1 without Host at %s: %d, want 400", path, got.status)
		}
	}
	got, _, _ := d.raw("POST /v1/run HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n" + echo)
	wantProblem(t, got, http.StatusForbidden, task.Forbidden, "no Host")
}

func TestAWebPageElsewhereCanDoNothing(t *testing.T) {
	t.Parallel()
	d := open(t)
	own := "http://" + d.addr
	tests := []struct {
		name    string
		headers []string
		post    bool // is POST /v1/run answered
		get     bool // is GET /metrics answered
	}{
		{"a program", nil, true, true},
		{"our own page", []string{"Sec-Fetch-Site", "same-origin", "Origin", own}, true, true},
		{"our own page in an old browser", []string{"Origin", own}, true, true},
		{"typed by the user", []string{"Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate"}, true, true},
		{"a page elsewhere", []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, false, false},
		{"a page elsewhere without an origin", []string{"Sec-Fetch-Site", "cross-site"}, false, false},
		{"another port of this machine", []string{"Sec-Fetch-Site", "same-site", "Origin", "http://127.0.0.1:3000"}, false, false},
		{"an old browser elsewhere", []string{"Origin", "https://evil.example"}, false, false},
		{"a sandboxed frame", []string{"Origin", "null"}, false, false},
		{"a word of no meaning", []string{"Sec-Fetch-Site", "trust-me"}, false, false},
		{"an image elsewhere", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image"}, false, false},
		{"a frame elsewhere", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"}, false, false},
		{"a link elsewhere", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, false, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, c := range []struct {
				got     answer
				allowed bool
			}{{d.run(echo, test.headers...), test.post}, {d.do(d.request("GET", "/", "", test.headers...)), test.get}} {
				if c.allowed && c.got.status != http.StatusOK {
					t.Errorf("%d %s", c.got.status, c.got.body)
				}
				if !c.allowed {
					wantProblem(t, c.got, http.StatusForbidden, task.Forbidden, "another origin")
				}
				noCORS(t, c.got)
			}
		})
	}
}

func TestABrowserThatAsksFirstIsRefused(t *testing.T) {
	t.Parallel()
	d := open(t)
	got := d.do(d.request("OPTIONS", "/v1/run", "", "Origin", "https://evil.example", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type"))
	wantProblem(t, got, http.StatusForbidden, task.Forbidden, "another origin")
	noCORS(t, got)
}

func noCORS(t *testing.T, got answer) {
	t.Helper()
	for name := range got.header {
		if strings.HasPrefix(name, "Access-Control") {
			t.Errorf("the answer has the header %s", name)
		}
	}
}

func TestATokenOpensTheDoor(t *testing.T) {
	t.Parallel()
	const token = "0123456789abcdef"
	d := open(t, func(config *httpapi.Config, _ *executor.Config) { config.Tokens = tokens(t, token) })
	for _, value := range []string{"Bearer " + token, "bearer " + token, "BEARER  " + token + " "} {
		if got := d.run(echo, "Authorization", value); got.status != http.StatusOK {
			t.Errorf("%q: %d %s", value, got.status, got.body)
		}
	}
	refused := map[string][]string{
		"none":         nil,
		"empty":        {"Authorization", ""},
		"no token":     {"Authorization", "Bearer"},
		"blank token":  {"Authorization", "Bearer "},
		"no scheme":    {"Authorization", token},
		"wrong token":  {"Authorization", "Bearer " + token + "0"},
		"other scheme": {"Authorization", "Basic " + token},
		"twice":        {"Authorization", "Bearer " + token, "Authorization", "Bearer " + token},
		"in a cookie":  {"Cookie", "token=" + token},
	}
	for name, headers := range refused {
		got := d.run(echo, headers...)
		wantProblem(t, got, http.StatusUnauthorized, task.Unauthenticated, "token")
		if challenge := got.header.Get("WWW-Authenticate"); !strings.HasPrefix(challenge, `Bearer realm="posta"`) {
			t.Errorf("%s: WWW-Authenticate %q", name, challenge)
		}
		if strings.Contains(got.body, token) {
			t.Errorf("%s: the answer tells the token: %s", name, got.body)
		}
	}
}

func TestWithTokensOnlyTheHealthRoutesAreOpen(t *testing.T) {
	t.Parallel()
	d := open(t, func(config *httpapi.Config, _ *executor.Config) { config.Tokens = tokens(t, "0123456789abcdef") })
	for path, status := range map[string]int{"/healthz": 200, "/readyz": 200, "/": 401, "/metrics": 401, "/v1/tasks": 401, "/v1/queues": 401, "/v1/tasks/01JE/result": 401} {
		if got := d.do(d.request("GET", path, "")); got.status != status {
			t.Errorf("GET %s: %d, want %d", path, got.status, status)
		}
	}
}

func TestARefusedClientWithALargeBodyGetsTheReason(t *testing.T) {
	t.Parallel()
	d := open(t, func(config *httpapi.Config, _ *executor.Config) { config.Tokens = tokens(t, "0123456789abcdef") })
	got := d.run(`{"action":"echo","payload":"` + strings.Repeat("x", 900_000) + `"}`)
	wantProblem(t, got, http.StatusUnauthorized, task.Unauthenticated, "token")
}
