// Package lineapi is the door for JSON lines. It reads requests from a connection, runs
// them, and writes each reply as soon as it is there.
//
// One goroutine at a time reads a connection. It takes a batch of lines from the socket,
// runs quick tasks itself, one after the other, and writes their replies together. When
// a task takes long, a new goroutine reads on, and the old one only delivers that task's
// reply:
//
//	socket ─→ batch ─→ ops ─→ executor lane ─→ batch ─→ socket
//	                    └──→ executor slot ─→ deliver ─↗
//
// A connection that waits for its client holds no buffer.
package lineapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/service"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// Config is what New needs.
type Config struct {
	Executor  *executor.Executor
	Durable   *durable.Engine // nil: there is no store, and what needs one is unavailable
	Tokens    *auth.Tokens    // nil: everybody may come in
	Limits    task.Limits     // zero fields mean their defaults
	DefaultOp string          // of a line that names none: run (the default) or enqueue
	Budget    *task.Budget    // of the bytes that clients make the node hold; nil: one of its own
	Logger    *slog.Logger    // nil: none
	Node      string          // the node's name, for op info
	Version   string          // the program's version, for op info
}

// Server serves connections. It is safe for concurrent use.
type Server struct {
	config  Config
	op      wire.Op   // of a line that names none
	base    time.Time // what monotonic times are counted from
	batches sync.Pool
	stats   counters
	budget  *task.Budget
	service *service.Service // nil: there is no store

	anonymous auth.Identity  // of everybody, when there are no tokens
	apart     sync.WaitGroup // durable requests that are being answered
	farewells sync.WaitGroup // goaway lines that are being written
	draining  atomic.Bool
	probed    atomic.Bool     // somebody has sent a ping
	forced    context.Context // ends when connections shall be closed as they are
	force     context.CancelFunc

	mu    sync.Mutex // guards the two below
	conns map[*conn]struct{}
	empty *sync.Cond // waits for conns to be empty
}

// New returns a Server, or an error if the config is not valid.
func New(config Config) (*Server, error) {
	if config.Executor == nil {
		return nil, errors.New("lineapi: an executor is needed")
	}
	var err error
	if config.Limits, err = config.Limits.WithDefaults(); err != nil {
		return nil, err
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	op, err := defaultOp(config.DefaultOp)
	if err != nil {
		return nil, err
	}
	if config.Budget == nil {
		config.Budget = task.NewBudget(config.Limits.BufferedBytes)
	}
	s := &Server{config: config, op: op, base: time.Now(), budget: config.Budget, conns: make(map[*conn]struct{})}
	if config.Durable != nil {
		s.service = service.New(config.Durable)
	}
	s.anonymous = auth.Identity{Name: "anonymous", Scopes: []string{"all"}}
	s.empty = sync.NewCond(&s.mu)
	s.forced, s.force = context.WithCancel(context.Background())
	s.batches.New = func() any { return s.newBatch() }
	return s, nil
}

// defaultOp returns the op of a line that names none.
func defaultOp(name string) (wire.Op, error) {
	switch name {
	case "", wire.OpRun.String():
		return wire.OpRun, nil
	case wire.OpEnqueue.String():
		return wire.OpEnqueue, nil
	}
	return 0, fmt.Errorf("the default op is %q; allowed are run and enqueue", name)
}

// Refusal returns the line that refuses a connection before it has sent a request.
func Refusal(e *task.Error) []byte { return wire.AppendError(nil, nil, e) }

// now returns the monotonic time since the server was made.
func (s *Server) now() time.Duration { return time.Since(s.base) }

// Serve serves a connection and closes it. It may return before the connection is over, because another goroutine may
// read on. closed is called once at the end, on any goroutine. since is when the client connected.
func (s *Server) Serve(nc net.Conn, since time.Time, closed func()) {
	c := newConn(s, nc)
	c.since, c.closed = since.Sub(s.base), closed
	s.begin(c)
}

// ServeAs serves a connection of a client that is authenticated; nil means that it is not. It returns when the
// connection is over.
func (s *Server) ServeAs(nc net.Conn, who *auth.Identity) {
	over := make(chan struct{})
	c := newConn(s, nc)
	c.since, c.closed = s.now(), func() { close(over) }
	if who != nil {
		c.identity = who
	}
	s.begin(c)
	<-over
}

// begin reads a connection's first lines.
func (s *Server) begin(c *conn) {
	c.active = c.since
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	s.stats.opened.Add(1)
	if s.draining.Load() {
		c.goaway(task.Draining)
	}
	c.read()
}

// forget removes a connection that is over.
func (s *Server) forget(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	if len(s.conns) == 0 {
		s.empty.Broadcast()
	}
	s.mu.Unlock()
	c.closed()
}

// open returns the connections that are open.
func (s *Server) open() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		list = append(list, c)
	}
	return list
}

// Probed reports whether anybody has sent a ping since the server was made, as balancers do to check a node.
func (s *Server) Probed() bool { return s.probed.Load() }

// Drain asks every client to leave; it is called when the listener has closed. Lines
// that still come are answered, and connections that stay quiet are closed.
func (s *Server) Drain() {
	s.draining.Store(true)
	for _, c := range s.open() {
		s.farewells.Go(func() { c.goaway(task.Draining) })
	}
}

// Close waits until all connections are over. When ctx ends first, it closes them at once.
func (s *Server) Close(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		s.force()
		for _, c := range s.open() {
			c.abort()
		}
	})
	defer stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.conns) > 0 {
		s.empty.Wait()
	}
	s.farewells.Wait()
	s.apart.Wait()
}

// Stats are the counters of a Server at one moment.
type Stats struct {
	Open          int   // connections
	Opened        int64 // connections since the start
	BytesIn       int64
	BytesOut      int64
	SlowConsumers int64 // connections closed because replies were not read
	Refusals      map[task.Code]int64
}

// counters are what Stats is made from.
type counters struct {
	opened, bytesIn, bytesOut, slowConsumers atomic.Int64
	refusals                                 sync.Map // task.Code → *atomic.Int64
}

func (c *counters) refused(code task.Code) {
	n, _ := c.refusals.LoadOrStore(code, new(atomic.Int64))
	n.(*atomic.Int64).Add(1)
}

// Stats returns a snapshot.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	open := len(s.conns)
	s.mu.Unlock()
	stats := Stats{
		Open: open, Opened: s.stats.opened.Load(),
		BytesIn: s.stats.bytesIn.Load(), BytesOut: s.stats.bytesOut.Load(),
		SlowConsumers: s.stats.slowConsumers.Load(), Refusals: make(map[task.Code]int64),
	}
	s.stats.refusals.Range(func(code, n any) bool {
		stats.Refusals[code.(task.Code)] = n.(*atomic.Int64).Load()
		return true
	})
	return stats
}
