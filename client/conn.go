package client

import (
	"cmp"
	"errors"
	"net"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// The life of a connection:
//
//	dial → auth, ping → in use → leaving (goaway, idle) → closed
//	                          └→ broken ────────────────↗
//
// Two goroutines serve a connection. The writer sends all waiting lines in one write:
// requests that arrive during a write share the next one. The reader passes replies to their
// calls, and ends the connection.

var (
	errLeft      = errors.New("the server asked the client to leave the connection")
	errIdle      = errors.New("the connection was idle")
	errEnded     = errors.New("the server closed the connection")
	errSilent    = errors.New("the server did not answer while a caller waited")
	errAbandoned = errors.New("too many calls on the connection were abandoned")
)

// maxUnwritten limits the bytes that wait for the next write of a connection. Further lines
// go to another connection or wait in the backlog, so that a server which does not read
// costs little memory.
const maxUnwritten = 256 << 10

// afterWriteError is how long a connection is read after a failed write: the server may have
// sent the reason before it closed the connection.
const afterWriteError = time.Second

// silentWait is how long a connection is read after it was left because its server did
// not answer.
const silentWait = 10 * time.Second

// manyUnanswered is the number of unanswered requests at which the writer lets other
// goroutines run before it writes, since some of them are about to send as well.
const manyUnanswered = 8

// busyLong is the number of long-lived calls on a connection at which the pool opens another
// one: a quarter of those that a server allows on one connection.
const busyLong = 250

// maxAbandoned is how many abandoned long-lived calls a connection may have. The server
// forgets a watch only when the connection ends.
const maxAbandoned = 32

// conn is one connection.
type conn struct {
	pool    *connPool
	net     net.Conn
	lines   lineReader
	writer  chan struct{} // closed when the writer has ended
	refusal error         // why the server refused the connection; used only by the reader
	useful  bool          // the server answered more than the handshake; used only by the reader

	// The numbers of pending calls that count as unanswered and that are long-lived. They
	// may be read without the lock.
	unanswered, long atomic.Int32

	mu           sync.Mutex             // guards the fields below; no other lock is taken while it is held
	wake         *sync.Cond             // for the writer
	pending      map[uint64]pendingCall // by id
	wanted       int                    // pending calls whose callers still wait
	abandoned    int                    // pending long-lived calls whose callers gave up
	lastID       uint64
	lastReceived uint64 // lastID when a reply was last read
	out          []byte // lines that wait for the next write
	spare        []byte // the buffer of the last write
	submitted    int64  // bytes given to writes so far
	written      int64  // bytes that the socket accepted
	leaving      bool   // accepts no more calls
	cause        error  // why the connection broke; nil while it works
}

// pendingCall is a call whose reply has not arrived yet.
type pendingCall struct {
	call  *call // nil when its caller gave up
	shape shape
	long  bool  // it is long-lived from now on
	begin int64 // the line's position among all bytes of the connection
}

func newConn(p *connPool, nc net.Conn) *conn {
	n := &conn{pool: p, net: nc, writer: make(chan struct{}), pending: map[uint64]pendingCall{}}
	n.lines = lineReader{from: nc, limit: p.cfg.ReplyBytes}
	n.wake = sync.NewCond(&n.mu)
	return n
}

// take queues a call's line for the next write. It returns false if the connection is
// full or accepts no more calls.
func (n *conn) take(k *call) bool {
	n.mu.Lock()
	if n.leaving || n.cause != nil || !k.shape.long() && int(n.unanswered.Load()) >= n.pool.cfg.Window ||
		len(n.out) > 0 && len(n.out)+len(k.line) > maxUnwritten {
		n.mu.Unlock()
		return false
	}
	n.lastID++
	k.id, k.conn = n.lastID, n
	n.addPending(k.id, pendingCall{k, k.shape, k.shape.long(), n.submitted + int64(len(n.out))})
	n.out = append(n.out, lineStart[:len(lineStart)-1]...)
	n.out = strconv.AppendUint(n.out, k.id, 10)
	n.out = append(n.out, k.line[len(lineStart):]...)
	n.wake.Signal()
	n.mu.Unlock()
	return true
}

// addPending adds a call that waits for its reply. mu is held.
func (n *conn) addPending(id uint64, c pendingCall) {
	n.pending[id] = c
	n.count(c, 1)
}

// removePending undoes addPending. mu is held.
func (n *conn) removePending(id uint64, c pendingCall) {
	delete(n.pending, id)
	n.count(c, -1)
}

func (n *conn) count(c pendingCall, by int) {
	if c.long {
		n.long.Add(int32(by))
	} else {
		n.unanswered.Add(int32(by))
	}
	switch {
	case c.call != nil:
		n.wanted += by
	case c.long:
		n.abandoned += by
	}
}

// abandon makes the connection drop the reply of a call. ours is false when the call is no
// longer pending. If the connection should accept no more calls, reason is why: either no
// caller waits for it any more and nothing was read since the call was sent, or too many of
// its long-lived calls are abandoned.
func (n *conn) abandon(k *call) (ours bool, reason error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.pending[k.id]
	if c.call != k {
		return false, nil
	}
	n.removePending(k.id, c)
	c.call = nil
	n.addPending(k.id, c)
	switch {
	case k.passedOn:
		n.cancelRun(k.id)
	case n.wanted == 0 && (n.leaving || n.lastReceived < k.id && !c.long):
		return true, errSilent
	case n.abandoned > maxAbandoned:
		return true, errAbandoned
	}
	return true, nil
}

// cancelRun asks the server to cancel a run that was passed on to it. mu is held.
func (n *conn) cancelRun(id uint64) {
	if n.leaving || n.cause != nil {
		return
	}
	n.lastID++
	n.addPending(n.lastID, pendingCall{begin: n.submitted + int64(len(n.out))})
	n.out = append(strconv.AppendUint(append(n.out, `{"id":`...), n.lastID, 10), `,"op":"cancel","run":`...)
	n.out = append(strconv.AppendUint(n.out, id, 10), "}\n"...)
	n.wake.Signal()
}

// leaveSoon is leave for a connection whose server may hang or has too many abandoned calls.
// It reads the replies that callers still wait for, but no longer than silentWait.
func (n *conn) leaveSoon(reason error) {
	n.leave(reason)
	_ = n.net.SetReadDeadline(time.Now().Add(silentWait))
}

// answer finds the call with this id. known is false if there is none; the call is nil if
// its caller gave up. If last is false, more lines follow.
func (n *conn) answer(id uint64, reply *wire.Reply) (k *call, known, last bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c, known := n.pending[id]
	if !known {
		return nil, false, false
	}
	n.lastReceived = n.lastID
	n.removePending(id, c)
	if last = c.shape.ends(reply.Status) && !reply.Retried; !last {
		c.long = true
		n.addPending(id, c)
	}
	return c.call, true, last
}

// write sends the waiting lines, all at once, until the connection breaks. When the
// connection is leaving and nothing is left to send, write closes its write side.
func (n *conn) write() {
	defer close(n.writer)
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		for len(n.out) == 0 && !n.leaving && n.cause == nil {
			n.wake.Wait()
		}
		if n.unanswered.Load() >= manyUnanswered && n.cause == nil {
			// Goroutines that are ready run first, so that their requests share
			// this write. Without any, Gosched takes no time.
			n.mu.Unlock()
			runtime.Gosched()
			n.mu.Lock()
		}
		if n.cause != nil {
			return
		}
		if len(n.out) > 0 {
			n.writeOut()
		} else if n.leaving {
			n.closeWrite()
			return
		}
	}
}

// writeOut writes the waiting lines. mu is held, but not during the write.
func (n *conn) writeOut() {
	batch := n.out
	n.out = n.spare[:0]
	n.submitted += int64(len(batch))
	n.mu.Unlock()
	count, err := n.net.Write(batch)
	n.mu.Lock()
	n.written += int64(count)
	if n.spare = batch; cap(batch) > maxUnwritten {
		n.spare = nil
	}
	if err != nil && n.cause == nil {
		n.cause = err
		_ = n.net.SetReadDeadline(time.Now().Add(afterWriteError))
	}
}

// closeWrite closes the write side, if the network has one. mu is held; closeWrite does
// not block.
func (n *conn) closeWrite() {
	if half, ok := n.net.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// breakOff closes the connection for a reason of the client. It does not wait.
func (n *conn) breakOff(reason error) {
	n.mu.Lock()
	n.setCause(reason)
	n.mu.Unlock()
	_ = n.net.Close()
}

// setCause sets the cause, unless it is already set. mu is held.
func (n *conn) setCause(reason error) {
	if n.cause == nil {
		n.cause = reason
	}
	n.wake.Signal()
}

// stop makes the connection accept no more calls. It returns those whose writing has not
// begun.
func (n *conn) stop() (unwritten []*call) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.leaving = true
	n.wake.Signal()
	unwritten = n.takePending(n.submitted)
	n.out = n.out[:0]
	return unwritten
}

// takePending removes and returns, in order, the calls whose lines begin at or after a
// position. mu is held.
func (n *conn) takePending(from int64) []*call {
	var out []pendingCall
	for id, c := range n.pending {
		if c.begin >= from {
			out = append(out, c)
			n.removePending(id, c)
		}
	}
	slices.SortFunc(out, func(a, b pendingCall) int { return cmp.Compare(a.begin, b.begin) })
	var calls []*call
	for _, c := range out {
		if c.call != nil {
			calls = append(calls, c.call)
		}
	}
	return calls
}

// end closes the connection and completes every unanswered call: as unsent if no byte of it
// was written, otherwise as lost.
func (n *conn) end(reason error) {
	n.breakOff(reason)
	<-n.writer
	n.mu.Lock()
	if n.refusal == nil {
		reason = n.cause
	}
	never := n.takePending(n.written)
	maybe := n.takePending(0)
	n.mu.Unlock()
	n.pool.remove(n)
	for _, k := range never {
		k.complete(unsent, reason)
	}
	for _, k := range maybe {
		k.complete(lost, reason)
	}
}

// leave takes the connection out of use. Its remaining replies are still read.
func (n *conn) leave(reason error) {
	n.pool.retire(n)
	for _, k := range n.stop() {
		k.complete(unsent, reason)
	}
}

// refusedConnError is a refusal of the connection, not of the request that waited for it. It
// hides the code of the refusal, so that callers do not mistake it for the code of the request.
type refusedConnError struct {
	refusal *task.Error
}

func (e *refusedConnError) Error() string {
	return "the server refused the connection: " + e.refusal.Error()
}
