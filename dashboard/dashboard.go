// Package dashboard serves the web pages of a node: server-rendered HTML, its own style and script, and a stream
// that says once a second what has changed. The pages work without JavaScript, and load nothing from other servers.
//
// A page is a path with a template and the function that collects its data. All data comes from a Source, which
// the HTTP door implements with the same calls as its own routes. Texts are in the catalogues in texts/, one for
// each language. All links are relative, so that the pages also work behind a proxy that cuts a prefix off the path.
package dashboard

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/posta-tasks/posta/task"
)

// Config configures a Dashboard.
type Config struct {
	Source  Source   // required
	History *History // the counters over time, shared by the nodes of a process; required
	// Counters returns the counters of this node; required.
	Counters func() Counters
	Visitor  Visitor // who the client is; the zero value: everybody is admitted
	// Node and Version are shown; Cluster is the name in the top bar, or "posta".
	Node, Version, Cluster string
	Logger                 *slog.Logger // nil: no logs
	Now                    func() time.Time
}

// Visitor has what the dashboard needs to know about clients.
type Visitor struct {
	// Name returns who sent a request, and whether the client may see the pages. nil: everybody may, without a name.
	Name func(r *http.Request) (name string, ok bool)
	// Login reports whether a token is known, and is called with what the login form has sent. nil: there is nothing
	// to log in with.
	Login func(token string) bool
}

// Dashboard serves the pages. It is safe for concurrent use.
type Dashboard struct {
	config    Config
	languages []*language
	pages     map[string]map[string]*view // by language and page
	assets    *assets
	mux       *http.ServeMux
	live      *live
}

// New returns a Dashboard.
func New(config Config) (*Dashboard, error) {
	if config.Source == nil || config.History == nil || config.Counters == nil {
		return nil, errors.New("dashboard: Config.Source, History or Counters is missing")
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.Cluster == "" {
		config.Cluster = "posta"
	}
	d := &Dashboard{config: config}
	var err error
	if d.languages, err = readLanguages(); err != nil {
		return nil, err
	}
	if d.assets, err = readAssets(); err != nil {
		return nil, err
	}
	if d.pages, err = parsePages(d.languages); err != nil {
		return nil, err
	}
	d.live = newLive(&d.config)
	d.mux = d.routes()
	return d, nil
}

// Run feeds the open pages until ctx ends.
func (d *Dashboard) Run(ctx context.Context) { d.live.run(ctx) }

// Close ends the streams of the open pages.
func (d *Dashboard) Close() { d.live.close() }

// route is a row of the table of paths.
type route struct {
	pattern string // of http.ServeMux
	depth   int    // the number of slashes in the path, less one
	open    bool   // answered without a login
	handle  func(d *Dashboard, q *request) *task.Error
}

func table() []route {
	return []route{
		{"GET /{$}", 0, false, (*Dashboard).overview},
		{"GET /tasks", 0, false, (*Dashboard).tasks},
		{"GET /tasks/export", 1, false, (*Dashboard).export},
		{"POST /tasks/preview", 1, false, (*Dashboard).preview},
		{"POST /tasks/change", 1, false, (*Dashboard).changeTasks},
		{"GET /operations", 0, false, (*Dashboard).operations},
		{"GET /operations/{operation}", 1, false, (*Dashboard).operation},
		{"POST /operations/{operation}/stop", 2, false, (*Dashboard).stopOperation},
		{"GET /tasks/{task}", 1, false, (*Dashboard).task},
		{"GET /tasks/{task}/payload", 2, false, body("payload")},
		{"GET /tasks/{task}/result", 2, false, body("result")},
		{"POST /tasks/{task}/cancel", 2, false, (*Dashboard).cancel},
		{"POST /tasks/{task}/retry", 2, false, (*Dashboard).retry},
		{"GET /failures", 0, false, (*Dashboard).failures},
		{"GET /queues", 0, false, (*Dashboard).queues},
		{"POST /queues/{queue}/pause", 2, false, setPaused(true)},
		{"POST /queues/{queue}/resume", 2, false, setPaused(false)},
		{"GET /nodes", 0, false, (*Dashboard).nodes},
		{"POST /workers/{worker}/quiet", 2, false, (*Dashboard).quiet},
		{"GET /try", 0, false, (*Dashboard).try},
		{"POST /try", 0, false, (*Dashboard).send},
		{"GET /settings", 0, false, (*Dashboard).settings},
		{"POST /settings/keys", 1, false, (*Dashboard).createKey},
		{"POST /settings/keys/{id}/revoke", 3, false, (*Dashboard).revokeKey},
		{"POST /preferences", 0, true, (*Dashboard).setPreferences},
		{"GET /login", 0, true, (*Dashboard).loginPage},
		{"POST /login", 0, true, (*Dashboard).login},
		{"POST /logout", 0, true, (*Dashboard).logout},
		{"GET /live", 0, false, (*Dashboard).stream},
		{"GET /favicon.ico", 0, true, (*Dashboard).favicon},
		{"GET /assets/{version}/{name}", 2, true, (*Dashboard).asset},
	}
}

// Has reports whether a path is one of the dashboard. The page at / and pages that do not exist are not among them.
func Has(path string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch first {
	case "tasks", "operations", "failures", "queues", "nodes", "workers", "try", "settings", "preferences", "login", "logout", "live", "favicon.ico", "assets":
		return true
	}
	return false
}

// routes builds the mux from the table. Unsafe requests of pages of other origins are refused.
func (d *Dashboard) routes() *http.ServeMux {
	mux := http.NewServeMux()
	for _, e := range table() {
		mux.HandleFunc(e.pattern, func(w http.ResponseWriter, r *http.Request) { d.answer(w, r, &e) })
	}
	missing := route{open: true, handle: func(_ *Dashboard, q *request) *task.Error {
		q.depth = max(0, strings.Count(q.r.URL.Path, "/")-1)
		return task.Refuse(task.NotFound, "%s", q.lang.text("missing.page"))
	}}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { d.answer(w, r, &missing) })
	return mux
}

// policy is the Content-Security-Policy of every page.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; " +
	"frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'"

// formBytes is the largest form: a payload of a line, with every character escaped.
const formBytes = 3*task.DefaultLine + 64<<10

// ServeHTTP answers one request.
func (d *Dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Security-Policy", policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Cache-Control", "no-store")
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	if r.Body != nil {
		r.Body = http.MaxBytesReader(w, r.Body, formBytes)
	}
	d.mux.ServeHTTP(w, r)
}

// answer calls the handler of a route for a client that may see it. A refusal becomes a page.
func (d *Dashboard) answer(w http.ResponseWriter, r *http.Request, e *route) {
	q := d.newRequest(w, r, e.depth)
	if !e.open && !q.in {
		q.redirect("login" + queryOf("back", q.path()))
		return
	}
	if refusal := e.handle(d, q); refusal != nil {
		d.refuse(q, refusal)
	}
}
