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

// lookEvery is how often a connection that its client has half-closed is checked for a reset.
const lookEvery = time.Second

// errEnough ends the reading of a connection whose client continues to send after the node has ended it.
var errEnough = errors.New("the client sends on although the connection ends")

// connection is the connection of a client as net/http uses it. It counts bytes, reports its end, and treats a
// half-close like the line protocol: the client still gets its answer.
type connection struct {
	net.Conn
	counters *counters
	over     chan struct{}
	once     sync.Once
	lengths  lengthFinder
	brief    *task.Error // set on a place that is reserved for health checks: each answer ends the connection, and other requests get this refusal
	begun    func()      // on such a place: called when a whole request was received
	hides    bool        // the request may have a Content-Length beside its chunks; owned by the handler
	length   int64       // length of the Content-Length headers of requests that were answered; owned by the handler

	capped    atomic.Bool // reading ends after allowance
	allowance atomic.Int64

	mu       sync.Mutex    // guards the fields below
	deadline time.Time     // the read deadline
	due      time.Time     // until when the client must authenticate; the zero time: it has, or need not
	moved    chan struct{} // closed when deadline changes
}

// endsWithAnswer reports whether the connection ends with its next answer: its client has not authenticated although it
// must, or it has a place that is reserved for health checks.
func (c *connection) endsWithAnswer() bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.brief != nil || !c.due.IsZero()
}

// onlyChecks returns the refusal of a request that is not a health check, on a place that is reserved for health
// checks; otherwise nil.
func (c *connection) onlyChecks(r *http.Request) *task.Error {
	if c == nil || c.brief == nil {
		return nil
	}
	if r.ContentLength == 0 { // otherwise net/http waits for the body, while others may need the place
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
	if c == nil || c.brief != nil { // its time stays short
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

// Read reads and counts bytes. While a request is being answered, net/http reads a single byte to notice that the
// client has disconnected. A client that has only closed its writing side has not disconnected. Then Read waits
// until the connection fails or closes, or until its read deadline passes, which net/http sets when it has the
// answer.
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

// awaitEnd waits until a half-closed connection ends, and returns the reason.
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

// isOver reports whether the connection was closed.
func (c *connection) isOver() bool {
	select {
	case <-c.over:
		return true
	default:
		return false
	}
}

// resetError returns the error that the kernel reports for a connection, or nil.
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

// SetReadDeadline sets the deadline of Read.
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

// SetDeadline sets the deadlines of Read and Write.
func (c *connection) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// capReads limits the bytes that are still read to those that a refused client may send.
func (c *connection) capReads() {
	if !c.capped.Load() {
		c.allowance.Store(task.LingerBytes)
		c.capped.Store(true)
	}
}

// Write writes and counts bytes.
func (c *connection) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.counters.bytesOut.Add(int64(n))
	return n, err
}

// CloseWrite closes the writing side. net/http calls it first, so that the last answer arrives before the
// connection ends.
func (c *connection) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Close closes the connection and makes Serve return.
func (c *connection) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { close(c.over) })
	return err
}

// identity returns the owner of the client certificate; nil without one.
func (c *connection) identity() *auth.Identity {
	if c == nil {
		return nil
	}
	return auth.Of(c.Conn)
}

// mayHide reports whether a request with chunks may have had a Content-Length too. net/http uses the chunks and
// hides the length. A proxy in front may have used the length, so the bytes that follow cannot be trusted (RFC
// 9112, 6.1). A body that contains the words "content-length" counts as such a request, which only costs the client
// its connection. Call mayHide once for each request; didHide returns the result again.
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

// lengthFinder counts how often "content-length", in any case, occurs in the bytes that are read.
type lengthFinder struct {
	found  atomic.Int64
	before []byte // the last bytes of the read before
}

const lengthName = "content-length"

// look searches the bytes of the next read.
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

// count counts the complete names in p.
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
