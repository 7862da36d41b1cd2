package browser_test

import (
	"context"
	"crypto/rand"
	"fmt"
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
	"time"

	"github.com/chromedp/chromedp"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/internal/chromium"
	"github.com/posta-tasks/posta/node"
)

// pages are the pages of the dashboard, by the name of their picture.
func (w *world) pages() map[string]string {
	return map[string]string{
		"overview": "/", "tasks": "/tasks", "task": "/tasks/" + w.ids["done"], "task-waiting": "/tasks/" + w.ids["waiting"], "task-running": "/tasks/" + w.ids["running"],
		"task-again": "/tasks/" + w.ids["again"], "failures": "/failures", "operations": "/operations", "queues": "/queues", "nodes": "/nodes", "try": "/try", "settings": "/settings", "missing": "/nowhere",
	}
}

// looks are the ways in which each page is looked at.
func looks() map[string]chromium.Look {
	return map[string]chromium.Look{
		"":       {Width: 1280, Height: 900, Language: "en"},
		"-dark":  {Width: 1280, Height: 900, Language: "es", Dark: true},
		"-phone": chromium.Phone(),
	}
}

func TestEveryPageIsSoundInBothLanguagesLightDarkAndOnAPhone(t *testing.T) {
	t.Parallel()
	w := system(t)
	for _, suffix := range slices.Sorted(maps.Keys(looks())) {
		l := looks()[suffix]
		b := open(t, w.origin, l)
		b.Allow("status of 404") // by the page that is missing
		for _, name := range slices.Sorted(maps.Keys(w.pages())) {
			if l.Dark && (name == "missing" || name == "task-again" || name == "task-waiting") { // they look like others
				continue
			}
			b.visit(w.pages()[name])
			if name == "overview" || name == "task-running" {
				b.Until(`document.querySelector("#live").dataset.state === "live"`)
			}
			if got := eval[string](b, "document.documentElement.lang"); got != l.Language {
				t.Errorf("%s%s is in %s", name, suffix, got)
			}
			targets := ""
			if l.Phone {
				targets = `:is(button, summary, .nav a, .chips a, input:not([type=hidden]), select):not(:is(.twin, .code, td, .who), :is(.twin, .code, td, .who) *)`
			}
			b.Fits(targets)
			b.picture(name+suffix, name != "tasks" && name != "settings")
			if suffix == "" || name == "overview" || name == "task-running" { // the check takes a while
				b.Accessible()
			}
		}
	}
}

func TestAnOpenPageFollowsWhatHappens(t *testing.T) {
	t.Parallel()
	w := start(t, cleanup(t))
	b := open(t, w.origin, chromium.Desktop())
	b.visit("/tasks?queue=news")
	eval[bool](b, "window.same = true")
	b.Until(`document.querySelector("#live").dataset.state === "live"`)
	accepted, err := w.client.Enqueue(t.Context(), "upper", "hola", client.EnqueueOptions{Queue: "news"})
	if err != nil {
		t.Fatal(err)
	}
	b.Until(`document.querySelector("#t` + accepted.Task + ` .state.done") !== null`)
	if !eval[bool](b, "window.same === true") {
		t.Error("the page was loaded again")
	}

	b.visit("/tasks/" + w.ids["running"]) // progress moves on a page
	b.Until(`document.querySelector(".why").textContent.includes("page 2 of 5")`)
	close(w.turn)
	b.Until(`document.querySelector(".why").textContent.includes("page 3 of 5")`)

	b.visit("/tasks?queue=news") // a pause keeps the page as it is
	b.Do(chromedp.Click(chromedp.CSS("#live")))
	if got := eval[string](b, `document.querySelector("#live").getAttribute("aria-pressed")`); got != "false" {
		t.Errorf("after a click the switch is %s", got)
	}
	if _, err := w.client.Enqueue(t.Context(), "upper", "adios", client.EnqueueOptions{Queue: "news"}); err != nil {
		t.Fatal(err)
	}
	if n := eval[int](b, `document.querySelectorAll("#tasks tbody tr").length`); n != 1 {
		t.Errorf("a paused page has %d tasks", n)
	}
	b.Do(chromedp.Click(chromedp.CSS("#live")))
	b.Until(`document.querySelectorAll("#tasks tbody tr").length === 2`)
}

func TestThePagesCanBeUsedWithTheKeyboardAlone(t *testing.T) {
	t.Parallel()
	w := system(t)
	b := open(t, w.origin, chromium.Desktop())
	b.visit("/")
	b.Press("\t")
	if got := eval[string](b, `document.activeElement.className`); got != "skip" {
		t.Errorf("the first stop is %q, not the link to the content", got)
	}
	b.Press("g", "t")
	b.Until(`location.pathname === "/tasks" && document.readyState === "complete"`)
	b.Press("j", "j")
	row := eval[string](b, `document.querySelector("tr.at").id`)
	b.Press("k", "j", "\r")
	b.Until(fmt.Sprintf(`location.pathname === "/tasks/%s" && document.readyState === "complete"`, strings.TrimPrefix(row, "t")))
	b.Press("/")
	if got := eval[string](b, `document.activeElement.id`); got != "search" {
		t.Errorf("/ leads to %q", got)
	}
	eval[string](b, `document.activeElement.value = ""`) // unlike a keyboard, DevTools types a key whose default was prevented
	b.Do(chromedp.KeyEvent("truncated\r"))
	b.Until(`location.search === "?q=truncated" && document.readyState === "complete"`)
	if n := eval[int](b, `document.querySelectorAll("#tasks tbody tr").length`); n != 12 {
		t.Errorf("the search finds %d tasks", n)
	}
	b.Press("?")
	b.Until(`document.querySelector("dialog").open`)
	b.visit("/tasks")
	b.Press("j", "x", "j", "x", "c") // selects two tasks, and asks to cancel them
	b.Until(`location.pathname === "/tasks/preview" && document.readyState === "complete"`)
	if n := eval[int](b, `document.querySelectorAll("main input[name=task]").length`); n != 2 {
		t.Errorf("the preview has %d tasks", n)
	}
	b.Accessible()
}

func TestThePagesWorkWithoutJavaScript(t *testing.T) {
	t.Parallel()
	w := system(t)
	later := client.EnqueueOptions{Queue: "mail", Delay: time.Hour, Meta: map[string]string{"of": "forms"}}
	accepted, err := w.client.Enqueue(t.Context(), "echo", "later", later)
	if err != nil {
		t.Fatal(err)
	}
	other, err := w.client.Enqueue(t.Context(), "echo", "later", later)
	if err != nil {
		t.Fatal(err)
	}
	l := chromium.Desktop()
	l.NoScript = true
	b := open(t, w.origin, l)
	b.visit("/queues")
	for _, step := range [][2]string{{"pause", "resume"}, {"resume", "pause"}} {
		b.Do(chromedp.Submit(chromedp.CSS(`form[action$="queues/mail/` + step[0] + `"]`)))
		b.Do(chromedp.WaitVisible(chromedp.CSS(`form[action$="queues/mail/` + step[1] + `"]`)))
	}
	b.visit("/tasks/" + accepted.Task)
	b.Do(chromedp.Submit(chromedp.CSS(`form[action$="/cancel"]`)))
	b.Do(chromedp.WaitVisible(chromedp.CSS(`.why.cancelled`)))
	record, err := w.client.Get(t.Context(), accepted.Task)
	if err != nil || record.State != "cancelled" {
		t.Errorf("the task is %s, %v", record.State, err)
	}
	b.visit("/tasks?meta=of%3Dforms")
	b.Do(chromedp.Click(chromedp.CSS(`#bulk button[value="cancel-all"]`)))
	b.Do(chromedp.WaitVisible(chromedp.CSS(`form[action$="tasks/change"] button`)))
	b.Do(chromedp.Click(chromedp.CSS(`form[action$="tasks/change"] button`)))
	b.Do(chromedp.WaitVisible(chromedp.CSS(`[data-state="done"]`))) // the page loads again until then
	record, err = w.client.Get(t.Context(), other.Task)
	if err != nil || record.State != "cancelled" {
		t.Errorf("the other task is %s, %v", record.State, err)
	}
	b.visit("/try")
	b.Do(chromedp.Submit(chromedp.CSS(`main form`)))
	b.Do(chromedp.WaitVisible(chromedp.CSS(`#wire`)))
}

func TestHostileTextsDoNothingInABrowser(t *testing.T) {
	t.Parallel()
	w := system(t)
	texts := []string{
		`<script>window.pwned=1</script>`, `"><img src=x onerror="window.pwned=1">`, `javascript:window.pwned=1`, "\x1b[31mred\x1b[0m", "\u202egnp.exe\u2066", strings.Repeat("wide", 2000),
	}
	all := strings.Join(texts, " ")
	paths := []string{"/", "/tasks", "/queues", "/tasks?" + url.Values{"q": {all[:200]}}.Encode()}
	for i, text := range texts {
		name, payload, meta := text[:min(len(text), 100)], map[string]any{}, map[string]string{}
		if i == 0 { // one page shows them all
			for _, text := range texts {
				payload[text], meta[text[:min(len(text), 100)]] = []any{text}, text
			}
		}
		accepted, err := w.client.Enqueue(t.Context(), strings.Map(printable, name), payload, client.EnqueueOptions{
			Queue: "evil", Key: strings.Map(printable, name) + "-" + rand.Text(), Meta: meta,
		})
		if err != nil {
			t.Fatalf("%.40q: %v", text, err)
		}
		paths = append(paths, "/tasks/"+accepted.Task)
		if i == 0 {
			paths = append(paths, "/try?from="+accepted.Task)
		}
	}
	b := open(t, w.origin, chromium.Phone())
	for _, path := range paths {
		b.visit(path)
		b.Fits("")
		if eval[bool](b, "window.pwned !== undefined") {
			t.Errorf("a hostile text runs at %.80s", path)
		}
	}
}

// printable replaces control characters, which names may not have.
func printable(c rune) rune {
	if c < 0x20 {
		return '?'
	}
	return c
}

func TestThePagesWorkBehindAProxyThatCutsOffAPrefix(t *testing.T) {
	t.Parallel()
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
	b := open(t, front.URL, chromium.Desktop())
	b.visit("/in/here/tasks/" + w.ids["waiting"])
	b.Until(`document.querySelector("#live").dataset.state === "live"`)
	b.Do(chromedp.Click(chromedp.CSS(`.nav a[href$="queues"]`)))
	b.Until(`location.pathname === "/in/here/queues" && document.readyState === "complete"`)
	b.Do(chromedp.Click(chromedp.CSS(`#theme`)))
	b.Until(`location.pathname === "/in/here/queues" && document.documentElement.dataset.theme === "dark"`)
}

func TestALoginInABrowser(t *testing.T) {
	t.Parallel()
	chromium.Need(t)
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
	b := open(t, "http://"+n.Addr().String(), chromium.Desktop())
	b.visit("/nodes")
	b.Until(`location.pathname === "/login"`)
	b.Accessible()
	b.picture("login", false)
	b.Do(chromedp.SendKeys(chromedp.CSS(`input[name=token]`), "correct-horse-battery\r"))
	b.Until(`location.pathname === "/nodes" && document.querySelector(".who")?.textContent.includes("ana")`)
}
