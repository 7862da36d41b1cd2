package httpapi_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/httpapi"
	"github.com/posta-tasks/posta/sdk/js/browser"
	"github.com/posta-tasks/posta/task"
)

func TestTheModulesForWebPagesNeedNoToken(t *testing.T) {
	t.Parallel()
	d := open(t, func(config *httpapi.Config, _ *executor.Config) { config.Tokens = tokens(t, "0123456789abcdef") })
	for _, m := range browser.Modules() {
		got := d.do(d.request("GET", m.Path, ""))
		if got.status != http.StatusOK || got.body != string(m.Text) {
			t.Fatalf("%s: %d and %d bytes, want %d", m.Path, got.status, len(got.body), len(m.Text))
		}
		for name, want := range map[string]string{
			"Content-Type": "text/javascript; charset=utf-8", "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff",
		} {
			if got.header.Get(name) != want {
				t.Errorf("%s: %s is %q, want %q", m.Path, name, got.header.Get(name), want)
			}
		}
		if got := d.do(d.request("HEAD", m.Path, "")); got.status != http.StatusOK || got.body != "" {
			t.Errorf("HEAD %s: %d %q", m.Path, got.status, got.body)
		}
		if got := d.do(d.request("GET", m.Path, "", "Accept", "text/html,*/*")); got.status != http.StatusOK || got.body != string(m.Text) {
			t.Errorf("a browser that opens %s gets %d %q", m.Path, got.status, got.body)
		}
		wantProblem(t, d.do(d.request("POST", m.Path, "")), http.StatusMethodNotAllowed, task.InvalidRequest, "no method POST")
		wantProblem(t, d.do(d.request("GET", m.Path, "", "Host", "evil.example")), http.StatusForbidden, task.Forbidden, "evil.example")
	}
}

func TestABrowserThatHasAModuleDoesNotGetItAgain(t *testing.T) {
	t.Parallel()
	d := open(t)
	tag := d.do(d.request("GET", "/posta.js", "")).header.Get("ETag")
	if len(tag) < 10 || !strings.HasPrefix(tag, `"`) {
		t.Fatalf("ETag %s", tag)
	}
	for header, status := range map[string]int{
		tag: http.StatusNotModified, `"x", W/` + tag: http.StatusNotModified, "*": http.StatusNotModified, `"x"`: http.StatusOK, tag[1:]: http.StatusOK,
	} {
		got := d.do(d.request("GET", "/posta.js", "", "If-None-Match", header))
		if got.status != status || (got.body == "") != (status == http.StatusNotModified) || got.header.Get("ETag") != tag {
			t.Errorf("If-None-Match: %s: %d, %d bytes, ETag %s", header, got.status, len(got.body), got.header.Get("ETag"))
		}
	}
}
