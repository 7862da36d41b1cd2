package httpapi

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/posta-tasks/posta/task"
)

// headerBytes bounds a request's head. Bodies have the limit of lines.
const headerBytes = 32 << 10

// HTTPServer returns an http.Server with the limits of this door, for programs that have a listener of their own.
func (s *Server) HTTPServer() *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:           s,
		ReadHeaderTimeout: s.limits.LineTimeout,
		IdleTimeout:       s.limits.Idle,
		MaxHeaderBytes:    headerBytes,
		Protocols:         &protocols,
		ConnContext:       withConnection,
		ErrorLog:          slog.NewLogLogger(s.config.Logger.Handler(), slog.LevelWarn),
		// OPTIONS * passes the guard like everything else.
		DisableGeneralOptionsHandler: true,
		// There is no ReadTimeout and no WriteTimeout, since a task may run for an
		// hour: each request bounds its own reading and writing.
	}
}

// connKey is where a request's context has the connection that it came on.
type connKey struct{}

// withConnection puts the connection into the context of its requests.
func withConnection(ctx context.Context, conn net.Conn) context.Context {
	if c, ok := conn.(*connection); ok {
		return context.WithValue(ctx, connKey{}, c)
	}
	return ctx
}

// connectionOf returns the connection that a request came on; nil when another server serves it.
func connectionOf(r *http.Request) *connection {
	c, _ := r.Context().Value(connKey{}).(*connection)
	return c
}

// briefTime is how long the client of a connection that is served briefly may take for its request's head.
const briefTime = time.Second

// Serve answers the requests of one connection and returns when it is over; it
// closes it. After Close it closes at once. Where tokens are needed, a client that shows none in time is closed.
func (s *Server) Serve(conn net.Conn) {
	c := newConnection(conn, &s.counters)
	if s.config.Tokens != nil {
		c.due = time.Now().Add(task.UnauthenticatedTimeout)
	}
	s.serve(c)
}

// ServeBriefly is Serve for a connection on one of the places that are kept for health checks: its request must come at
// once, and the answer ends the connection. Requests that are not health checks get the refusal. begun is called when the
// whole request has come.
func (s *Server) ServeBriefly(conn net.Conn, refusal *task.Error, begun func()) {
	c := newConnection(conn, &s.counters)
	c.brief, c.begun, c.due = refusal, begun, time.Now().Add(briefTime)
	s.serve(c)
}

func (s *Server) serve(c *connection) {
	s.start.Do(func() {
		go func() { _ = s.http.Serve(s.feed) }() // it ends with http.ErrServerClosed, at Close
	})
	s.counters.connections.Add(1)
	s.counters.open.Add(1)
	defer s.counters.open.Add(-1)
	if !s.feed.hand(c) {
		c.Close()
		return
	}
	<-c.over
}

// Drain asks clients to leave: from now on every answer ends its connection. What
// is sent is still answered.
func (s *Server) Drain() {
	s.draining.Store(true)
}

// Close accepts no more connections, closes those without an open request, stops reading streams of tasks, and waits
// for open requests. When ctx ends, it closes their connections, too, which cancels their tasks, and returns ctx's error.
// WebSockets belong to the server of lines, which closes them.
func (s *Server) Close(ctx context.Context) error {
	s.Drain()
	s.close()
	s.feed.Close()
	err := s.http.Shutdown(ctx)
	if err != nil {
		s.http.Close()
	}
	return err
}

// feed is the listener of an http.Server that is handed its connections, since
// the node has looked at their first byte already.
type feed struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newFeed() *feed {
	return &feed{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// hand passes a connection to Accept. It reports false if the feed is closed.
func (f *feed) hand(conn net.Conn) bool {
	select {
	case <-f.closed:
		return false
	default:
	}
	select {
	case f.conns <- conn:
		return true
	case <-f.closed:
		return false
	}
}

// Accept waits for the next connection that is handed over.
func (f *feed) Accept() (net.Conn, error) {
	select {
	case conn := <-f.conns:
		return conn, nil
	case <-f.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept; connections that were handed over live on.
func (f *feed) Close() error {
	f.once.Do(func() { close(f.closed) })
	return nil
}

// Addr names the feed, which has no address: each connection knows its own.
func (f *feed) Addr() net.Addr { return &net.UnixAddr{Name: "httpapi", Net: "feed"} }
