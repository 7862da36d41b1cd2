package browser_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/internal/testenv"
)

// patience is how long a step may take on a busy machine.
const patience = 2 * time.Minute

const token = "correct-horse-battery"

// site is a web site with Posta behind it: two nodes that share a store, a balancer, and a server of pages in front.
type site struct {
	t       *testing.T
	browser context.Context
	front   string // the address of the balancer
	client  *client.Client
	start   [2]func() *testenv.Process
	nodes   [2]*testenv.Process
}

func openSite(t *testing.T) *site {
	t.Helper()
	testenv.NeedServer(t, "chromium")
	s := &site{t: t, browser: startChromium(t)}
	folder := t.TempDir()
	tokens := filepath.Join(folder, "tokens")
	if err := os.WriteFile(tokens, []byte("page "+token+" run:* enqueue:* see:own cancel:own\nadmin admin-"+token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	stored := testenv.StartPostgres(t)
	front := testenv.FreeAddr(t)
	arguments := []string{"balancer", "run", "--listen", front}
	for i := range s.nodes {
		addr := testenv.FreeAddr(t)
		s.start[i] = func() *testenv.Process {
			return testenv.Node(t, addr, "--token-file", tokens, "--drain-delay", "0s", "--store", stored.URL())
		}
		s.nodes[i] = s.start[i]()
		arguments = append(arguments, "--node", addr)
	}
	testenv.Start(t, testenv.Posta(t), arguments...)
	testenv.Eventually(t, patience, testenv.Accepts(front))
	s.front = front
	var err error
	if s.client, err = client.New(client.Config{Addr: front, Token: "admin-" + token}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.client.Close() })
	return s
}

// servePages serves the pages of the tests, and passes the rest on to Posta as docs/web.md says.
func servePages(t *testing.T, front string) (origin string) {
	t.Helper()
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: front})
		r.Out.Host = r.In.Host
	}}
	mux := http.NewServeMux()
	mux.Handle("/v1/", proxy)
	mux.Handle("/posta.js", proxy)
	mux.Handle("/posta-outbox.js", proxy)
	mux.HandleFunc("POST /pass", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, token) })
	mux.Handle("/", http.FileServer(http.Dir("test/pages")))
	server := httptest.NewServer(mux)
	t.Cleanup(server.CloseClientConnections)
	return server.URL
}

func startChromium(t *testing.T) context.Context {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath("chromium"), chromedp.UserDataDir(t.TempDir()),
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.WSURLReadTimeout(patience))
	allocator, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, end := chromedp.NewContext(allocator)
	t.Cleanup(end)
	if err := chromedp.Do(ctx); err != nil { // starts it; no time limit, which would end the browser with it
		t.Fatal(err)
	}
	return ctx
}

// tab is a tab with the page of the tests.
type tab struct {
	t   *testing.T
	ctx context.Context
}

func (s *site) open(t *testing.T, origin string) *tab {
	t.Helper()
	ctx, end := chromedp.NewContext(s.browser)
	t.Cleanup(end)
	b := &tab{t, ctx}
	if err := chromedp.Do(ctx); err != nil { // opens it; no time limit, which would end the tab with it
		t.Fatal(err)
	}
	b.within(func(ctx context.Context) error { return chromedp.Do(ctx, chromedp.Navigate(origin+"/")) })
	b.until("window.ready")
	return b
}

func (b *tab) within(step func(ctx context.Context) error) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := step(ctx); err != nil {
		b.t.Fatal(err)
	}
}

// eval returns the value of an expression, or that of its promise, as JSON.
func (b *tab) eval(expression string) (text string) {
	b.t.Helper()
	b.within(func(ctx context.Context) (err error) {
		whole := "(async () => JSON.stringify(await (" + expression + ")) ?? '')()"
		text, err = chromedp.Run(ctx, chromedp.Evaluate[string](whole, chromedp.EvalAwaitPromise))
		return err
	})
	return text
}

func (b *tab) want(expression, want string) {
	b.t.Helper()
	if got := b.eval(expression); got != want {
		b.t.Errorf("%s is %s, want %s", expression, got, want)
	}
}

// until waits until an expression is true.
func (b *tab) until(expression string) {
	b.t.Helper()
	b.within(func(ctx context.Context) error {
		_, err := chromedp.Run(ctx, chromedp.Poll[bool](expression, chromedp.WithPollingInterval(50*time.Millisecond), chromedp.WithPollingTimeout(patience)))
		return err
	})
}

// offline uses the browser's own switch.
func (b *tab) offline(on bool) {
	b.t.Helper()
	conditions := cdp.Command[network.OverrideNetworkStateParams, cdp.Empty]{Method: "Network.emulateNetworkConditions"}
	b.within(func(ctx context.Context) error {
		if _, err := chromedp.Call(ctx, network.Enable, network.EnableParams{}); err != nil {
			return err
		}
		_, err := chromedp.Call(ctx, conditions, network.OverrideNetworkStateParams{Offline: on, DownloadThroughput: -1, UploadThroughput: -1})
		return err
	})
}

// stored returns how many tasks of the outbox there are.
func (s *site) stored() int {
	s.t.Helper()
	page, err := s.client.List(s.t.Context(), client.Query{Filter: client.Filter{Action: "echo"}, Limit: 200})
	if err != nil {
		s.t.Fatal(err)
	}
	return len(page.Tasks)
}

// TestAPageInChromium uses the modules in a browser, from a site with two nodes and a balancer behind it.
func TestAPageInChromium(t *testing.T) {
	t.Parallel()
	s := openSite(t)
	for _, test := range []struct {
		name string
		run  func(s *site, t *testing.T)
	}{
		{"runs, enqueues, watches and cancels", (*site).uses},
		{"watches on when each node is killed", (*site).survives},
		{"sends once what two tabs kept offline", (*site).keeps},
		{"keeps only so much", (*site).refuses},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(s, t) })
	}
}

func (s *site) uses(t *testing.T) {
	b := s.open(t, servePages(t, s.front))
	b.want(`posta.run("upper", "mañana")`, `"MAÑANA"`)
	b.want(`posta.enqueue("upper", "hola").then(follow).then(() => seen)`, `["queued","running","done"]`)
	b.want(`posta.enqueue("upper", "hola", { delay: 3600 }).then((task) => posta.cancel(task))`, `"cancelled"`)
	b.want(`posta.run("nope").catch((error) => error.code)`, `"action_failed"`)
	b.want(`states`, `["socket"]`)
	if got := b.eval(`performance.getEntriesByType("resource").map(({ name }) => name)`); strings.Contains(got, token) {
		t.Errorf("the token is in an address: %s", got)
	}
}

func (s *site) survives(t *testing.T) {
	b := s.open(t, servePages(t, s.front))
	b.eval(`posta.enqueue("upper", "hola", { delay: 3600 }).then((task) => { window.task = task.task; follow(task).then(() => { window.over = true }); })`)
	b.until(`window.seen?.length === 1`)
	for i := range s.nodes {
		s.nodes[i].Kill(t)
		b.want(`posta.run("upper", "hola", { idempotent: true })`, `"HOLA"`)
		s.nodes[i] = s.start[i]()
	}
	id := strings.Trim(b.eval(`task`), `"`)
	testenv.Eventually(t, patience, func() error {
		_, err := s.client.Retry(t.Context(), id)
		return err
	})
	b.until(`window.over`)
	b.want(`seen`, `["scheduled","queued","running","done"]`)
}

func (s *site) keeps(t *testing.T) {
	origin := servePages(t, s.front)
	one, two := s.open(t, origin), s.open(t, origin)
	for _, b := range []*tab{one, two} {
		b.offline(true)
		b.until(`!navigator.onLine`)
	}
	for _, text := range []string{"one", "two", "three"} {
		one.eval(`box.add("echo", "` + text + `")`)
	}
	two.eval(`box.add("echo", "four")`)
	two.eval(`box.add("echo", "five", { queue: "Not A Queue" })`)
	one.want(`box.list().then((list) => list.map(({ payload }) => payload))`, `["one","two","three","four","five"]`)
	one.want(`fetch("/pass", { method: "POST" }).catch((error) => error.name)`, `"TypeError"`)
	one.want(`sent`, `[]`)
	if n := s.stored(); n != 0 {
		t.Fatalf("%d tasks are stored while the page is offline", n)
	}
	for _, b := range []*tab{one, two} {
		b.offline(false)
	}
	for _, b := range []*tab{one, two} {
		b.until(`navigator.onLine`)
		b.eval(`box.flush()`)
		b.eval(`box.flush()`)
	}
	one.want(`box.list().then((list) => list.map(({ payload, refused }) => [payload, refused.code]))`, `[["five","invalid_request"]]`)
	if n := s.stored(); n != 4 {
		t.Errorf("%d tasks are stored, want 4", n)
	}
	answers := one.eval(`sent`) + two.eval(`sent`)
	if strings.Count(answers, `"task"`) != 4 || strings.Contains(answers, "duplicate") {
		t.Errorf("the answers were %s", answers)
	}
	if got := one.eval(`refused`) + two.eval(`refused`); strings.Count(got, "invalid_request") != 1 {
		t.Errorf("the refusals were %s", got)
	}
	one.eval(`box.list().then(([entry]) => box.remove(entry.options.key))`)
	two.want(`box.list()`, `[]`)
}

func (s *site) refuses(t *testing.T) {
	b := s.open(t, servePages(t, s.front))
	b.offline(true)
	b.want(`box.add("echo", "x".repeat(6 << 20)).catch((error) => error.name)`, `"RangeError"`)
	b.want(`(async () => { for (let i = 0; i < 501; i++) await box.add("echo", i); })().catch((error) => error.name)`, `"RangeError"`)
	b.want(`box.list().then((list) => list.length)`, `500`)
}
