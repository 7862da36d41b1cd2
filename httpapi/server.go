// Package httpapi is the door for HTTP: a table of routes, the guard in front of
// them, problem documents for what is refused, and the pages of the dashboard.
//
// A route is a method and a path with its handler. An endpoint is a path with all its
// methods. The guard checks the host, the origin, the token and the type of each request.
// A problem is a refusal as RFC 9457 renders it, with the same code as on the line
// protocol.
//
// Package wire parses bodies, executor runs direct tasks, and service answers requests
// for durable tasks. The node passes in the function that serves a WebSocket, the metrics,
// and whether it is ready.
package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/dashboard"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/service"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/worker"
)

// Config configures a Server.
type Config struct {
	// Executor runs the tasks; it is required.
	Executor *executor.Executor
	// Durable is the engine for durable tasks; nil: there is no store, and durable routes are unavailable.
	Durable *durable.Engine
	// Workers are the workers of this process; nil: the node takes no workers.
	Workers *worker.Pool
	// Lines serves a connection of the line protocol and returns at its end. who is the client if it has
	// authenticated. nil: there are no WebSockets.
	Lines func(conn net.Conn, who *auth.Identity)
	// Tokens has the bearer tokens of clients; nil: there is no token file.
	Tokens *auth.Tokens
	// Keys checks keys and passes; nil: there are none. Without Tokens, and if the keys are not required, clients need no
	// token.
	Keys *auth.Keyring
	// Limits has the limits of bodies, times and waits; zero fields mean their defaults.
	Limits task.Limits
	// Budget limits the memory that clients use; nil: a budget of its own.
	Budget *task.Budget
	// Logger gets the messages of net/http about broken requests; nil: no logs.
	Logger *slog.Logger
	// Node and Version are shown on the page at /.
	Node, Version string
	// AllowedHosts are names without a port under which clients may call this node, beside the loopback names and
	// the address that they connect to. A name that begins with a dot is a suffix: ".example" allows example and
	// all names below it.
	AllowedHosts []string
	// AllowOrigins are the origins of web pages elsewhere that may use the API, such as https://app.example. They send
	// their tokens themselves; cookies are not theirs.
	AllowOrigins []string
	// Ready returns why the node should get no new work, or nil. The answer has the code of the error, if it has
	// one. If Ready is nil, the node is always ready.
	Ready func() error
	// Metrics answers /metrics; nil: it is unavailable.
	Metrics http.Handler
	// History is where the dashboard keeps counters over time, shared by the nodes of a process; nil: one of its own.
	History *dashboard.History
}

// Server answers HTTP requests. It is safe for concurrent use. Serve serves a connection. As an http.Handler,
// Server can also run in another http.Server, which must then limit headers and times itself.
type Server struct {
	config    Config
	service   *service.Service // nil: there is no store
	workers   *service.Workers // nil: the node takes no workers
	limits    task.Limits
	verifier  auth.Verifier
	anonymous *auth.Identity // of all clients when there are no tokens
	hosts     map[string]bool
	suffixes  []string // the allowed suffixes, with their dots
	origins   *http.CrossOriginProtection
	allowed   map[string]bool // Config.AllowOrigins
	mux       *http.ServeMux
	index     string
	pages     *dashboard.Dashboard
	started   time.Time

	description []byte // the OpenAPI document

	http  *http.Server
	feed  *feed
	start sync.Once

	draining atomic.Bool
	probed   atomic.Bool     // /healthz or /readyz was requested
	closing  context.Context // ends when Close begins
	close    context.CancelFunc
	counters counters
}

// New returns a Server. It refuses a Config without an Executor, limits out of range, and invalid hosts.
func New(config Config) (*Server, error) {
	if config.Executor == nil {
		return nil, errors.New("httpapi: Config.Executor is missing")
	}
	limits, err := config.Limits.WithDefaults()
	if err != nil {
		return nil, fmt.Errorf("httpapi: %w", err)
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.Budget == nil {
		config.Budget = task.NewBudget(limits.BufferedBytes)
	}
	s := &Server{config: config, limits: limits, anonymous: auth.Open(), verifier: auth.Verifier{Tokens: config.Tokens, Keys: config.Keys}, hosts: map[string]bool{}, feed: newFeed(), counters: newCounters()}
	if config.Durable != nil {
		s.service = service.New(config.Durable)
	}
	if config.Workers != nil {
		s.workers = &service.Workers{Pool: config.Workers, Engine: config.Durable, Node: config.Node}
	}
	s.closing, s.close = context.WithCancel(context.Background())
	s.origins = http.NewCrossOriginProtection()
	for _, host := range config.AllowedHosts {
		name, ok := hostName(host)
		if !ok || strings.ContainsAny(name, "/*@, ") || strings.HasPrefix(name, "..") {
			return nil, fmt.Errorf("httpapi: allowed host %q is not a host name or address, such as tasks.example", host)
		}
		if strings.HasPrefix(name, ".") {
			s.suffixes = append(s.suffixes, name)
			continue
		}
		s.hosts[name] = true
	}
	s.allowed = make(map[string]bool, len(config.AllowOrigins))
	for _, text := range config.AllowOrigins {
		origin, err := checkedOrigin(text)
		if err != nil {
			return nil, err
		}
		s.allowed[origin] = true
	}
	s.mux = s.routes()
	s.index = s.indexPage()
	if s.description, err = describe(config.Version); err != nil {
		return nil, err
	}
	s.started = time.Now()
	if s.pages, err = s.newPages(); err != nil {
		return nil, fmt.Errorf("httpapi: %w", err)
	}
	s.http = s.HTTPServer()
	return s, nil
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.counters.requests.Add(1)
	s.counters.running.Add(1)
	defer s.counters.running.Add(-1)
	s.prepare(w, r)
	if refusal := connectionOf(r).onlyChecks(r); refusal != nil {
		s.refuse(w, r, refusal)
		return
	}
	if p := r.URL.Path; !strings.HasPrefix(p, "/") || path.Clean(p) != p {
		(&endpoint{server: s}).ServeHTTP(w, r) // without redirects to a similar path
		return
	}
	if s.isPage(r) {
		s.servePage(w, r)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// prepare sets what every answer needs: the headers that prevent sniffing, framing and caching, and the deadlines
// of the connection, which may still be those of the request before.
func (s *Server) prepare(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Referrer-Policy", "no-referrer")
	conn := connectionOf(r)
	mayHide, endsWithAnswer := conn.mayHide(r), conn.endsWithAnswer()
	if s.verifier.IsOpen() {
		conn.know() // there is no authentication
	}
	if s.draining.Load() || mayHide || endsWithAnswer {
		header.Set("Connection", "close")
	}
	// Another server, or a recorder in a test, may not support deadlines.
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(s.limits.WriteTimeout))
	if r.ContentLength != 0 {
		_ = control.SetReadDeadline(time.Now().Add(s.limits.LineTimeout))
	}
}

// write sends a whole answer within the write timeout.
func (s *Server) write(w http.ResponseWriter, status int, contentType string, body []byte) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.limits.WriteTimeout))
	if s.draining.Load() { // it may have begun after the request
		w.Header().Set("Connection", "close")
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that has disconnected needs no answer
}
