package browser_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/node"
)

// axe is the checker of accessibility axe-core 4.14.1 (MPL-2.0), compressed. Only tests use it.
//
//go:embed testdata/axe.min.js.gz
var axe []byte

const axeSum = "cda5e4385d9437c1fd009f2ff76f7e4049af354d2d6522da2a905c2a69ede4ec"

func TestTheVendoredCheckerIsUnchanged(t *testing.T) {
	if sum := sha256.Sum256(axe); hex.EncodeToString(sum[:]) != axeSum {
		t.Errorf("testdata/axe.min.js.gz has the sum %x", sum)
	}
}

// accessible fails the test if axe finds something on the page.
func (b *tab) accessible(name string) {
	b.t.Helper()
	unpacked, err := gzip.NewReader(bytes.NewReader(axe))
	if err != nil {
		b.t.Fatal(err)
	}
	script, err := io.ReadAll(unpacked)
	if err != nil {
		b.t.Fatal(err)
	}
	b.run(chromedp.Evaluate[chromedp.Void](string(script)))
	const check = `axe.run(document, {resultTypes: ["violations"]}).then((r) => r.violations.map((v) =>
		v.id + ": " + v.help + " (" + v.nodes.slice(0, 3).map((n) => n.target + " " + (n.any[0]?.message ?? "")).join("; ") + ")"))`
	for _, violation := range eval[[]string](b, check, chromedp.EvalAwaitPromise) {
		b.t.Errorf("%s: axe finds %s", name, violation)
	}
}

// pages are the pages of the dashboard, by the name of their picture.
func (w *world) pages() map[string]string {
	return map[string]string{
		"overview": "/", "tasks": "/tasks", "task": "/tasks/" + w.ids["done"], "task-waiting": "/tasks/" + w.ids["waiting"], "task-running": "/tasks/" + w.ids["running"],
		"task-again": "/tasks/" + w.ids["again"], "failures": "/failures", "queues": "/queues", "nodes": "/nodes", "try": "/try", "settings": "/settings", "missing": "/nowhere",
	}
}

// looks are the ways in which each page is looked at.
func looks() map[string]look {
	return map[string]look{
		"":       {width: 1280, height: 900, language: "en"},
		"-dark":  {width: 1280, height: 900, language: "es", dark: true},
		"-phone": {width: 390, height: 844, language: "en", phone: true},
	}
}

func TestEveryPageIsSoundInBothLanguagesLightDarkAndOnAPhone(t *testing.T) {
	w := system(t)
	for _, suffix := range slices.Sorted(maps.Keys(looks())) {
		l := looks()[suffix]
		b := open(t, w.origin, l)
		for _, name := range slices.Sorted(maps.Keys(w.pages())) {
			if l.dark && (name == "missing" || name == "task-again" || name == "task-waiting") { // they look like others
				continue
			}
			b.visit(w.pages()[name])
			if name == "overview" || name == "task-running" {
				b.until(`document.querySelector("#live").dataset.state === "live"`)
			}
			if got := eval[string](b, "document.documentElement.lang"); got != l.language {
				t.Errorf("%s%s is in %s", name, suffix, got)
			}
			if n := eval[int](b, "document.documentElement.scrollWidth - innerWidth"); n > 0 {
				t.Errorf("%s%s scrolls sideways by %d pixels", name, suffix, n)
			}
			if l.phone {
				small := `[...document.querySelectorAll("button, summary, .nav a, .chips a, input:not([type=hidden]), select")].filter((e) => {
					const r = e.getBoundingClientRect(); return r.height > 0 && r.height < 43.5 && !e.closest(".twin, .code, td, .who") }).map((e) => e.outerHTML.slice(0, 80))`
				for _, element := range eval[[]string](b, small) {
					t.Errorf("%s%s: less than 44 pixels high: %s", name, suffix, element)
				}
			}
			b.picture(name+suffix, name != "tasks" && name != "settings")
			if suffix == "" || name == "overview" || name == "task-running" { // the check takes a while
				b.accessible(name + suffix)
			}
			b.quiet(name == "missing")
		}
	}
}

func TestAnOpenPageFollowsWhatHappens(t *testing.T) {
	w := start(t, cleanup(t))
	b := open(t, w.origin, desktop())
	b.visit("/tasks?queue=news")
	eval[bool](b, "window.same = true")
	b.until(`document.querySelector("#live").dataset.state === "live"`)
	accepted, err := w.client.Enqueue(t.Context(), "upper", "hola", client.EnqueueOptions{Queue: "news"})
	if err != nil {
		t.Fatal(err)
	}
	b.until(`document.querySelector("#t` + accepted.Task + ` .state.done") !== null`)
	if !eval[bool](b, "window.same === true") {
		t.Error("the page was loaded again")
	}

	b.visit("/tasks/" + w.ids["running"]) // progress moves on a page
	b.until(`document.querySelector(".why").textContent.includes("page 2 of 5")`)
	close(w.turn)
	b.until(`document.querySelector(".why").textContent.includes("page 3 of 5")`)

	b.visit("/tasks?queue=news") // a pause keeps the page as it is
	b.run(chromedp.Click(chromedp.CSS("#live")))
	if got := eval[string](b, `document.querySelector("#live").getAttribute("aria-pressed")`); got != "false" {
		t.Errorf("after a click the switch is %s", got)
	}
	if _, err := w.client.Enqueue(t.Context(), "upper", "adios", client.EnqueueOptions{Queue: "news"}); err != nil {
		t.Fatal(err)
	}
	if n := eval[int](b, `document.querySelectorAll("#tasks tbody tr").length`); n != 1 {
		t.Errorf("a paused page has %d tasks", n)
	}
	b.run(chromedp.Click(chromedp.CSS("#live")))
	b.until(`document.querySelectorAll("#tasks tbody tr").length === 2`)
	b.quiet()
}

func TestThePagesCanBeUsedWithTheKeyboardAlone(t *testing.T) {
	w := system(t)
	b := open(t, w.origin, desktop())
	b.visit("/")
	b.press("\t")
	if got := eval[string](b, `document.activeElement.className`); got != "skip" {
		t.Errorf("the first stop is %q, not the link to the content", got)
	}
	b.press("g", "t")
	b.until(`location.pathname === "/tasks" && document.readyState === "complete"`)
	b.press("j", "j")
	row := eval[string](b, `document.querySelector("tr.at").id`)
	b.press("k", "j", "\r")
	b.until(fmt.Sprintf(`location.pathname === "/tasks/%s" && document.readyState === "complete"`, strings.TrimPrefix(row, "t")))
	b.press("/")
	if got := eval[string](b, `document.activeElement.id`); got != "search" {
		t.Errorf("/ leads to %q", got)
	}
	eval[string](b, `document.activeElement.value = ""`) // unlike a keyboard, DevTools types a key whose default was prevented
	b.run(chromedp.KeyEvent("truncated\r"))
	b.until(`location.search === "?q=truncated" && document.readyState === "complete"`)
	if n := eval[int](b, `document.querySelectorAll("#tasks tbody tr").length`); n != 12 {
		t.Errorf("the search finds %d tasks", n)
	}
	b.press("?")
	b.until(`document.querySelector("dialog").open`)
	b.quiet()
}

func TestThePagesWorkWithoutJavaScript(t *testing.T) {
	w := start(t, cleanup(t))
	l := desktop()
	l.noScript = true
	b := open(t, w.origin, l)
	b.visit("/queues")
	b.run(chromedp.Submit(chromedp.CSS(`form[action$="queues/crm/pause"]`)))
	b.run(chromedp.WaitVisible(chromedp.CSS(`form[action$="queues/crm/resume"]`)))
	b.visit("/tasks/" + w.ids["again"])
	b.run(chromedp.Submit(chromedp.CSS(`form[action$="/cancel"]`)))
	b.run(chromedp.WaitVisible(chromedp.CSS(`.why.cancelled`)))
	record, err := w.client.Get(t.Context(), w.ids["again"])
	if err != nil || record.State != "cancelled" {
		t.Errorf("the task is %s, %v", record.State, err)
	}
	b.visit("/try")
	b.run(chromedp.Submit(chromedp.CSS(`main form`)))
	b.run(chromedp.WaitVisible(chromedp.CSS(`#wire`)))
	b.quiet()
}

func TestHostileTextsDoNothingInABrowser(t *testing.T) {
	w := start(t, cleanup(t))
	texts := []string{
		`<script>window.pwned=1</script>`, `"><img src=x onerror="window.pwned=1">`, `javascript:window.pwned=1`, "\x1b[31mred\x1b[0m", "\u202egnp.exe\u2066", strings.Repeat("wide", 2000),
	}
	b := open(t, w.origin, look{width: 390, height: 844, language: "en", phone: true})
	for _, text := range texts {
		name := text[:min(len(text), 100)]
		accepted, err := w.client.Enqueue(t.Context(), strings.Map(printable, name), map[string]any{text: []any{text}}, client.EnqueueOptions{
			Queue: "evil", Key: strings.Map(printable, name), Meta: map[string]string{name: text},
		})
		if err != nil {
			t.Fatalf("%.40q: %v", text, err)
		}
		for _, path := range []string{"/tasks/" + accepted.Task, "/try?from=" + accepted.Task, "/tasks?" + url.Values{"q": {name}}.Encode()} {
			b.visit(path)
			if eval[bool](b, "window.pwned !== undefined") || eval[int](b, "document.documentElement.scrollWidth - innerWidth") > 0 {
				t.Errorf("%.40q runs, or is wider than the page, at %.80s", text, path)
			}
		}
	}
	for _, path := range []string{"/", "/tasks", "/queues"} {
		b.visit(path)
		if eval[bool](b, "window.pwned !== undefined") || eval[int](b, "document.documentElement.scrollWidth - innerWidth") > 0 {
			t.Errorf("a hostile text runs, or is wider than the page, at %s", path)
		}
	}
	b.quiet()
}

// printable replaces control characters, which names may not have.
func printable(c rune) rune {
	if c < 0x20 {
		return '?'
	}
	return c
}

func TestThePagesWorkBehindAProxyThatCutsOffAPrefix(t *testing.T) {
	w := system(t)
	target, err := url.Parse(w.origin)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host
	}}
	front := httptest.NewServer(http.StripPrefix("/in/here", proxy))
	defer front.Close()
	defer front.CloseClientConnections()
	b := open(t, front.URL, desktop())
	b.visit("/in/here/tasks/" + w.ids["waiting"])
	b.until(`document.querySelector("#live").dataset.state === "live"`)
	b.run(chromedp.Click(chromedp.CSS(`.nav a[href$="queues"]`)))
	b.until(`location.pathname === "/in/here/queues" && document.readyState === "complete"`)
	b.run(chromedp.Click(chromedp.CSS(`#theme`)))
	b.until(`location.pathname === "/in/here/queues" && document.documentElement.dataset.theme === "dark"`)
	b.quiet()
}

func TestALoginInABrowser(t *testing.T) {
	chromium(t)
	file := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(file, []byte("ana correct-horse-battery\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tokens, err := auth.LoadTokens(file)
	if err != nil {
		t.Fatal(err)
	}
	n, err := node.New(node.Config{Name: "n1", Listen: "127.0.0.1:0", Tokens: tokens})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	b := open(t, "http://"+n.Addr().String(), desktop())
	b.visit("/nodes")
	b.until(`location.pathname === "/login"`)
	b.accessible("login")
	b.picture("login", false)
	b.run(chromedp.SendKeys(chromedp.CSS(`input[name=token]`), "correct-horse-battery\r"))
	b.until(`location.pathname === "/nodes" && document.querySelector(".who")?.textContent.includes("ana")`)
	b.quiet()
}
