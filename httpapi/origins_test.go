package httpapi_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/httpapi"
)

const app = "https://app.example"

// foreign has the headers of a request of a page at an origin.
func foreign(origin string, more ...string) []string {
	return append([]string{"Origin", origin, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty"}, more...)
}

func openForApp(t *testing.T) *door {
	t.Helper()
	return openDurable(t, func(config *httpapi.Config) {
		config.AllowOrigins = []string{"HTTPS://App.Example", "http://localhost:3000"}
		config.Tokens = tokens(t, "correct-horse-battery")
	})
}

func TestAPageOfAnAllowedOriginUsesTheAPIWithAToken(t *testing.T) {
	t.Parallel()
	d := openForApp(t)
	bearer := []string{"Authorization", "Bearer correct-horse-battery"}
	ask := func(method, path, body, origin string, headers ...string) answer {
		t.Helper()
		if body != "" {
			headers = append(headers, "Content-Type", "application/json")
		}
		return d.do(d.request(method, path, body, foreign(origin, headers...)...))
	}
	task1 := ask("POST", "/v1/tasks", `{"action":"echo","delay":600}`, app, bearer...)
	if task1.status != http.StatusAccepted || !strings.Contains(task1.header.Get("Access-Control-Expose-Headers"), "Location") {
		t.Fatal(task1.status, task1.body, task1.header)
	}
	id := strings.TrimPrefix(task1.header.Get("Location"), "tasks/")
	for _, request := range [][3]string{
		{"POST", "/v1/run", echo}, {"GET", "/v1/tasks", ""}, {"GET", "/v1/tasks/" + id, ""}, {"POST", "/v1/tasks/" + id + "/cancel", ""},
		{"GET", "/v1/tasks/" + id + "/events", ""}, {"GET", "/v1/queues", ""}, {"GET", "/posta.js", ""}, {"GET", "/healthz", ""}, {"GET", "/openapi.json", ""}, {"GET", "/metrics", ""},
	} {
		got := ask(request[0], request[1], request[2], app, bearer...)
		if got.status == http.StatusForbidden || got.status == http.StatusUnauthorized || got.header.Get("Access-Control-Allow-Origin") != app ||
			got.header.Get("Access-Control-Allow-Credentials") != "" || got.header.Get("Vary") != "Origin" {
			t.Errorf("%s: %d %v %s", request, got.status, got.header, got.body)
		}
		for _, origin := range []string{"https://app.example.evil", "http://app.example", "https://app.example:8443", "https://APP.example", "null", "http://localhost:3001"} {
			got := ask(request[0], request[1], request[2], origin, bearer...)
			if got.status != http.StatusForbidden || got.header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s from %s: %d %v", request, origin, got.status, got.header)
			}
		}
	}
	refused := ask("POST", "/v1/run", echo, app)
	if refused.status != http.StatusUnauthorized || refused.header.Get("Access-Control-Allow-Origin") != app {
		t.Errorf("without a token: %d %v", refused.status, refused.header)
	}
}

func TestACookieIsNotThatOfAnAllowedOrigin(t *testing.T) {
	t.Parallel()
	d := openForApp(t)
	cookie := []string{"Cookie", auth.SessionCookie + "=correct-horse-battery"}
	if got := d.get("/v1/tasks", cookie...); got.status != http.StatusOK {
		t.Fatal(got.status, got.body)
	}
	if got := d.get("/v1/tasks", foreign(app, cookie...)...); got.status != http.StatusUnauthorized {
		t.Errorf("with a cookie: %d %s", got.status, got.body)
	}
	login := d.do(d.request("POST", "/v1/session", `{"token":"correct-horse-battery"}`, foreign(app, "Content-Type", "application/json")...))
	if login.status != http.StatusForbidden || login.header.Get("Set-Cookie") != "" {
		t.Errorf("a login: %d %v", login.status, login.header)
	}
	for _, path := range []string{"/tasks", "/settings", "/login"} {
		got := d.get(path, foreign(app, append(cookie, "Accept", "text/html")...)...)
		if got.status != http.StatusForbidden || got.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s of the dashboard: %d %v", path, got.status, got.header)
		}
	}
}

func TestAPreflightIsAnsweredForAllowedOriginsOnly(t *testing.T) {
	t.Parallel()
	d := openForApp(t)
	ask := func(path, origin string) answer {
		return d.do(d.request("OPTIONS", path, "", foreign(origin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,content-type")...))
	}
	got := ask("/v1/tasks", app)
	if h := got.header; got.status != http.StatusNoContent || h.Get("Access-Control-Allow-Origin") != app || h.Get("Access-Control-Allow-Methods") != "POST, GET, HEAD" ||
		!strings.Contains(h.Get("Access-Control-Allow-Headers"), "Authorization") || h.Get("Access-Control-Max-Age") == "" || h.Get("Vary") != "Origin" {
		t.Errorf("%d %v", got.status, got.header)
	}
	if got := ask("/v1/tasks", "https://evil.example"); got.status != http.StatusForbidden || got.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("of another origin: %d %v", got.status, got.header)
	}
	if got := ask("/nowhere", app); got.status != http.StatusNotFound {
		t.Errorf("of a path that is not there: %d", got.status)
	}
	plain := openDurable(t)
	if got := plain.do(plain.request("OPTIONS", "/v1/tasks", "", foreign(app, "Access-Control-Request-Method", "POST")...)); got.status != http.StatusForbidden || got.header.Get("Vary") != "" {
		t.Errorf("of a node without allowed origins: %d %v", got.status, got.header)
	}
}

func TestAWebSocketIsOpenToAllowedOriginsOnly(t *testing.T) {
	t.Parallel()
	d := openForApp(t)
	for origin, want := range map[string]int{app: http.StatusServiceUnavailable, "http://localhost:3000": http.StatusServiceUnavailable, "https://evil.example": http.StatusForbidden} {
		got := d.get("/v1/socket", "Origin", origin, "Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")
		if got.status != want { // this node has no door for lines
			t.Errorf("%s: %d %s", origin, got.status, got.body)
		}
	}
}

func TestAnAllowedOriginThatIsNoOriginIsRefusedAtTheStart(t *testing.T) {
	t.Parallel()
	e := builtinExecutor(t)
	for origin, want := range map[string]string{
		"*": "list each origin", "https://*.example": "is not an origin", "app.example": "is not an origin", "https://": "is not an origin", "null": "is not an origin", "": "is not an origin",
		"https://app.example/": "write https://app.example", "https://app.example/x": "write https://app.example", "https://ana@app.example": "write https://app.example",
		"https://app.example:443": "write https://app.example", "http://app.example:80": "write http://app.example",
	} {
		_, err := httpapi.New(httpapi.Config{Executor: e, AllowOrigins: []string{origin}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", origin, err, want)
		}
	}
}
