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

// headerBytes is the largest head of a request. Bodies have the limit of lines.
const headerBytes = 32 << 10

// HTTPServer returns an http.Server with the limits of this door, for programs with a listener of their own.
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
		// The guard also checks OPTIONS *.
		DisableGeneralOptionsHandler: true,
		// There is no ReadTimeout and no WriteTimeout, since a task may run for an hour. Each request limits its
		// own reading and writing.
	}
}

// connKey is the key of the connection in the context of a request.
type connKey struct{}

// withConnection adds the connection to the context of its requests.
func withConnection(ctx context.Context, conn net.Conn) context.Context {
	if c, ok := conn.(*connection); ok {
		return context.WithValue(ctx, connKey{}, c)
	}
	return ctx
}

// connectionOf returns the connection of a request; nil if another server serves it.
func connectionOf(r *http.Request) *connection {
	c, _ := r.Context().Value(connKey{}).(*connection)
	return c
}

// briefTime is how long the client may take for the head of its request on a place that is reserved for health
// checks.
const briefTime = time.Second

// Serve answers the requests of one connection, closes it, and returns. After Close it closes the connection at
// once. If tokens are required, it closes a client that sends none in time.
func (s *Server) Serve(conn net.Conn) {
	c := newConnection(conn, &s.counters)
	if !s.verifier.IsOpen() {
		c.due = time.Now().Add(task.UnauthenticatedTimeout)
	}
	s.serve(c)
}

// ServeBriefly is Serve for a connection on a place that is reserved for health checks. Its request must arrive at
// once, and the answer ends the connection. Other requests than health checks get the refusal. begun is called when
// the whole request was received.
func (s *Server) ServeBriefly(conn net.Conn, refusal *task.Error, begun func()) {
	c := newConnection(conn, &s.counters)
	c.brief, c.begun, c.due = refusal, begun, time.Now().Add(briefTime)
	s.serve(c)
}

func (s *Server) serve(c *connection) {
	s.start.Do(func() {
		go func() { _ = s.http.Serve(s.feed) }() // it returns http.ErrServerClosed after Close
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

// Drain asks clients to disconnect: from now on every answer ends its connection. Requests that still arrive are
// answered.
func (s *Server) Drain() {
	s.draining.Store(true)
}

// Close accepts no more connections, closes those without an open request, stops reading streams of tasks, ends
// those of open pages, and waits for open requests. When ctx ends, it also closes the other connections, which cancels their tasks, and
// returns the error of ctx. The line server closes WebSockets.
func (s *Server) Close(ctx context.Context) error {
	s.Drain()
	s.close()
	s.pages.Close()
	s.feed.Close()
	err := s.http.Shutdown(ctx)
	if err != nil {
		s.http.Close()
	}
	return err
}

// feed is the listener of an http.Server. The node passes it the connections whose first byte it has read.
type feed struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newFeed() *feed {
	return &feed{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// hand passes a connection to Accept. It returns false if the feed is closed.
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

// Accept returns the next connection from hand.
func (f *feed) Accept() (net.Conn, error) {
	select {
	case conn := <-f.conns:
		return conn, nil
	case <-f.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept. Connections that were accepted are not affected.
func (f *feed) Close() error {
	f.once.Do(func() { close(f.closed) })
	return nil
}

// Addr returns the name of the feed, which has no address.
func (f *feed) Addr() net.Addr { return &net.UnixAddr{Name: "httpapi", Net: "feed"} }
