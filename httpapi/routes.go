package httpapi

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/service"
	"github.com/posta-tasks/posta/task"
)

// route is a row of the table: the handler of a method and a path, with its description for the page at / and for
// the OpenAPI document.
type route struct {
	method, path string
	handle       func(s *Server, w http.ResponseWriter, r *http.Request) *task.Error
	about        string
	health       bool   // answered without a token, and under any Host
	store        bool   // needs a store
	access       access // decides what a client may do; health routes have none
	later        bool   // the token may follow on the connection
	takes        []string
	query        []parameter
	body         string  // the name of the schema of the body; "" without a body
	answers      []reply // the answers besides refusals
}

// reply is an answer of a route.
type reply struct {
	status             int
	kind, schema, what string
}

// table returns the routes in the order of the page at /. Paths are patterns of http.ServeMux.
func table() []route {
	return slices.Concat(directRoutes(), taskRoutes(), bodyRoutes(), queueRoutes(), workerRoutes(), keyRoutes(), auditRoutes(), moduleRoutes(), nodeRoutes())
}

func directRoutes() []route {
	return []route{{
		method: "POST", path: "/v1/run", access: asks, handle: (*Server).run, about: "run a task now and answer with its result",
		takes: []string{jsonType}, body: "Run", answers: []reply{{200, jsonType, "RunReply", "the action ran; result.ok says whether it succeeded"}},
	}, {
		method: "GET", path: "/v1/socket", access: holder, handle: (*Server).socket, later: true, about: "a WebSocket that speaks the line protocol, one object per message",
		answers: []reply{{101, "", "", "the line protocol follows"}},
	}}
}

func taskRoutes() []route {
	changed := []reply{{200, jsonType, "Changed", "the state of the task now"}}
	changedSome := []reply{{200, jsonType, "Reply", "result has the number of changed tasks"}}
	return []route{{
		method: "POST", path: "/v1/tasks", access: asks, handle: (*Server).enqueue, store: true, about: "accept a durable task; as " + ndjson + ", one task per line",
		takes: []string{jsonType, ndjson}, body: "Enqueue", answers: []reply{
			{202, jsonType, "Accepted", "the task is on stable storage; Location says where it is"},
			{200, jsonType, "Accepted", "a task with this key and the same request exists: that task; or, for " + ndjson + ", a line for each line"},
		},
	}, {
		method: "GET", path: "/v1/tasks", access: asks, handle: (*Server).list, store: true, about: "list tasks, newest first",
		query: []parameter{
			{"queue", "string", "of this queue"}, {"action", "string", "of this action"}, {"status", "string", "scheduled, queued, running, done, failed or cancelled"}, {"owner", "string", "enqueued by this owner"},
			{"meta.k", "string", "with the label k"},
			{"since", "string", "created at this time or later, in RFC 3339 form"}, {"until", "string", "created at this time or before"}, {"limit", "integer", "1 to 200, else 50"}, {"cursor", "string", "of the previous page"},
		},
		answers: []reply{{200, jsonType, "TaskList", "a page; without a cursor it is the last"}},
	}, {
		method: "GET", path: "/v1/tasks/{task}", access: asks, handle: (*Server).get, store: true, about: "show a task",
		query:   []parameter{{"wait", "number", "seconds to wait for its end, 0 to 3600"}, {"payload", "boolean", "show the payload, too"}},
		answers: []reply{{200, jsonType, "Task", "the task, finished or not"}},
	}, {
		method: "GET", path: "/v1/tasks/{task}/events", access: asks, handle: (*Server).events, store: true, about: "follow a task: server-sent events",
		query:   []parameter{{"after", "integer", "the number of the last entry that is known; Last-Event-ID has precedence"}},
		answers: []reply{{200, eventStream, "Event", "state, progress, final and refusal, each with a line as its data"}, {204, "", "", "the task is finished, and Last-Event-ID is its last entry"}},
	}, {
		method: "POST", path: "/v1/tasks/{task}/cancel", access: asks, handle: (*Server).cancel, store: true, about: "cancel a task", answers: changed,
	}, {
		method: "POST", path: "/v1/tasks/{task}/retry", access: asks, handle: (*Server).retry, store: true, about: "queue a finished task again", answers: changed,
	}, {
		method: "POST", path: "/v1/tasks/cancel", access: asks, handle: (*Server).cancelSome, store: true, about: "cancel tasks that a filter selects",
		takes: []string{jsonType}, body: "Change", answers: changedSome,
	}, {
		method: "POST", path: "/v1/tasks/retry", access: asks, handle: (*Server).retrySome, store: true, about: "queue finished tasks again that a filter selects",
		takes: []string{jsonType}, body: "Change", answers: changedSome,
	}}
}

func bodyRoutes() []route {
	return []route{{
		method: "GET", path: "/v1/tasks/{task}/payload", access: asks, handle: (*Server).payload, store: true, about: "the payload alone, of any size",
		query:   presign(),
		answers: []reply{{200, jsonType, "Any", "the payload as it was sent; with presign a Signed"}},
	}, {
		method: "GET", path: "/v1/tasks/{task}/result", access: asks, handle: (*Server).outcome, store: true, about: "the result alone, of any size",
		query:   presign(),
		answers: []reply{{200, jsonType, "ResultOrSigned", "the result object of a done task; with presign its URL"}},
	}, {
		method: "PUT", path: "/v1/blobs", access: asks, handle: (*Server).upload, store: true, about: "store a large payload, for payload_blob of a task",
		query: presign(), takes: []string{jsonType}, body: "Any",
		answers: []reply{{200, jsonType, "UploadOrSigned", "the blob, which is kept for a day until its task is enqueued; with presign and no body, the URL for the PUT"}},
	}}
}

func queueRoutes() []route {
	paused := []reply{{200, jsonType, "Paused", "whether the queue is paused now"}}
	return []route{{
		method: "GET", path: "/v1/queues", access: asks, handle: (*Server).queues, store: true, about: "show the queues with their counts",
		answers: []reply{{200, jsonType, "QueueList", "every queue, by name"}},
	}, {
		method: "POST", path: "/v1/queues/{queue}/pause", access: asks, handle: (*Server).pause, store: true, about: "pause a queue", answers: paused,
	}, {
		method: "POST", path: "/v1/queues/{queue}/resume", access: asks, handle: (*Server).resume, store: true, about: "resume a queue", answers: paused,
	}, {
		method: "GET", path: "/v1/nodes", access: asks, handle: (*Server).nodes, store: true, about: "show the nodes that are alive",
		answers: []reply{{200, jsonType, "NodeList", "every node that shares the store, by name"}},
	}}
}

func nodeRoutes() []route {
	return []route{
		{method: "GET", path: "/healthz", handle: (*Server).healthz, health: true, about: "200 as long as the node lives", answers: []reply{{200, plain, "", "it lives"}}},
		{method: "GET", path: "/readyz", handle: (*Server).readyz, health: true, about: "200 while the node should get work, else 503 with the reason", answers: []reply{{200, plain, "", "it should"}}},
		{method: "GET", path: "/metrics", access: overseer, handle: (*Server).metrics, about: "what the node counts, for Prometheus", answers: []reply{{200, plain, "", "the metrics"}}},
		{method: "GET", path: "/openapi.json", access: anyone, handle: (*Server).openAPI, about: "this API as an OpenAPI document", answers: []reply{{200, jsonType, "Any", "the document"}}},
		{method: "GET", path: "/{$}", access: anyone, handle: (*Server).page, about: "this page", answers: []reply{{200, plain, "", "the page"}}},
	}
}

// endpoint is a path with its routes, one for each method. The endpoint without routes answers for all other paths.
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

// ServeHTTP checks the request and calls the handler of its route.
func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := e.server
	route := e.find(r.Method)
	health := len(e.routes) > 0 && e.routes[0].health
	origin := s.foreignOrigin(r)
	s.share(w, origin)
	if err := s.checkSender(r, health, origin != ""); err != nil {
		s.refuse(w, r, err)
		return
	}
	switch {
	case origin != "" && len(e.routes) > 0 && isPreflight(r):
		e.preflight(w, r)
		return
	case len(e.routes) == 0:
		s.refuse(w, r, task.Refuse(task.NotFound, "nothing is at %s; GET / lists what there is", clip(r.URL.Path)))
		return
	case route == nil:
		w.Header().Set("Allow", e.allow())
		err := task.Refuse(task.InvalidRequest, "%s has no method %s; it has %s", clip(r.URL.Path), clip(r.Method), e.allow())
		s.problem(w, r, http.StatusMethodNotAllowed, err)
		return
	}
	if !route.health && route.access != everybody {
		who, err := s.checkToken(w, r, route.later)
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		if who != nil {
			ctx, release := s.bind(r.Context(), who)
			defer release()
			r = r.WithContext(ctx)
		}
		if refusal := route.permit(who); refusal != nil {
			s.refuse(w, r, refusal)
			return
		}
	}
	if route.store && s.config.Durable == nil {
		s.refuse(w, r, refuseStore())
		return
	}
	if len(route.takes) > 0 {
		if err := route.checkType(r); err != nil {
			w.Header().Set("Accept", strings.Join(route.takes, ", "))
			s.problem(w, r, http.StatusUnsupportedMediaType, err)
			return
		}
	}
	if err := route.answer(s, w, r); err != nil {
		s.refuse(w, r, err)
	}
}

// identityOf returns the client of a request; nil if it may still present its token on the connection.
func identityOf(r *http.Request) *auth.Identity { return auth.FromContext(r.Context()) }

// access is how a route decides what a client may do.
type access uint8

// A route without a value is answered to nobody.
const (
	nobody    access = iota
	everybody        // also clients without a token: what the route shows is public
	anyone           // every client that has authenticated: what the route shows is no secret
	asks             // the service decides, from the task or the queue
	overseer         // who may see the whole system
	manager          // who may manage the whole system
	minter           // who may mint passes
	auditor          // who may read the audit
	holder           // the line door decides, for each line
)

// permit refuses a client that may not use the route.
func (e *route) permit(client *auth.Identity) *task.Error {
	switch e.access {
	case anyone, asks, holder:
		return nil
	case overseer:
		return service.May(client, auth.See)
	case manager:
		return service.May(client, auth.Manage)
	case minter:
		return service.May(client, auth.Mint)
	case auditor:
		return service.May(client, auth.Audit)
	}
	return task.Refuse(task.Forbidden, "the route %s is not open to clients", e.path)
}

// refuseStore refuses what needs a store.
func refuseStore() *task.Error {
	return task.Refuse(task.Unavailable, "this node has no store, so it keeps no tasks; it runs them at POST /v1/run")
}

// answer checks the query and calls the handler. The query of a health check is not checked.
func (e *route) answer(s *Server, w http.ResponseWriter, r *http.Request) *task.Error {
	if strings.HasPrefix(e.path, "/v1/") {
		if err := e.checkQuery(r); err != nil {
			return err
		}
	}
	return e.handle(s, w, r)
}

// find returns the route of the method, or nil. HEAD uses the route of GET, and net/http omits the body.
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

// allow returns the methods for the Allow header.
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

// indexPage is the text at / for programs; browsers get the dashboard.
func (s *Server) indexPage() string {
	var text strings.Builder
	fmt.Fprintf(&text, "Posta %s, node %s\n\n", s.config.Version, s.config.Node)
	for _, r := range table() {
		fmt.Fprintf(&text, "%-5s %-26s %s\n", r.method, strings.TrimSuffix(r.path, "{$}"), r.about)
	}
	text.WriteString("\nThe same port speaks JSON lines: {\"id\":1,\"action\":\"upper\",\"payload\":\"hola\"}\n")
	return text.String()
}

// clip shortens text of a client for an error message.
func clip(text string) string {
	const most = 64
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
