package httpapi

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/dashboard"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/service"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// isPage reports whether the dashboard answers a request: one for a page, or a browser's for a path that nothing else is
// at. Programs get the list of routes at /.
func (s *Server) isPage(r *http.Request) bool {
	path := r.URL.Path
	if dashboard.Has(path) {
		return true
	}
	return isBrowser(r) && !strings.HasPrefix(path, "/v1/") && (path == "/" || !s.hasRoute(r))
}

func isBrowser(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && strings.Contains(r.Header.Get("Accept"), "text/html")
}

// hasRoute reports whether a request is for a path in the table of routes.
func (s *Server) hasRoute(r *http.Request) bool {
	_, pattern := s.mux.Handler(r)
	return pattern != "/"
}

// servePage answers with a page of the dashboard, which has a login of its own.
func (s *Server) servePage(w http.ResponseWriter, r *http.Request) {
	if refusal := s.checkSender(r, false, false); refusal != nil {
		s.refuse(w, r, refusal)
		return
	}
	if who := s.visitor(w, r); who != nil {
		ctx, release := s.bind(r.Context(), who)
		defer release()
		r = r.WithContext(ctx)
	}
	s.pages.ServeHTTP(w, r)
}

// visitor returns who has sent a request for a page, by its bearer token, its cookie, or its certificate; nil if nobody
// has authenticated although the node asks for it.
func (s *Server) visitor(w http.ResponseWriter, r *http.Request) *auth.Identity {
	who, refusal := s.checkToken(w, r, true)
	if refusal != nil {
		w.Header().Del("WWW-Authenticate") // the page has a form
		return nil
	}
	return who
}

// newPages returns the dashboard of the server.
func (s *Server) newPages() (*dashboard.Dashboard, error) {
	history := s.config.History
	if history == nil {
		history = dashboard.NewHistory()
	}
	return dashboard.New(dashboard.Config{
		Source: &pageSource{s}, History: history, Counters: s.pageCounters, Node: s.config.Node, Version: s.config.Version, Logger: s.config.Logger,
		Visitor: dashboard.Visitor{
			Name: func(r *http.Request) (string, bool) {
				who := auth.FromContext(r.Context())
				if who == nil {
					return "", false
				}
				if who.Name == auth.Anonymous {
					return "", true
				}
				return who.Name, true
			},
			Login: func(token string) bool { return s.verifier.Check(s.closing, []byte(token)) != nil },
		},
	})
}

// RunPages feeds the open pages of the dashboard until ctx ends.
func (s *Server) RunPages(ctx context.Context) { s.pages.Run(ctx) }

// pageCounters returns what the node has counted since its start.
func (s *Server) pageCounters() dashboard.Counters {
	pool := s.config.Executor.Stats()
	c := dashboard.Counters{
		Started: s.started, RunBounds: pool.Bounds, Runs: make([]int64, len(pool.Bounds)+1), Actions: map[string]dashboard.ActionCount{},
		Slots: pool.Slots, Busy: pool.SlotsBusy, Waiting: pool.Waiting, Stuck: pool.Stuck,
	}
	for name, a := range pool.ByAction {
		c.RunsDone += a.Done
		c.RunsFailed += a.Failed + a.Panicked
		c.RunsTimedOut += a.TimedOut
		c.RunsCancelled += a.Cancelled
		for i, n := range a.Buckets {
			c.Runs[i] += n
		}
		c.Actions[name] = dashboard.ActionCount{Attempts: a.Done + a.Failed + a.Panicked + a.TimedOut + a.Cancelled, Seconds: a.SumSeconds}
	}
	if s.config.Durable == nil {
		return c
	}
	kept := s.config.Durable.Stats()
	c.Done, c.Failed, c.Cancelled = kept.Done, kept.Failed, kept.Cancelled
	c.WaitBounds, c.Waits = kept.WaitBounds, make([]int64, len(kept.WaitBounds)+1)
	for _, q := range kept.ByQueue {
		for i, n := range q.Waits {
			c.Waits[i] += n
		}
	}
	return c
}

// pageSource is what the dashboard shows of this server, and changes. It asks the service, as the routes do.
type pageSource struct{ server *Server }

// who returns the visitor of a call. The calls that the dashboard makes for itself may see everything.
func (p *pageSource) who(ctx context.Context) *auth.Identity {
	if dashboard.IsOwn(ctx) {
		return p.server.anonymous
	}
	return auth.FromContext(ctx)
}

// kept returns the calls about durable tasks for the visitor.
func (p *pageSource) kept(ctx context.Context) (service.Pages, *task.Error) {
	if !p.Keeps() {
		return service.Pages{}, refuseStore()
	}
	return p.server.service.Pages(p.who(ctx), p.server.verifier.Keys), nil
}

// Keeps implements dashboard.Source.
func (p *pageSource) Keeps() bool { return p.server.service != nil }

// SeesAll implements dashboard.Source.
func (p *pageSource) SeesAll(ctx context.Context) bool {
	return service.May(p.who(ctx), auth.See) == nil
}

// Queues implements dashboard.Source.
func (p *pageSource) Queues(ctx context.Context) ([]task.Queue, *task.Error) {
	kept, refusal := p.kept(ctx)
	if refusal != nil {
		return nil, refusal
	}
	return kept.Queues(ctx)
}

// Nodes implements dashboard.Source.
func (p *pageSource) Nodes(ctx context.Context) ([]task.Node, *task.Error) {
	kept, refusal := p.kept(ctx)
	if refusal != nil {
		return nil, refusal
	}
	return kept.Nodes(ctx)
}

// Workers implements dashboard.Source.
func (p *pageSource) Workers(ctx context.Context) ([]task.Worker, *task.Error) {
	if p.server.workers == nil || !p.SeesAll(ctx) {
		return nil, nil
	}
	return p.server.config.Workers.List(""), nil
}

// List implements dashboard.Source.
func (p *pageSource) List(ctx context.Context, query store.Query) (store.Page, *task.Error) {
	kept, refusal := p.kept(ctx)
	if refusal != nil {
		return store.Page{}, refusal
	}
	return kept.List(ctx, query)
}

// Get implements dashboard.Source.
func (p *pageSource) Get(ctx context.Context, id string) (task.Task, *task.Error) {
	kept, refusal := p.kept(ctx)
	if refusal != nil {
		return task.Task{}, refusal
	}
	return kept.Get(ctx, id)
}

// Open implements dashboard.Source.
func (p *pageSource) Open(ctx context.Context, id, body string) (io.ReadCloser, int64, *task.Error) {
	if !p.Keeps() {
		return nil, 0, refuseStore()
	}
	if body == "payload" {
		return p.server.service.Payload(p.who(ctx), id).Open(ctx)
	}
	return p.server.service.Result(p.who(ctx), id).Open(ctx)
}

// Cancel implements dashboard.Source.
func (p *pageSource) Cancel(ctx context.Context, id string) *task.Error {
	kept, refusal := p.kept(ctx)
	if refusal != nil {
		return refusal
	}
	return kept.Cancel(ctx, id)
}

// Retry implements dashboard.Source.
func (p *pageSource) Retry(ctx context.Context, id string) *task.Error {
	kept, refusal := p.kept(ctx)
	if refusal != nil {
		return refusal
	}
	return kept.Retry(ctx, id)
}

// Preview implements dashboard.Source.
func (p *pageSource) Preview(ctx context.Context, change task.Change, query store.Query) (store.Picked, *task.Error) {
	kept, refusal := p.kept(ctx)
	if refusal != nil {
		return store.Picked{}, refusal
	}
	return kept.Preview(ctx, change, query)
}

// Operate implements dashboard.Source.
func (p *pageSource) Operate(ctx context.Context, op task.Operation, query store.Query) (task.Operation, *task.Error) {
	kept, refusal := p.kept(ctx)
	if refusal != nil {
		return op, refusal
	}
	return kept.Operate(ctx, op, query)
}

// Operations implements dashboard.Source.
func (p *pageSource) Operations(ctx context.Context) ([]task.Operation, *task.Error) {
	kept, refusal := p.kept(ctx)
	if refusal != nil {
		return nil, refusal
	}
	return kept.Operations(ctx)
}

// StopOperation implements dashboard.Source.
func (p *pageSource) StopOperation(ctx context.Context, id string) *task.Error {
	kept, refusal := p.kept(ctx)
	if refusal != nil {
		return refusal
	}
	return kept.StopOperation(ctx, id)
}

// AppendRecord implements dashboard.Source.
func (p *pageSource) AppendRecord(dst []byte, t *task.Task) []byte {
	return wire.AppendListed(dst, t)
}

// Pause implements dashboard.Source.
func (p *pageSource) Pause(ctx context.Context, queue string, paused bool) *task.Error {
	kept, refusal := p.kept(ctx)
	if refusal != nil {
		return refusal
	}
	return kept.Pause(ctx, queue, paused)
}

// Quiet implements dashboard.Source.
func (p *pageSource) Quiet(ctx context.Context, worker string) *task.Error {
	if refusal := p.server.workers.Unavailable(); refusal != nil {
		return refusal
	}
	_, refusal := p.server.workers.Quiet(p.who(ctx), worker)
	return refusal
}

// Send implements dashboard.Source.
func (p *pageSource) Send(ctx context.Context, line []byte) []byte {
	request := new(wire.Request)
	refusal := request.Parse(line, wire.OpRun)
	if refusal == nil {
		refusal = request.Validate()
	}
	if refusal == nil && len(line) > p.server.limits.Line {
		refusal = p.server.tooLarge()
	}
	var answer []byte
	if refusal == nil {
		answer, refusal = p.send(ctx, request)
	}
	if refusal != nil {
		return wire.AppendError(nil, request.ID, refusal)
	}
	return answer
}

func (p *pageSource) send(ctx context.Context, request *wire.Request) ([]byte, *task.Error) {
	s, who := p.server, p.who(ctx)
	switch {
	case request.Op == wire.OpRun:
		if refusal := service.MayRun(who, request.Action); refusal != nil {
			return nil, refusal
		}
		result, refusal := s.execute(ctx, request)
		if refusal != nil {
			return nil, refusal
		}
		return wire.AppendDone(nil, request.ID, result), nil
	case request.Op != wire.OpEnqueue:
		return nil, task.RefuseField(task.InvalidRequest, "op", "only run and enqueue can be sent here")
	case !p.Keeps():
		return nil, refuseStore()
	}
	wanted, refusal := service.Enqueued(request, who)
	if refusal != nil {
		return nil, refusal
	}
	answer := s.service.Accept(ctx, who, []durable.Request{wanted})[0]
	return s.service.AppendAccepted(ctx, nil, request.ID, &answer), nil
}

// Audit implements dashboard.Source.
func (p *pageSource) Audit(ctx context.Context, query store.AuditQuery) (store.AuditPage, *task.Error) {
	if !p.Keeps() {
		return store.AuditPage{}, task.Refuse(task.NotFound, "this node has no store")
	}
	return p.server.service.Audit(ctx, p.who(ctx), query)
}

// mayKeys refuses what is about keys if the node has none, or the visitor may not manage them.
func (p *pageSource) mayKeys(ctx context.Context) *task.Error {
	if refusal := p.server.needKeys(); refusal != nil {
		return refusal
	}
	return service.May(p.who(ctx), auth.Manage)
}

// Keys implements dashboard.Source.
func (p *pageSource) Keys(ctx context.Context) ([]task.AccessKey, *task.Error) {
	if p.server.verifier.Keys == nil {
		return nil, task.Refuse(task.NotFound, "this node has no keys")
	}
	if refusal := p.mayKeys(ctx); refusal != nil {
		return nil, refusal
	}
	return p.server.verifier.Keys.List(ctx)
}

// CreateKey implements dashboard.Source.
func (p *pageSource) CreateKey(ctx context.Context, name string, grants []string, lifetime time.Duration) (auth.NewKey, *task.Error) {
	if refusal := p.mayKeys(ctx); refusal != nil {
		return auth.NewKey{}, refusal
	}
	return p.server.createKeyFor(ctx, p.who(ctx), name, grants, lifetime)
}

// RevokeKey implements dashboard.Source.
func (p *pageSource) RevokeKey(ctx context.Context, id string) *task.Error {
	if refusal := p.mayKeys(ctx); refusal != nil {
		return refusal
	}
	_, refusal := p.server.revokeKeyFor(ctx, p.who(ctx), id)
	return refusal
}

// Parts implements dashboard.Source.
func (p *pageSource) Parts() dashboard.Parts {
	if !p.Keeps() {
		return dashboard.Parts{Draining: p.server.draining.Load()}
	}
	return dashboard.Parts(p.server.config.Durable.Parts())
}

// Limits implements dashboard.Source.
func (p *pageSource) Limits() task.Limits { return p.server.limits }

// Actions implements dashboard.Source.
func (p *pageSource) Actions(ctx context.Context) []string {
	list := slices.Clone(p.server.config.Executor.Actions())
	if p.server.config.Workers != nil {
		list = append(list, p.server.config.Workers.Actions("")...)
	}
	slices.Sort(list)
	who := p.who(ctx)
	return slices.DeleteFunc(slices.Compact(list), func(action string) bool { return !who.All(auth.See) && !auth.Knows(who, action) })
}
