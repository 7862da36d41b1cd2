package lineapi

import (
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/posta-tasks/posta/task"
)

// writeBytes is how many bytes one write timeout covers at most, so that a client on a slow network is not taken
// for one that does not read.
const writeBytes = 64 << 10

// lookEvery is how often a connection that is not read is checked for a reset.
const lookEvery = time.Second

// out is the writing side of a connection. A goroutine writes its replies itself, unless another goroutine is
// writing. Then it appends them to pending, and the writer writes them next.
type out struct {
	conn      *conn
	raw       syscall.RawConn
	writeFunc func(fd uintptr) bool
	rest      []byte // the bytes that are being written; owned by the writer
	writeErr  error  // owned by the writer
	armed     bool   // a write deadline is set; owned by the writer
	own       int    // bytes that are being written and are not counted yet; owned by the writer
	stalled   int    // counted bytes that the client did not take at once; owned by the writer

	mu       sync.Mutex // guards the fields below
	changed  *sync.Cond
	writing  bool
	pending  []byte        // bytes for the writer; they count against the budget
	err      error         // why nothing can be written any more
	requests int           // requests that other goroutines handle
	bytes    int           // payload bytes of these requests
	ended    time.Duration // when the latest of these requests ended, by Server.now
	waits    int           // open waits and watches
	paused   bool          // waiting tasks of the connection must not start
}

func (o *out) init(c *conn) {
	o.conn = c
	o.changed = sync.NewCond(&o.mu)
	if tcp, ok := c.nc.(*net.TCPConn); ok {
		if raw, err := tcp.SyscallConn(); err == nil {
			o.raw, o.writeFunc = raw, o.tryWrite
		}
	}
}

// send writes whole lines, or leaves them to the goroutine that is writing. It blocks while the client has too many
// unread bytes. The caller may reuse p when send returns. After an error send does nothing.
func (o *out) send(p []byte) {
	limit := o.conn.server.config.Limits.UnsentBytes
	o.mu.Lock()
	budget := o.conn.server.budget
	for o.writing && o.err == nil && len(o.pending) > 0 && (len(o.pending) >= limit || budget.Full()) {
		o.hold()
		o.changed.Wait()
	}
	if o.err != nil {
		o.mu.Unlock()
		return
	}
	if o.writing {
		budget.Add(len(p))
		o.pending = append(o.pending, p...)
		o.mu.Unlock()
		return
	}
	o.writing = true
	o.mu.Unlock()
	o.write(p)
}

// post writes whole lines like send, but never blocks: another goroutine writes them. The caller bounds how many there are.
func (o *out) post(p []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return
	}
	o.conn.server.budget.Add(len(p))
	o.pending = append(o.pending, p...)
	if !o.writing {
		o.writing = true
		go o.write(nil)
	}
}

// write writes p, and then what other goroutines have added to pending meanwhile.
func (o *out) write(p []byte) {
	var spare []byte
	o.own = len(p)
	counted := 0 // bytes of p that are counted
	for {
		err := o.writeAll(p)
		o.giveBack(counted + o.stalled)
		o.own, o.stalled = 0, 0
		o.mu.Lock()
		if err != nil && o.err == nil {
			o.err = err
		}
		counted = len(o.pending)
		if o.err != nil || len(o.pending) == 0 {
			o.giveBack(counted)
			o.writing = false
			o.pending = nil
			o.release()
			o.changed.Broadcast()
			failed := o.err
			o.mu.Unlock()
			if err != nil {
				o.conn.broken(failed)
			}
			return
		}
		p, o.pending, spare = o.pending, spare[:0], o.pending
		o.release()
		o.changed.Broadcast()
		o.mu.Unlock()
	}
}

// giveBack returns bytes to the budget.
func (o *out) giveBack(bytes int) {
	if bytes > 0 {
		o.conn.server.budget.Give(bytes)
	}
}

// stall counts the bytes that are being written, since the client does not take them at once. Those from pending
// are counted already.
func (o *out) stall() {
	if o.own > 0 {
		o.conn.server.budget.Add(o.own)
		o.stalled, o.own = o.own, 0
	}
}

// hold keeps waiting tasks of the connection from starting. The caller holds mu, so that calls of hold and release
// keep their order. This cannot deadlock, since the pool calls no code of others while it holds its lock.
func (o *out) hold() {
	if !o.paused {
		o.paused = true
		o.conn.source.Pause()
	}
}

// release ends a hold. The caller holds mu.
func (o *out) release() {
	if o.paused {
		o.paused = false
		o.conn.source.Resume()
	}
}

// writeAll writes p. Each part of writeBytes gets the whole write timeout.
func (o *out) writeAll(p []byte) error {
	for len(p) > 0 {
		n := min(len(p), writeBytes)
		if err := o.writePart(p[:n]); err != nil {
			return err
		}
		o.conn.server.stats.bytesOut.Add(int64(n))
		p = p[n:]
	}
	return nil
}

func (o *out) writePart(p []byte) error {
	if o.raw == nil {
		if len(p) > carryBytes { // it is not known how fast the client reads
			o.stall()
		}
		_ = o.conn.nc.SetWriteDeadline(time.Now().Add(o.conn.server.config.Limits.WriteTimeout))
		_, err := o.conn.nc.Write(p)
		return err
	}
	o.rest, o.writeErr = p, nil
	err := o.raw.Write(o.writeFunc)
	o.rest = nil
	if o.armed {
		o.armed = false
		_ = o.conn.nc.SetWriteDeadline(time.Time{})
	}
	if err == nil {
		err = o.writeErr
	}
	return err
}

// tryWrite writes as much as the socket takes. It sets a deadline only if it has to wait.
func (o *out) tryWrite(fd uintptr) bool {
	for len(o.rest) > 0 {
		n, err := syscall.Write(int(fd), o.rest)
		switch {
		case err == syscall.EINTR:
		case err == syscall.EAGAIN:
			o.armed = true
			o.stall()
			_ = o.conn.nc.SetWriteDeadline(time.Now().Add(o.conn.server.config.Limits.WriteTimeout))
			return false
		case err != nil:
			o.writeErr = err
			return true
		default:
			o.rest = o.rest[n:]
		}
	}
	return true
}

// begin counts a request that another goroutine handles, and its bytes. It reports whether the client has reached
// its limit of open requests.
func (o *out) begin(bytes int) (full bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.requests++
	o.bytes += bytes
	return o.isFull()
}

// end subtracts requests and returns their bytes to the budget.
func (o *out) end(requests, bytes int) {
	o.mu.Lock()
	o.requests -= requests
	o.bytes -= bytes
	if o.requests == 0 { // the rest belongs to tasks that were cancelled before they began
		bytes += o.bytes
		o.bytes = 0
	}
	o.ended = o.conn.server.now()
	o.changed.Broadcast()
	o.mu.Unlock()
	o.giveBack(requests*requestBytes + bytes)
}

// lastEnd returns when the latest request that begin had counted ended.
func (o *out) lastEnd() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ended
}

// beginWait counts a wait or a watch. It returns false if the limit is reached.
func (o *out) beginWait() *task.Error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if limit := o.conn.server.config.Limits.Waits; o.waits >= limit {
		e := task.Refuse(task.Overloaded, "the connection has %d waits and watches open, its limit", limit)
		e.Limit, e.RetryAfter = "max-waits", time.Second
		return e
	}
	if budget := o.conn.server.budget; !budget.TakeLasting(waitBytes) {
		return budget.Refusal()
	}
	o.waits++
	return nil
}

// endWait undoes beginWait.
func (o *out) endWait() {
	o.mu.Lock()
	o.waits--
	o.changed.Broadcast()
	o.mu.Unlock()
	o.giveBack(waitBytes)
}

// open returns the number of requests, waits and watches that have not been answered.
func (o *out) open() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.requests + o.waits
}

// isFull reports whether the client has reached its limit of open requests. The caller holds mu.
func (o *out) isFull() bool {
	limits := &o.conn.server.config.Limits
	return o.requests >= limits.Window || (o.requests > 0 && o.bytes >= limits.WindowBytes)
}

// await waits until the client is below its limit of open requests, or has disconnected.
func (o *out) await() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.isFull() && o.err == nil {
		o.wait()
	}
}

// wait waits for a change. Meanwhile the connection is not read, so wait checks from time to time whether it was
// reset. The caller holds mu.
func (o *out) wait() {
	look := time.AfterFunc(lookEvery, o.changed.Broadcast)
	o.changed.Wait()
	look.Stop()
	if o.err == nil {
		o.err = o.resetError()
	}
}

// resetError returns the error that the kernel reports for the connection, if any.
func (o *out) resetError() (err error) {
	if o.raw == nil {
		return nil
	}
	_ = o.raw.Control(func(fd uintptr) {
		if code, failed := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR); failed == nil && code != 0 {
			err = syscall.Errno(code)
		}
	})
	return err
}

// failure returns why writing has failed, or nil.
func (o *out) failure() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// drain waits until every request is answered and every reply is written.
func (o *out) drain() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for (o.requests > 0 || o.waits > 0 || o.writing) && o.err == nil {
		o.wait()
	}
}

// fail ends all writing.
func (o *out) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.err = err
	}
	o.changed.Broadcast()
}

// broken closes a connection whose writing has failed.
func (c *conn) broken(err error) {
	if isTimeout(err) {
		c.server.stats.slowConsumers.Add(1)
		c.server.stats.refused(task.SlowConsumer)
		c.server.config.Logger.Warn("client does not read its replies; connection closed",
			"code", task.SlowConsumer, "remote", c.nc.RemoteAddr().String(), "timeout", c.server.config.Limits.WriteTimeout)
		if tcp, ok := c.nc.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
	}
	c.leave()
	c.out.end(c.cancelRuns(), 0)
	_ = c.nc.Close()
}
