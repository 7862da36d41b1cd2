package httpapi

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/task"
)

// lookEvery is how often a connection whose client has half-closed is checked for a reset.
const lookEvery = time.Second

// errEnough ends the reading of a connection whose client goes on sending after the node has ended it.
var errEnough = errors.New("the client sends on although the connection ends")

// connection is a client's connection as net/http sees it. It counts bytes, reports when it is over, and
// treats a half-close as the line protocol does: the answer is still owed.
type connection struct {
	net.Conn
	counters *counters
	over     chan struct{}
	once     sync.Once
	lengths  lengthFinder
	brief    *task.Error // of a place kept for health checks: each answer ends the connection, and this is the one to other requests
	begun    func()      // of such a place: is called when a whole request has come
	hides    bool        // the request may have a length beside its chunks; the handler's
	length   int64       // of lengths, the Content-Length headers of requests that have been answered; the handler's

	capped    atomic.Bool // reading ends after allowance
	allowance atomic.Int64

	mu       sync.Mutex    // guards all below
	deadline time.Time     // of reading
	due      time.Time     // until when the client must show who it is; the zero time: it has, or need not
	moved    chan struct{} // closed when deadline changes
}

// isStranger reports whether the client has not authenticated although it must, or has a place that is kept for health
// checks. Then its connection ends with the answer.
func (c *connection) isStranger() bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.brief != nil || !c.due.IsZero()
}

// onlyChecks returns the refusal of a request that is not a health check on a place that is kept for health checks, or nil.
func (c *connection) onlyChecks(r *http.Request) *task.Error {
	if c == nil || c.brief == nil {
		return nil
	}
	if r.ContentLength == 0 { // else net/http waits for the body, and others may have the place
		c.begun()
	}
	switch r.URL.Path {
	case "/healthz", "/readyz", "/metrics":
		return nil
	}
	return c.brief
}

// know records that the client has authenticated.
func (c *connection) know() {
	if c == nil || c.brief != nil { // whose time is short
		return
	}
	c.mu.Lock()
	known := c.due.IsZero()
	c.due = time.Time{}
	c.mu.Unlock()
	if !known {
		_ = c.SetReadDeadline(time.Time{})
	}
}

func newConnection(conn net.Conn, counters *counters) *connection {
	return &connection{Conn: conn, counters: counters, over: make(chan struct{}), moved: make(chan struct{})}
}

// Read counts what comes in. net/http reads a single byte while a request is being answered, to
// notice that the client has gone. A client that has only closed its writing side has not: then Read waits
// until the connection fails, closes, or its read deadline passes, which net/http sets when it
// has the answer.
func (c *connection) Read(p []byte) (int, error) {
	if c.capped.Load() {
		left := c.allowance.Load()
		if left <= 0 {
			return 0, errEnough
		}
		p = p[:min(int64(len(p)), left)]
	}
	n, err := c.Conn.Read(p)
	c.allowance.Add(-int64(n))
	c.counters.bytesIn.Add(int64(n))
	c.lengths.look(p[:n])
	if len(p) == 1 && errors.Is(err, io.EOF) {
		err = c.awaitEnd()
	}
	return n, err
}

// awaitEnd waits until a connection that is half-closed ends, and returns why.
func (c *connection) awaitEnd() error {
	for {
		c.mu.Lock()
		deadline, moved := c.deadline, c.moved
		c.mu.Unlock()
		if !deadline.IsZero() && !time.Now().Before(deadline) {
			return os.ErrDeadlineExceeded
		}
		due := time.NewTimer(lookEvery)
		if !deadline.IsZero() {
			due.Reset(min(lookEvery, time.Until(deadline)))
		}
		select {
		case <-due.C:
		case <-moved:
		case <-c.over:
		}
		due.Stop()
		if c.isOver() {
			return net.ErrClosed
		}
		if err := resetError(c.Conn); err != nil {
			return err
		}
	}
}

// isOver reports whether the connection has been closed.
func (c *connection) isOver() bool {
	select {
	case <-c.over:
		return true
	default:
		return false
	}
}

// resetError returns the error that the kernel has for a connection, or nil.
func resetError(conn net.Conn) (err error) {
	if inner, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = inner.NetConn()
	}
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	failed := raw.Control(func(fd uintptr) {
		if code, e := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR); e == nil && code != 0 {
			err = syscall.Errno(code)
		}
	})
	return errors.Join(err, failed)
}

// SetReadDeadline bounds what Read waits for.
func (c *connection) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	if !c.due.IsZero() && (t.IsZero() || t.After(c.due)) {
		t = c.due
	}
	c.deadline = t
	close(c.moved)
	c.moved = make(chan struct{})
	c.mu.Unlock()
	return c.Conn.SetReadDeadline(t)
}

// SetDeadline bounds what Read and Write wait for.
func (c *connection) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// capReads bounds how much more is read: as much as a refused client may still send.
func (c *connection) capReads() {
	if !c.capped.Load() {
		c.allowance.Store(task.LingerBytes)
		c.capped.Store(true)
	}
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

// identity returns who the client is by its certificate; nil: it has none.
func (c *connection) identity() *auth.Identity {
	if c == nil {
		return nil
	}
	return auth.Of(c.Conn)
}

// mayHide reports whether a request with chunks may have had a length, too. net/http goes by the chunks
// and hides the length; a proxy in front may have gone by the length, so what follows is not to be
// trusted (RFC 9112, 6.1). A body in which a length stands counts as one, which only costs the client its
// connection. It must be called once a request; didHide returns the result again.
func (c *connection) mayHide(r *http.Request) bool {
	if c == nil {
		return len(r.TransferEncoding) > 0
	}
	if r.Header.Get("Content-Length") != "" {
		c.length++
	}
	c.hides = len(r.TransferEncoding) > 0 && c.lengths.found.Load() > c.length
	return c.hides
}

// didHide returns what mayHide returned for the request.
func (c *connection) didHide(r *http.Request) bool {
	if c == nil {
		return len(r.TransferEncoding) > 0
	}
	return c.hides
}

// lengthFinder counts how often "content-length" comes in what is read, in any case of letters.
type lengthFinder struct {
	found  atomic.Int64
	before []byte // the end of what was read before
}

const lengthName = "content-length"

// look searches what was read next.
func (f *lengthFinder) look(p []byte) {
	if len(p) == 0 {
		return
	}
	const keep = len(lengthName) - 1
	joint := append(f.before, p[:min(len(p), keep)]...)
	f.count(joint)
	f.count(p)
	if len(p) >= keep {
		f.before = append(f.before[:0], p[len(p)-keep:]...)
	} else {
		f.before = append(f.before[:0], joint[max(0, len(joint)-keep):]...)
	}
}

// count counts the names that stand whole in p.
func (f *lengthFinder) count(p []byte) {
	const hyphen = len("content")
	for i := 0; ; {
		at := bytes.IndexByte(p[i:], '-')
		if at < 0 {
			return
		}
		i += at + 1
		if begin := i - 1 - hyphen; begin >= 0 && begin+len(lengthName) <= len(p) && bytes.EqualFold(p[begin:begin+len(lengthName)], []byte(lengthName)) {
			f.found.Add(1)
		}
	}
}
