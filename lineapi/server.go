// Package lineapi is the door for JSON lines. It reads requests from a connection, runs them, and writes each reply
// as soon as it is ready.
//
// One goroutine at a time reads a connection. It takes a batch of lines from the socket, runs the quick tasks
// itself, one after the other, and writes their replies together. When a task takes long, a new goroutine continues
// to read, and the old one only delivers the reply of that task:
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
	"github.com/posta-tasks/posta/worker"
)

// Config configures a Server.
type Config struct {
	Executor  *executor.Executor
	Durable   *durable.Engine // nil: there is no store, and durable ops are unavailable
	Workers   *worker.Pool    // nil: the node accepts no workers
	Tokens    *auth.Tokens    // nil: there is no token file
	Keys      *auth.Keyring   // nil: there are no keys
	Limits    task.Limits     // zero fields mean their defaults
	DefaultOp string          // the op of a line without one: run (the default) or enqueue
	Budget    *task.Budget    // limits the memory that clients use; nil: a budget of its own
	Logger    *slog.Logger    // nil: none
	Node      string          // the node's name, for op info
	Version   string          // the program's version, for op info
}

// Server serves connections. It is safe for concurrent use.
type Server struct {
	config  Config
	op      wire.Op   // the op of a line without one
	base    time.Time // the start of the monotonic time
	batches sync.Pool
	stats   counters
	budget  *task.Budget
	service *service.Service // nil: there is no store
	workers *service.Workers // nil: the node takes no workers

	verifier   auth.Verifier  // of tokens; if it is open, clients need none
	anonymous  *auth.Identity // the identity of all clients when there are no tokens
	goroutines sync.WaitGroup // those that answer requests
	goaways    sync.WaitGroup // goaway lines that are being written
	draining   atomic.Bool
	probed     atomic.Bool     // a ping was received
	forced     context.Context // ends when Close closes the connections at once
	force      context.CancelFunc

	mu    sync.Mutex // guards the fields below
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
	if config.Workers != nil {
		s.workers = &service.Workers{Pool: config.Workers, Engine: config.Durable, Node: config.Node}
	}
	s.anonymous, s.verifier = auth.Open(), auth.Verifier{Tokens: config.Tokens, Keys: config.Keys}
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
		c.become(who)
	}
	s.begin(c)
	<-over
}

// begin reads the first lines of a connection.
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

// forget removes a connection that has ended.
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

// Probed reports whether a ping was received since the server was made. Balancers check a node with pings.
func (s *Server) Probed() bool { return s.probed.Load() }

// Drain asks every client to disconnect. It is called after the listener was closed. Lines that still arrive are
// answered, and connections that stay quiet are closed.
func (s *Server) Drain() {
	s.draining.Store(true)
	var notified sync.WaitGroup
	for _, c := range s.open() {
		notified.Add(1)
		s.goaways.Go(func() {
			defer notified.Done()
			c.goaway(task.Draining)
			c.streams.drain()
		})
	}
	if s.workers != nil {
		s.goaways.Go(func() {
			notified.Wait()
			s.workers.Pool.Drain(s.config.Node) // workers without a connection
		})
	}
}

// Close waits until all connections have ended. When ctx ends first, it closes them at once.
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
	s.goaways.Wait()
	s.goroutines.Wait()
}

// Stats has the counters of a Server at one moment.
type Stats struct {
	Open          int   // connections
	Opened        int64 // connections since the start
	BytesIn       int64
	BytesOut      int64
	SlowConsumers int64 // connections closed because replies were not read
	Refusals      map[task.Code]int64
}

// counters has the values that Stats reports.
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
