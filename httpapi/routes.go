package httpapi

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/posta-tasks/posta/task"
)

// route is one row of the table: what is answered at a method and a path.
type route struct {
	method, path string
	handle       func(s *Server, w http.ResponseWriter, r *http.Request) *task.Error
	health       bool // answered without a token, and to HTTP/1.0 clients that send no Host
	json         bool // takes a JSON body
	about        string
}

// table lists the routes in the order in which the page at / shows them. Paths
// are patterns of http.ServeMux.
func table() []route {
	return []route{
		{method: "POST", path: "/v1/run", handle: (*Server).run, json: true, about: "run a task now and answer with its result"},
		{method: "GET", path: "/healthz", handle: (*Server).healthz, health: true, about: "200 as long as the node lives"},
		{method: "GET", path: "/readyz", handle: (*Server).readyz, health: true, about: "200 while the node should get work, else 503 with the reason"},
		{method: "GET", path: "/metrics", handle: (*Server).metrics, about: "what the node counts, for Prometheus"},
		{method: "GET", path: "/{$}", handle: (*Server).page, about: "this page"},

		{method: "POST", path: "/v1/tasks", handle: (*Server).durable},
		{method: "GET", path: "/v1/tasks", handle: (*Server).durable},
		{method: "GET", path: "/v1/tasks/{task}", handle: (*Server).durable},
		{method: "GET", path: "/v1/tasks/{task}/events", handle: (*Server).durable},
		{method: "GET", path: "/v1/tasks/{task}/payload", handle: (*Server).durable},
		{method: "GET", path: "/v1/tasks/{task}/result", handle: (*Server).durable},
		{method: "POST", path: "/v1/tasks/{task}/cancel", handle: (*Server).durable},
		{method: "POST", path: "/v1/tasks/{task}/retry", handle: (*Server).durable},
		{method: "PUT", path: "/v1/blobs", handle: (*Server).durable},
		{method: "GET", path: "/v1/queues", handle: (*Server).durable},
		{method: "POST", path: "/v1/queues/{queue}/pause", handle: (*Server).durable},
		{method: "POST", path: "/v1/queues/{queue}/resume", handle: (*Server).durable},
		{method: "GET", path: "/v1/nodes", handle: (*Server).durable},
	}
}

// endpoint is a path with its routes, one a method. The one without routes
// answers wherever nothing is.
type endpoint struct {
	server *Server
	routes []route
}

// routes builds the endpoints from the table.
func (s *Server) routes() *http.ServeMux {
	byPath := map[string]*endpoint{"/": {server: s}}
	for _, r := range table() {
		if byPath[r.path] == nil {
			byPath[r.path] = &endpoint{server: s}
		}
		byPath[r.path].routes = append(byPath[r.path].routes, r)
	}
	mux := http.NewServeMux()
	for path, e := range byPath {
		mux.Handle(path, e)
	}
	return mux
}

// ServeHTTP lets the guard look at the request and hands it to its route.
func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := e.server
	route := e.find(r.Method)
	health := len(e.routes) > 0 && e.routes[0].health
	if err := s.checkSender(r, health); err != nil {
		s.refuse(w, r, err)
		return
	}
	switch {
	case len(e.routes) == 0:
		s.refuse(w, r, task.Refuse(task.NotFound, "nothing is at %s; GET / lists what there is", clip(r.URL.Path)))
		return
	case route == nil:
		w.Header().Set("Allow", e.allow())
		err := task.Refuse(task.InvalidRequest, "%s has no method %s; it has %s", clip(r.URL.Path), clip(r.Method), e.allow())
		s.problem(w, r, http.StatusMethodNotAllowed, err)
		return
	}
	if !route.health {
		if err := s.checkToken(w, r); err != nil {
			s.refuse(w, r, err)
			return
		}
	}
	if route.json {
		if err := checkType(r); err != nil {
			w.Header().Set("Accept", "application/json")
			s.problem(w, r, http.StatusUnsupportedMediaType, err)
			return
		}
	}
	if err := route.handle(s, w, r); err != nil {
		s.refuse(w, r, err)
	}
}

// find gives the method's route, or nil. HEAD is GET of which net/http sends no body.
func (e *endpoint) find(method string) *route {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	i := slices.IndexFunc(e.routes, func(r route) bool { return r.method == method })
	if i < 0 {
		return nil
	}
	return &e.routes[i]
}

// allow lists the methods as the Allow header does.
func (e *endpoint) allow() string {
	var methods []string
	for _, r := range e.routes {
		methods = append(methods, r.method)
		if r.method == http.MethodGet {
			methods = append(methods, http.MethodHead)
		}
	}
	return strings.Join(methods, ", ")
}

// indexPage is the text at /, until the dashboard takes its place.
func (s *Server) indexPage() string {
	var text strings.Builder
	fmt.Fprintf(&text, "Posta %s, node %s\n\n", s.config.Version, s.config.Node)
	for _, r := range table() {
		if r.about != "" {
			fmt.Fprintf(&text, "%-5s %-10s %s\n", r.method, strings.TrimSuffix(r.path, "{$}"), r.about)
		}
	}
	text.WriteString("\nThe same port speaks JSON lines: {\"id\":1,\"action\":\"upper\",\"payload\":\"hola\"}\n")
	return text.String()
}

// clip shortens what a client sent, for an error message.
func clip(text string) string {
	const most = 64
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
