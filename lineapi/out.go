package lineapi

import (
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/posta-tasks/posta/task"
)

// writeBytes is the most that one write timeout covers, so that a slow network is not mistaken for a client that
// does not read.
const writeBytes = 64 << 10

// lookEvery is how often a connection that is not read is checked for a reset.
const lookEvery = time.Second

// out is the writing side of a connection. A goroutine with replies writes them itself, unless another one is
// writing: then it appends them to pending, and the writer writes them next.
type out struct {
	conn      *conn
	raw       syscall.RawConn
	writeFunc func(fd uintptr) bool
	rest      []byte // what is being written; the writer's
	writeErr  error  // the writer's
	armed     bool   // a write deadline is set; the writer's
	own       int    // bytes that are being written and do not count yet; the writer's
	stalled   int    // bytes of those that count since the client did not take them at once; the writer's

	mu       sync.Mutex // guards all below
	changed  *sync.Cond
	writing  bool
	pending  []byte        // what waits for the writer; it counts against the budget
	err      error         // why nothing can be written any more
	requests int           // that run apart from the reading
	bytes    int           // of these requests
	ended    time.Duration // when the latest of them ended, by Server.now
	waits    int           // open waits and watches
	paused   bool          // the connection's waiting tasks are held back
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

// send writes whole lines, or leaves them to the goroutine that is writing. It blocks while the client has too much to
// read. p may be used again when send returns. After an error send does nothing.
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

// write writes p, and then what others have left to it meanwhile.
func (o *out) write(p []byte) {
	var spare []byte
	o.own = len(p)
	counted := 0 // bytes of p that count
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

// stall counts what is being written, since the client does not take it at once. What was pending counts already.
func (o *out) stall() {
	if o.own > 0 {
		o.conn.server.budget.Add(o.own)
		o.stalled, o.own = o.own, 0
	}
}

// hold keeps the connection's waiting tasks from starting. The caller holds mu, so that
// holds and releases keep their order; the pool calls nobody while it holds its own
// lock.
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

// writeAll writes p; each part of writeBytes has the write timeout to itself.
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
		if len(p) > carryBytes { // it cannot be seen how fast the client takes it
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

// tryWrite writes as much as the socket takes. It sets a deadline only when it has to wait.
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

// begin counts a request that is not handled on the reading goroutine, and its bytes. It reports whether the client
// has as many open as it may.
func (o *out) begin(bytes int) (full bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.requests++
	o.bytes += bytes
	return o.isFull()
}

// end takes requests out of the count, and out of the budget.
func (o *out) end(requests, bytes int) {
	o.mu.Lock()
	o.requests -= requests
	o.bytes -= bytes
	if o.requests == 0 { // what is left belongs to tasks that were cancelled before they began
		bytes += o.bytes
		o.bytes = 0
	}
	o.ended = o.conn.server.now()
	o.changed.Broadcast()
	o.mu.Unlock()
	o.giveBack(requests*requestBytes + bytes)
}

// lastEnd returns when the latest request ended that begin had counted.
func (o *out) lastEnd() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ended
}

// beginWait counts a wait or watch, unless there are as many as may be.
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

// endWait takes one out of the count.
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

// isFull reports whether the client has as many requests open as it may. The caller holds
// mu.
func (o *out) isFull() bool {
	limits := &o.conn.server.config.Limits
	return o.requests >= limits.Window || (o.requests > 0 && o.bytes >= limits.WindowBytes)
}

// await waits until the client has fewer requests open than it may, or has gone.
func (o *out) await() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.isFull() && o.err == nil {
		o.wait()
	}
}

// wait waits for a change. Nobody reads the connection meanwhile, so wait checks now and then whether it has been
// reset. The caller holds mu.
func (o *out) wait() {
	look := time.AfterFunc(lookEvery, o.changed.Broadcast)
	o.changed.Wait()
	look.Stop()
	if o.err == nil {
		o.err = o.resetError()
	}
}

// resetError returns the error that the kernel has for the connection, if any.
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

// failure returns why nothing can be written any more, or nil.
func (o *out) failure() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// drain waits until every request has been answered and all is written.
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

// broken closes a connection that cannot be written to.
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
	c.out.end(c.source.Cancel(), 0)
	_ = c.nc.Close()
}
