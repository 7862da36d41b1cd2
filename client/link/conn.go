package link

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

var (
	errLeft  = errors.New("the server asked the client to leave the connection")
	errIdle  = errors.New("the connection was idle")
	errEnded = errors.New("the server closed the connection")
	errMute  = errors.New("the server did not answer while anybody waited")
	errSpent = errors.New("too much was open on the connection that nobody waited for")
)

// maxUnwritten is how many bytes wait for one connection's next write. What does not
// fit goes to another connection or waits as a reference, so that a server which does
// not read costs little memory.
const maxUnwritten = 256 << 10

// afterWriteError is how long a connection that cannot be written is still read: the
// server may have said why before it closed.
const afterWriteError = time.Second

// muteWait is how long a connection that was left since its server did not answer is
// still read.
const muteWait = 10 * time.Second

// crowd is how many unanswered requests of a connection speak of many callers, of
// whom some are about to ask again.
const crowd = 8

// manyLong is how many calls that take long speak for another connection: a quarter of
// those that a server allows on one.
const manyLong = 250

// maxForsaken is how many calls that take long may be open on a connection although
// their callers gave up. Nothing but its end makes a server forget a watch.
const maxForsaken = 32

// conn is one connection. Two goroutines serve it: the reader, which also ends it, and
// the writer.
type conn struct {
	set    *Set
	net    net.Conn
	lines  lineReader
	writer chan struct{} // closed when the writer has ended
	said   error         // why the server refused the connection; the reader's
	useful bool          // it answered more than the handshake; the reader's

	// How many of pending count in the window, and how many may take long, to look
	// at without the lock.
	unanswered, long atomic.Int32

	mu       sync.Mutex     // guards what follows; no other lock is taken while it is held
	wake     *sync.Cond     // for the writer
	pending  map[uint64]due // by id
	wanted   int            // of pending, those whose callers still wait
	forsaken int            // of pending, those that may take long and whose callers gave up
	lastID   uint64
	heard    uint64 // lastID when a reply was last read
	out      []byte // lines that wait for the next write
	spare    []byte // the buffer of the last write
	taken    int64  // bytes given to writes so far
	written  int64  // of them, bytes that the socket took
	leaving  bool   // takes no more calls
	cause    error  // why it broke; nil while it works
}

// due is a reply that is to come.
type due struct {
	call  *Call // nil when its caller gave up
	shape Shape
	long  bool  // it may take long from now on
	begin int64 // the request's place among all bytes of the connection
}

func newConn(s *Set, nc net.Conn) *conn {
	n := &conn{set: s, net: nc, writer: make(chan struct{}), pending: map[uint64]due{}}
	n.lines = lineReader{from: nc, limit: s.cfg.ReplyBytes}
	n.wake = sync.NewCond(&n.mu)
	return n
}

// take queues a call's line for the next write, unless the connection is full or
// no longer takes any.
func (n *conn) take(k *Call) bool {
	n.mu.Lock()
	if n.leaving || n.cause != nil || !k.Shape.long() && int(n.unanswered.Load()) >= n.set.cfg.Window ||
		len(n.out) > 0 && len(n.out)+len(k.Line) > maxUnwritten {
		n.mu.Unlock()
		return false
	}
	n.lastID++
	k.id, k.conn = n.lastID, n
	n.expect(k.id, due{k, k.Shape, k.Shape.long(), n.taken + int64(len(n.out))})
	n.out = append(n.out, Begin[:len(Begin)-1]...)
	n.out = strconv.AppendUint(n.out, k.id, 10)
	n.out = append(n.out, k.Line[len(Begin):]...)
	n.wake.Signal()
	n.mu.Unlock()
	return true
}

// expect notes a reply that is to come. mu is held.
func (n *conn) expect(id uint64, d due) {
	n.pending[id] = d
	n.count(d, 1)
}

// strike takes a reply that was to come out. mu is held.
func (n *conn) strike(id uint64, d due) {
	delete(n.pending, id)
	n.count(d, -1)
}

func (n *conn) count(d due, by int) {
	if d.long {
		n.long.Add(int32(by))
	} else {
		n.unanswered.Add(int32(by))
	}
	switch {
	case d.call != nil:
		n.wanted += by
	case d.long:
		n.forsaken += by
	}
}

// forget drops the reply that is still to come for a call. ours is false when the call
// is no longer here. When the connection should now be left, reason says why: nobody
// waits for it any more and nothing was heard on it since the call was sent, or too
// much is open on it for nobody.
func (n *conn) forget(k *Call) (ours bool, reason error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	d := n.pending[k.id]
	if d.call != k {
		return false, nil
	}
	n.strike(k.id, d)
	d.call = nil
	n.expect(k.id, d)
	switch {
	case n.wanted == 0 && (n.leaving || n.heard < k.id && !d.long):
		return true, errMute
	case n.forsaken > maxForsaken:
		return true, errSpent
	}
	return true, nil
}

// desert leaves a connection, since its server may hang or has too much open: the next
// call opens another, with a ping. What is still wanted is read; soon after nothing is,
// the connection is closed.
func (n *conn) desert(reason error) {
	n.leave(reason)
	_ = n.net.SetReadDeadline(time.Now().Add(muteWait))
}

// answer finds the call with this id; known tells whether there was one, and the call
// is nil when its caller gave up. Unless more lines are to come it is taken out.
func (n *conn) answer(id uint64, reply *wire.Reply) (k *Call, known, last bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	d, known := n.pending[id]
	if !known {
		return nil, false, false
	}
	n.heard = n.lastID
	n.strike(id, d)
	if last = d.shape.ends(reply.Status) && !reply.Retried; !last {
		d.long = true
		n.expect(id, d)
	}
	return d.call, true, last
}

// write sends what waits, all of it at once, until the connection breaks, or nothing
// is left to send on one that leaves: then its writing side is closed.
func (n *conn) write() {
	defer close(n.writer)
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		for len(n.out) == 0 && !n.leaving && n.cause == nil {
			n.wake.Wait()
		}
		if n.unanswered.Load() >= crowd && n.cause == nil {
			// Callers that can run already are let go first, so that they share
			// this write; it takes no time when there are none.
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

// writeOut writes what waits. mu is held, but not during the write.
func (n *conn) writeOut() {
	batch := n.out
	n.out = n.spare[:0]
	n.taken += int64(len(batch))
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

// closeWrite tells the server that no more comes, where the network can. mu is held;
// it does not block.
func (n *conn) closeWrite() {
	if half, ok := n.net.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// breakOff ends the connection for a reason of ours. It does not wait.
func (n *conn) breakOff(reason error) {
	n.mu.Lock()
	n.broken(reason)
	n.mu.Unlock()
	_ = n.net.Close()
}

// broken notes why the connection is of no more use, if that is not known yet.
// mu is held.
func (n *conn) broken(reason error) {
	if n.cause == nil {
		n.cause = reason
	}
	n.wake.Signal()
}

// stop makes the connection take no more calls, and gives back those whose writing has
// not begun.
func (n *conn) stop() (unwritten []*Call) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.leaving = true
	n.wake.Signal()
	unwritten = n.from(n.taken)
	n.out = n.out[:0]
	return unwritten
}

// from takes out the calls whose lines begin at or behind a place, in their order.
// mu is held.
func (n *conn) from(place int64) []*Call {
	var out []due
	for id, d := range n.pending {
		if d.begin >= place {
			out = append(out, d)
			n.strike(id, d)
		}
	}
	slices.SortFunc(out, func(a, b due) int { return cmp.Compare(a.begin, b.begin) })
	var calls []*Call
	for _, d := range out {
		if d.call != nil {
			calls = append(calls, d.call)
		}
	}
	return calls
}

// end closes the connection and gives back every call that was not answered.
func (n *conn) end(reason error) {
	n.breakOff(reason)
	<-n.writer
	n.mu.Lock()
	if n.said == nil {
		reason = n.cause
	}
	never := n.from(n.written)
	maybe := n.from(0)
	n.mu.Unlock()
	n.set.remove(n)
	for _, k := range never {
		k.settle(Unsent, reason)
	}
	for _, k := range maybe {
		k.settle(Lost, reason)
	}
}

// leave is for a connection that is to be used no more, but may still be read.
func (n *conn) leave(reason error) {
	n.set.retire(n)
	for _, k := range n.stop() {
		k.settle(Unsent, reason)
	}
}

// refusedError carries a refusal of the connection, not of the request that suffers
// from it: so that its code is not taken for the request's.
type refusedError struct {
	refusal *task.Error
}

func (e *refusedError) Error() string {
	return "the server refused the connection: " + e.refusal.Error()
}
