package browser_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/internal/chromium"
	"github.com/posta-tasks/posta/internal/testenv"
)

const token = "correct-horse-battery"

// site is a web site with Posta behind it: two nodes that share a store, a balancer, and a server of pages in front.
type site struct {
	t      *testing.T
	front  string // the address of the balancer
	master string // the file with the master secret
	client *client.Client
	start  [2]func() *testenv.Process
	nodes  [2]*testenv.Process
}

func openSite(t *testing.T) *site {
	t.Helper()
	chromium.Need(t)
	s := &site{t: t}
	folder := t.TempDir()
	tokens := filepath.Join(folder, "tokens")
	s.master = filepath.Join(folder, "master.key")
	for file, text := range map[string]string{
		tokens:   "page " + token + " run:* enqueue:* see:own cancel:own\nadmin admin-" + token + "\n",
		s.master: rand.Text() + rand.Text(),
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	stored := testenv.StartPostgres(t)
	front := testenv.FreeAddr(t)
	arguments := []string{"balancer", "run", "--listen", front}
	for i := range s.nodes {
		addr := testenv.FreeAddr(t)
		s.start[i] = func() *testenv.Process {
			return testenv.Node(t, addr, "--token-file", tokens, "--master-key-file", s.master, "--drain-delay", "0s", "--store", stored.URL())
		}
		s.nodes[i] = s.start[i]()
		arguments = append(arguments, "--node", addr)
	}
	testenv.Start(t, testenv.Posta(t), arguments...)
	testenv.Eventually(t, chromium.Patience, testenv.Accepts(front))
	s.front = front
	var err error
	if s.client, err = client.New(client.Config{Addr: front, Token: "admin-" + token}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.client.Close() })
	return s
}

// servePages serves the pages of the tests, and passes the rest on to Posta as docs/web.md says. The pages get the token of
// the file.
func servePages(t *testing.T, front string) (origin string) {
	t.Helper()
	return servePagesWith(t, front, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, token) })
}

func servePagesWith(t *testing.T, front string, pass http.HandlerFunc) (origin string) {
	t.Helper()
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: front})
		r.Out.Host = r.In.Host
	}}
	mux := http.NewServeMux()
	mux.Handle("/v1/", proxy)
	mux.Handle("/posta.js", proxy)
	mux.Handle("/posta-outbox.js", proxy)
	mux.HandleFunc("POST /pass", pass)
	mux.Handle("/", http.FileServer(http.Dir("test/pages")))
	server := httptest.NewServer(mux)
	t.Cleanup(server.CloseClientConnections)
	return server.URL
}

func TestMain(m *testing.M) {
	defer chromium.Stop()
	m.Run()
}

// open opens a tab with the page of the tests.
func open(t *testing.T, origin string) *chromium.Tab {
	t.Helper()
	return load(chromium.Open(t, chromium.Desktop()), origin)
}

func load(b *chromium.Tab, origin string) *chromium.Tab {
	b.Visit(origin + "/")
	b.Until("window.ready")
	return b
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
		{"watches on when its pass ends", (*site).renews},
		{"sends once what two tabs kept offline", (*site).keeps},
		{"keeps only so much", (*site).refuses},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(s, t) })
	}
}

func (s *site) uses(t *testing.T) {
	b := open(t, servePages(t, s.front))
	b.Want(`posta.run("upper", "mañana")`, `"MAÑANA"`)
	b.Want(`posta.enqueue("upper", "hola").then(follow).then(() => seen)`, `["queued","running","done"]`)
	b.Want(`posta.enqueue("upper", "hola", { delay: 3600 }).then((task) => posta.cancel(task))`, `"cancelled"`)
	b.Want(`posta.run("nope").catch((error) => error.code)`, `"action_failed"`)
	b.Want(`states`, `["socket"]`)
	if got := b.JSON(`performance.getEntriesByType("resource").map(({ name }) => name)`); strings.Contains(got, token) {
		t.Errorf("the token is in an address: %s", got)
	}
}

func (s *site) survives(t *testing.T) {
	b := open(t, servePages(t, s.front))
	b.Allow("WebSocket connection to") // which a node that is killed refuses
	b.Allow("Failed to load resource")
	b.JSON(`posta.enqueue("upper", "hola", { delay: 3600 }).then((task) => { window.task = task.task; follow(task).then(() => { window.over = true }); })`)
	b.Until(`window.seen?.length === 1`)
	for i := range s.nodes {
		s.nodes[i].Kill(t)
		b.Want(`posta.run("upper", "hola", { idempotent: true })`, `"HOLA"`)
		s.nodes[i] = s.start[i]()
	}
	id := strings.Trim(b.JSON(`task`), `"`)
	testenv.Eventually(t, chromium.Patience, func() error {
		_, err := s.client.Retry(t.Context(), id)
		return err
	})
	b.Until(`window.over`)
	b.Want(`seen`, `["scheduled","queued","running","done"]`)
}

// renews has the backend give no other pass before the first one has ended.
func (s *site) renews(t *testing.T) {
	command := exec.Command(testenv.Posta(t), "key", "create", "web", "--role", "submitter", "--json", "--to", s.front, "--master-key-file", s.master)
	out, err := command.Output()
	var key struct {
		ID     string
		Secret string `json:"signing_secret"`
	}
	if err == nil {
		err = json.Unmarshal(out, &key)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	sign := func(w http.ResponseWriter, now time.Time, life time.Duration) {
		pass, refusal := auth.SignPass(key.Secret, key.ID, "posta", "ana", []string{"*"}, now, life)
		if refusal != nil {
			t.Error(refusal)
		}
		_, _ = io.WriteString(w, pass)
	}
	const life = 2 * time.Second
	var signed atomic.Int32
	var end time.Time // of the first pass
	b := open(t, servePagesWith(t, s.front, func(w http.ResponseWriter, _ *http.Request) {
		now := time.Now()
		switch {
		case signed.Load() == 0:
			end = now.Add(life).Truncate(time.Second) // as a JWT has it
			sign(w, now, life)
		case now.Before(end):
			http.Error(w, "not now", http.StatusServiceUnavailable)
			return
		default:
			sign(w, now, time.Hour)
		}
		signed.Add(1)
	}))
	b.Allow("status of 503")
	id := strings.Trim(b.JSON(`posta.enqueue("upper", "hola", { delay: 3600 }).then((task) => {
		follow(task).then(() => { window.over = true });
		return task.task;
	})`), `"`)
	b.Until(`window.seen?.length === 1`)
	testenv.Eventually(t, chromium.Patience, func() error {
		if n := signed.Load(); n < 2 {
			return fmt.Errorf("the page has asked for %d passes", n)
		}
		return nil
	})
	if _, err := s.client.Retry(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	b.Until(`window.over`)
	b.Want(`seen`, `["scheduled","queued","running","done"]`)
	b.Want(`posta.run("upper", "hola")`, `"HOLA"`)
}

func (s *site) keeps(t *testing.T) {
	origin := servePages(t, s.front)
	one := open(t, origin)
	two := load(one.Beside(chromium.Desktop()), origin)
	for _, b := range []*chromium.Tab{one, two} {
		b.Offline(true)
	}
	for _, text := range []string{"one", "two", "three"} {
		one.JSON(`box.add("echo", "` + text + `")`)
	}
	two.JSON(`box.add("echo", "four")`)
	two.JSON(`box.add("echo", "five", { queue: "Not A Queue" })`)
	one.Want(`box.list().then((list) => list.map(({ payload }) => payload))`, `["one","two","three","four","five"]`)
	one.Want(`fetch("/pass", { method: "POST" }).catch((error) => error.name)`, `"TypeError"`)
	one.Want(`sent`, `[]`)
	if n := s.stored(); n != 0 {
		t.Fatalf("%d tasks are stored while the page is offline", n)
	}
	for _, b := range []*chromium.Tab{one, two} {
		b.Offline(false)
	}
	for _, b := range []*chromium.Tab{one, two} {
		b.JSON(`box.flush()`)
		b.JSON(`box.flush()`)
	}
	one.Want(`box.list().then((list) => list.map(({ payload, refused }) => [payload, refused.code]))`, `[["five","invalid_request"]]`)
	if n := s.stored(); n != 4 {
		t.Errorf("%d tasks are stored, want 4", n)
	}
	answers := one.JSON(`sent`) + two.JSON(`sent`)
	if strings.Count(answers, `"task"`) != 4 || strings.Contains(answers, "duplicate") {
		t.Errorf("the answers were %s", answers)
	}
	if got := one.JSON(`refused`) + two.JSON(`refused`); strings.Count(got, "invalid_request") != 1 {
		t.Errorf("the refusals were %s", got)
	}
	one.JSON(`box.list().then(([entry]) => box.remove(entry.options.key))`)
	two.Want(`box.list()`, `[]`)
}

func (s *site) refuses(t *testing.T) {
	b := open(t, servePages(t, s.front))
	b.Offline(true)
	b.Want(`box.add("echo", "x".repeat(6 << 20)).catch((error) => error.name)`, `"RangeError"`)
	b.JSON(`box.add("echo", 1)`)
	// The rest is written at once: add reads all entries each time.
	b.JSON(`new Promise((resolve) => {
		indexedDB.open("posta-outbox").onsuccess = ({ target: { result: db } }) => {
			const transaction = db.transaction("lines", "readwrite");
			transaction.oncomplete = resolve;
			const lines = transaction.objectStore("lines");
			for (let i = 2; i < 500; i++) lines.add(JSON.stringify({ action: "echo", payload: i, options: { key: "key-" + i } }));
		};
	})`)
	b.JSON(`box.add("echo", 500)`)
	b.Want(`box.add("echo", 501).catch((error) => error.name)`, `"RangeError"`)
	b.Want(`box.list().then((list) => list.length)`, `500`)
}
