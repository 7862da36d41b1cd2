package httpapi

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"

	"github.com/posta-tasks/posta/auth"
)

// headerBytes bounds a request's head. It is the door's own: bodies have the limit of lines.
const headerBytes = 32 << 10

// HTTPServer makes an http.Server with this door's limits and without a listener. Serve
// has one of its own, so this is for programs that bring their listener.
func (s *Server) HTTPServer() *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:           s,
		ReadHeaderTimeout: s.limits.LineTimeout,
		IdleTimeout:       s.limits.Idle,
		MaxHeaderBytes:    headerBytes,
		Protocols:         &protocols,
		ConnContext:       withWho,
		ErrorLog:          slog.NewLogLogger(s.config.Logger.Handler(), slog.LevelWarn),
		// OPTIONS * passes the guard like everything else.
		DisableGeneralOptionsHandler: true,
		// There is no ReadTimeout and no WriteTimeout, since a task may run for an
		// hour: each request bounds its own reading and writing.
	}
}

// whoKey is where a request's context has the identity that its connection knows.
type whoKey struct{}

// withWho lets requests know who is at the other end of their connection.
func withWho(ctx context.Context, conn net.Conn) context.Context {
	if c, ok := conn.(*connection); ok {
		return context.WithValue(ctx, whoKey{}, auth.Of(c.Conn))
	}
	return ctx
}

// Serve answers the requests of one connection and returns when it is over; it
// closes it. After Close it closes at once.
func (s *Server) Serve(conn net.Conn) {
	s.start.Do(func() {
		go func() { _ = s.http.Serve(s.feed) }() // it ends with http.ErrServerClosed, at Close
	})
	c := &connection{Conn: conn, counters: &s.counters, over: make(chan struct{})}
	s.counters.connections.Add(1)
	s.counters.open.Add(1)
	defer s.counters.open.Add(-1)
	if !s.feed.hand(c) {
		conn.Close()
		return
	}
	<-c.over
}

// Drain asks clients to leave: from now on every answer ends its connection. What
// is sent is still answered.
func (s *Server) Drain() {
	s.draining.Store(true)
}

// Close takes no more connections, closes those without an open request, reads no more of
// streams of tasks, and waits for what is open. WebSockets are those who serve lines' affair. When ctx ends it closes them too, which cancels their
// tasks, and returns ctx's error.
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

// hand passes a connection on; false when the feed is closed.
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

// connection counts its bytes and tells when it is over.
type connection struct {
	net.Conn
	counters *counters
	over     chan struct{}
	once     sync.Once
}

// Read counts what comes in.
func (c *connection) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.counters.bytesIn.Add(int64(n))
	return n, err
}

// Write counts what goes out.
func (c *connection) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.counters.bytesOut.Add(int64(n))
	return n, err
}

// CloseWrite lets net/http close the writing side first, so that the last answer
// arrives before the connection goes.
func (c *connection) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Close closes the connection and lets Serve return.
func (c *connection) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { close(c.over) })
	return err
}
