package httpapi_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/httpapi"
)

const browserAccepts = "text/html,application/xhtml+xml,*/*;q=0.8"

func TestBrowsersGetPagesAndProgramsTheListOfRoutes(t *testing.T) {
	t.Parallel()
	d := open(t)
	for path, want := range map[string]int{"/": 200, "/try": 200, "/nodes": 200, "/settings": 200, "/nowhere": 404, "/a/b/c": 404} {
		r := d.request("GET", path, "")
		r.Header.Set("Accept", browserAccepts)
		got := d.do(r)
		if got.status != want || !strings.HasPrefix(got.body, "<!doctype html>") || !strings.Contains(got.header.Get("Content-Security-Policy"), "require-trusted-types-for") {
			t.Errorf("%s: %d %.100s", path, got.status, got.body)
		}
	}
	for _, path := range []string{"/healthz", "/metrics", "/openapi.json", "/v1/nope"} {
		r := d.request("GET", path, "")
		r.Header.Set("Accept", browserAccepts)
		if got := d.do(r); strings.Contains(got.body, "<!doctype") {
			t.Errorf("%s is a page: %.100s", path, got.body)
		}
	}
	if got := d.do(d.request("GET", "/", "")); !strings.Contains(got.body, "POST  /v1/run") {
		t.Errorf("a program gets %.100s", got.body)
	}
}

func TestPagesAreGuardedLikeRoutes(t *testing.T) {
	t.Parallel()
	d := open(t)
	foreign := d.request("GET", "/tasks", "")
	foreign.Host = "evil.example"
	if got := d.do(foreign); got.status != http.StatusForbidden {
		t.Errorf("under another host: %d", got.status)
	}
	for _, site := range []string{"cross-site", "same-site"} {
		r := d.request("POST", "/try", "")
		r.Header.Set("Sec-Fetch-Site", site)
		if got := d.do(r); got.status != http.StatusForbidden {
			t.Errorf("%s: %d", site, got.status)
		}
		r = d.request("GET", "/live", "")
		r.Header.Set("Sec-Fetch-Site", site)
		r.Header.Set("Sec-Fetch-Mode", "cors")
		if got := d.do(r); got.status != http.StatusForbidden {
			t.Errorf("the stream, %s: %d", site, got.status)
		}
	}
}

func TestPagesAskForATokenWhereRoutesDo(t *testing.T) {
	t.Parallel()
	const token = "0123456789abcdef"
	d := open(t, func(config *httpapi.Config, _ *executor.Config) { config.Tokens = tokens(t, token) })
	d.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for _, path := range []string{"/", "/try", "/nodes", "/settings", "/live", "/tasks/01J/payload"} {
		r := d.request("GET", path, "")
		r.Header.Set("Accept", browserAccepts)
		if got := d.do(r); got.status != http.StatusSeeOther || !strings.Contains(got.header.Get("Location"), "login") {
			t.Errorf("%s: %d to %s", path, got.status, got.header.Get("Location"))
		}
	}
	login := d.request("POST", "/login", "token="+token+"&back=try")
	login.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	got := d.do(login)
	cookie, _, _ := strings.Cut(got.header.Get("Set-Cookie"), ";")
	if got.status != http.StatusSeeOther || got.header.Get("Location") != "./try" || !strings.HasPrefix(cookie, "__Host-posta=") {
		t.Fatalf("the login: %d to %s with %s", got.status, got.header.Get("Location"), cookie)
	}
	for name, value := range map[string]string{"Cookie": cookie, "Authorization": "Bearer " + token} {
		r := d.request("GET", "/try", "")
		r.Header.Set(name, value)
		if got := d.do(r); got.status != http.StatusOK {
			t.Errorf("with %s: %d", name, got.status)
		}
	}
}
