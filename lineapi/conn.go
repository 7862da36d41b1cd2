package lineapi

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// turn is how long a batch of lines may take before its replies are written and its quick permit is given to another
// connection.
const turn = 2 * time.Millisecond

// drainQuiet is how long a connection may be quiet after goaway before it is closed. It is longer than goaway, and a
// request that crosses it, take to travel.
const drainQuiet = time.Second

// errLeave ends the reading of a connection in good order: the replies that are due are written, then the writing
// side is closed.
var errLeave = errors.New("the connection ends")

// conn is one connection. The fields of the first part belong to the goroutine that reads the connection; out has
// its own lock.
type conn struct {
	server   *Server
	nc       net.Conn
	raw      syscall.RawConn // nil when nc is no plain socket
	readFunc func(fd uintptr) bool
	readN    int
	readErr  error
	source   *executor.Source
	first    [1]byte       // the buffer of readPlain
	batch    *batch        // nil while the connection waits and has read nothing
	carry    []byte        // the beginning of a line while batch is nil
	armed    time.Duration // the read deadline that is set, by Server.now
	overran  bool          // readArrived has read after a deadline that still counts
	active   time.Duration // when bytes were last read
	since    time.Duration // when the client connected, by Server.now
	begun    time.Duration // when the current line began; 0: there is none
	talked   bool          // more was read than a possible byte order mark
	linger   bool          // the rest of what the client sends is read and discarded
	identity *auth.Identity
	unwatch  func() // ends the watch of the identity's key; nil: there is none
	child    *Child // nil: it is not the connection of a child
	out      out
	streams  streams // work requests
	passed   passedOn
	closed   func()

	life  context.Context // the context of waits and watches; not used without a store
	leave context.CancelFunc

	leaving  sync.Once    // goaway is sent once
	goawayAt atomic.Int64 // when goaway was sent, by Server.now; 0: it was not
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{server: s, nc: nc, source: s.config.Executor.NewSource()}
	c.out.init(c)
	c.source.Refused = c.refused
	if tcp, ok := nc.(*net.TCPConn); ok {
		if raw, err := tcp.SyscallConn(); err == nil {
			c.raw, c.readFunc = raw, c.tryRead
		}
	}
	c.life, c.leave = s.forced, func() {}
	if s.config.Durable != nil {
		c.life, c.leave = context.WithCancel(s.forced)
	}
	if s.verifier.IsOpen() {
		c.identity = cmp.Or(auth.Of(nc), s.anonymous)
	}
	return c
}

// read reads the connection until it ends or another goroutine takes over.
func (c *conn) read() {
	for {
		err := c.fill()
		if err == nil || errors.Is(err, io.EOF) {
			handedOver, workErr := c.work(err != nil)
			if handedOver {
				return
			}
			if err == nil {
				err = workErr
			}
		}
		if err != nil {
			c.finish(err)
			return
		}
	}
}

// work answers the lines that have been read, and at the end of the stream also one without a line ending.
func (c *conn) work(atEnd bool) (handedOver bool, err error) {
	b := c.batch
	if b == nil {
		return false, nil
	}
	c.skipMark(b)
	if err := b.lane.Enter(c.server.forced); err != nil {
		return false, err
	}
	for err == nil {
		line, ok := b.line()
		if !ok {
			if !atEnd || b.r == b.w {
				break
			}
			line = b.rest()
		}
		var kept bool
		if kept, err = c.handle(b, line); !kept {
			return true, nil
		}
		if err == nil && (len(b.out) >= flushBytes || b.lane.Held() >= turn) {
			err = c.pause(b, nil)
		}
	}
	if err == nil || errors.Is(err, errLeave) {
		b.lane.Leave()
	}
	c.flush(b)
	if err == nil && len(trim(b.in[b.r:b.w])) > c.maxLine() {
		err = c.refuse(b, nil, c.lineTooLong())
		c.flush(b)
	}
	return false, err
}

// byteOrderMark is what some editors put before UTF-8 text.
const byteOrderMark = "\xEF\xBB\xBF"

// skipMark skips a byte order mark before the first line. If the bytes so far may be the beginning of one, it waits
// for more.
func (c *conn) skipMark(b *batch) {
	came := b.in[b.r:b.w]
	if c.talked || len(came) < len(byteOrderMark) && strings.HasPrefix(byteOrderMark, string(came)) {
		return
	}
	c.talked = true
	if bytes.HasPrefix(came, []byte(byteOrderMark)) {
		b.r += len(byteOrderMark)
		b.scan = b.r
	}
}

// pause gives up the permit, writes the replies, calls wait unless it is nil, and takes a permit again.
func (c *conn) pause(b *batch, wait func()) error {
	b.lane.Leave()
	c.flush(b)
	if wait != nil {
		wait()
	}
	if err := c.out.failure(); err != nil {
		return err
	}
	return b.lane.Enter(c.server.forced)
}

// flush writes the replies that the batch has collected.
func (c *conn) flush(b *batch) {
	c.accept(b)
	if len(b.out) > 0 {
		c.out.send(b.out)
		b.out = b.out[:0]
	}
}

// handOver lets a new goroutine read the connection. The goroutine that used b runs a task that takes long, and
// keeps the buffer with the line of that task.
func (c *conn) handOver(b *batch) {
	next := c.server.batches.Get().(*batch)
	next.conn = c
	next.lane.Bind(c.source)
	if b.w-b.r > len(next.in) { // then next takes over what was counted for b
		next.in, next.counted = make([]byte, len(b.in)), b.counted
	} else if b.counted > 0 {
		c.server.budget.Give(b.counted)
	}
	next.r, next.scan = 0, 0
	next.w = copy(next.in, b.in[b.r:b.w])
	next.out, b.out = append(next.out[:0], b.out...), nil
	c.batch = next
	c.server.budget.Add(requestBytes + len(b.req.Payload)) // at most one for each slot
	c.out.begin(len(b.req.Payload))
	go func() {
		c.flush(next)
		c.out.await()
		handedOver, err := c.work(false)
		switch {
		case handedOver:
		case err != nil:
			c.finish(err)
		default:
			c.read()
		}
	}()
}

// deliver writes the reply of a task that did not run on the reading goroutine.
func (c *conn) deliver(t executor.Task, result []byte) {
	reply := wire.AppendDone(make([]byte, 0, len(t.ID)+len(result)+48), t.ID, result)
	c.out.send(reply)
	c.out.end(1, len(t.Payload))
}

// refused writes the refusal of a task by the node that it was passed on to.
func (c *conn) refused(t executor.Task, refusal *task.Error) {
	c.sendRefusal(t.ID, refusal)
	c.out.end(1, len(t.Payload))
}

// finish ends the connection. After io.EOF and errLeave it still writes the replies that are due. After any other
// error it cancels the tasks of the connection.
func (c *conn) finish(err error) {
	if c.batch != nil {
		c.server.giveBack(c.batch)
		c.batch = nil
	}
	c.closeStreams(err)
	if c.unwatch != nil {
		c.unwatch()
	}
	if errors.Is(err, io.EOF) || errors.Is(err, errLeave) {
		c.out.drain()
		if c.out.failure() != nil {
			c.cancelRuns()
		}
		c.closeWrite()
		if c.linger {
			c.discard()
		}
	} else {
		c.out.fail(err)
		c.out.end(c.cancelRuns(), 0)
	}
	c.leave()
	_ = c.nc.Close()
	c.server.forget(c)
}

// cancelRuns cancels the direct runs of the connection. It returns the number of those that had not begun and are never
// answered.
func (c *conn) cancelRuns() int {
	c.passed.end()
	return c.source.Cancel()
}

// closeWrite closes the writing side, so that the client sees the end of the replies.
func (c *conn) closeWrite() {
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// discard reads and drops what a refused client still sends, so that a reset of the connection does not destroy the
// refusal on its way.
func (c *conn) discard() {
	_ = c.nc.SetReadDeadline(time.Now().Add(task.LingerTime))
	_, _ = io.CopyN(io.Discard, onlyReader{c.nc}, task.LingerBytes)
}

// onlyReader hides every method of a connection but Read.
type onlyReader struct{ io.Reader }

// abort closes the connection at once and cancels its tasks. A goroutine that waits for a slot returns. Any
// goroutine may call abort.
func (c *conn) abort() {
	c.leave()
	c.out.fail(net.ErrClosed)
	c.out.end(c.cancelRuns(), 0)
	_ = c.nc.Close()
}

// become makes the connection that of a client, until its key is revoked or its token has ended.
func (c *conn) become(who *auth.Identity) {
	if c.unwatch != nil {
		c.unwatch()
	}
	c.identity, c.unwatch = who, c.server.verifier.Keys.Watch(who, c.expel)
}

// expel closes the connection of a client whose key was revoked, or whose token has ended. It cancels the tasks of the
// connection, and ends its waits and watches.
func (c *conn) expel() {
	patience := time.AfterFunc(expelPatience, c.abort) // the client may not read
	defer patience.Stop()
	c.server.stats.refused(task.Unauthenticated)
	c.out.send(wire.AppendError(nil, nil, refuseOver()))
	c.abort()
}

// expelPatience is how long a client may take to read why its connection is closed.
const expelPatience = time.Second

func refuseOver() *task.Error {
	return task.Refuse(task.Unauthenticated, "the token has ended or was revoked; send {\"op\":\"auth\",\"token\":…} with another one")
}

// isTimeout reports whether a read or write ran into its deadline.
func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
