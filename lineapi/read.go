package lineapi

import (
	"bytes"
	"io"
	"syscall"
	"time"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// codeIdle is the code of the goaway to an idle connection.
const codeIdle task.Code = "idle"

// maxLine returns the largest line that the client may send now, in bytes.
func (c *conn) maxLine() int {
	if c.identity == nil {
		return min(task.UnauthenticatedLine, c.server.config.Limits.Line)
	}
	return c.server.config.Limits.Line
}

// fill waits for bytes and reads them into the batch of the connection. It returns io.EOF at the end of the stream,
// errLeave after a refusal or goaway, or the error of the socket.
func (c *conn) fill() error {
	if b := c.batch; b != nil {
		if n := b.needs(); n > 0 {
			if !c.reserve(n, b.counted) {
				return c.refuseLate(c.server.budget.Refusal())
			}
			b.counted += n
		}
		b.makeRoom()
	}
	if c.begun > 0 { // the client is not to blame for the time that the lines before took
		c.begun += c.server.now() - c.active
	}
	for {
		c.arm()
		n, err := c.readSome()
		if n > 0 {
			c.noteBytes(n)
			return nil
		}
		if isTimeout(err) {
			if n := c.readArrived(); n > 0 {
				c.noteBytes(n)
				return nil
			}
			if err := c.overdue(); err != nil {
				return err
			}
			continue
		}
		return err
	}
}

// noteBytes updates the times from which the deadlines are derived.
func (c *conn) noteBytes(n int) {
	b := c.batch
	b.w += n
	c.active = c.server.now()
	c.server.stats.bytesIn.Add(int64(n))
	last := b.in[b.w-1] == '\n'
	switch {
	case last:
		c.begun = 0
	case c.begun == 0 || b.hasEnding():
		c.begun = c.active
	default:
		return
	}
	c.overran = c.overran && c.identity == nil // the next line has a deadline of its own
}

// hasEnding reports whether the latest read included a line ending. Then the incomplete line began with this read.
func (b *batch) hasEnding() bool {
	return bytes.IndexByte(b.in[b.scan:b.w], '\n') >= 0
}

// readSome reads once. While there is nothing to read, the connection has no batch: a plain socket is asked first
// whether there is, and another connection, such as TLS, is read one byte first.
func (c *conn) readSome() (int, error) {
	if c.raw == nil {
		return c.readPlain()
	}
	if err := c.raw.Read(c.readFunc); err != nil {
		return 0, err
	}
	if c.readErr != nil {
		return 0, c.readErr
	}
	if c.readN == 0 {
		return 0, io.EOF
	}
	return c.readN, nil
}

// readPlain reads with net.Conn.Read.
func (c *conn) readPlain() (int, error) {
	if b := c.batch; b != nil && b.r == b.w {
		c.putAside()
	}
	if c.batch != nil {
		return c.nc.Read(c.batch.in[c.batch.w:])
	}
	n, err := c.nc.Read(c.first[:])
	if n > 0 {
		c.batch = c.server.borrow(c)
		c.batch.in[c.batch.w] = c.first[0]
	}
	return n, err
}

// tryRead reads from the socket. If there is nothing to read, it returns the batch to the server and returns false,
// so that its caller waits.
func (c *conn) tryRead(fd uintptr) bool {
	if c.batch == nil {
		c.batch = c.server.borrow(c)
	}
	for {
		n, err := syscall.Read(int(fd), c.batch.in[c.batch.w:])
		switch err {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			c.putAside()
			return false
		}
		c.readN, c.readErr = n, err
		return true
	}
}

// readArrived reads after a deadline what has arrived before it, and returns the number of bytes: a client that was in
// time is not refused because this process was slow to read. It does so once for a line, and once before a client has
// presented a token, so that nobody can put a deadline off by sending without end. It reads only from a plain socket, which
// needs no deadline for this.
func (c *conn) readArrived() int {
	if c.raw == nil || c.overran {
		return 0
	}
	c.armed, c.overran = 0, true
	n := 0
	_ = c.raw.Control(func(fd uintptr) {
		if c.tryRead(fd) && c.readErr == nil {
			n = c.readN
		}
	})
	return n
}

// putAside returns the batch to the server and keeps the beginning of a line in carry, if it is short.
func (c *conn) putAside() {
	b := c.batch
	if b.w-b.r > carryBytes {
		return
	}
	if b.w > b.r {
		c.carry = append([]byte(nil), b.in[b.r:b.w]...)
	}
	c.server.giveBack(b)
	c.batch = nil
}

// due returns when a deadline of the connection ends, by Server.now.
func (c *conn) due() time.Duration {
	limits := &c.server.config.Limits
	due := c.active + limits.Idle
	if at := c.goawayAt.Load(); at > 0 {
		due = max(c.active, time.Duration(at)) + drainQuiet
	}
	if c.begun > 0 {
		due = min(due, c.begun+limits.LineTimeout)
	}
	if c.identity == nil {
		due = min(due, c.since+task.UnauthenticatedTimeout)
	}
	return due
}

// arm sets the read deadline, unless an earlier one is set. Setting it costs time, and most reads return long
// before it.
func (c *conn) arm() {
	for { // again, since goaway may have been sent meanwhile
		due := c.due()
		if c.armed > 0 && c.armed <= due {
			return
		}
		c.armed = due
		_ = c.nc.SetReadDeadline(c.server.base.Add(due))
	}
}

// overdue acts on a deadline that has passed. An error ends the connection.
func (c *conn) overdue() error {
	now := c.server.now()
	c.armed = 0
	if now < c.due() {
		return nil
	}
	limits := &c.server.config.Limits
	switch {
	case c.begun > 0 && now >= c.begun+limits.LineTimeout:
		return c.refuseLate(lineTimeout(limits.LineTimeout))
	case c.identity == nil:
		return c.refuseLate(task.Refuse(task.Unauthenticated, "no token was presented within %s; send {\"op\":\"auth\",\"token\":…} first", task.UnauthenticatedTimeout))
	case c.out.open() > 0:
		c.active = now // a connection with a request open is not idle
		return nil
	case c.goawayAt.Load() > 0:
		return errLeave
	}
	if ended := c.out.lastEnd(); ended+limits.Idle > now {
		c.active = ended // it is idle since then
		return nil
	}
	c.goaway(codeIdle)
	return nil // requests that cross it are still answered
}

func lineTimeout(limit time.Duration) *task.Error {
	e := task.Refuse(task.LineTimeout, "the line was not complete within %s of its first byte", limit)
	e.Limit = "line-timeout"
	return e
}

func (c *conn) lineTooLong() *task.Error {
	e := task.Refuse(task.LineTooLong, "the line is longer than %d bytes", c.maxLine())
	e.Limit = "max-line"
	return e
}

// refuseLate writes a refusal that ends the connection while nothing is being read. It returns the buffer first,
// since the client may read the refusal slowly.
func (c *conn) refuseLate(e *task.Error) error {
	if c.batch != nil {
		c.server.giveBack(c.batch)
		c.batch = nil
	}
	c.server.stats.refused(e.Code)
	err := c.leaveRefused(e.Code)
	c.out.send(wire.AppendError(nil, nil, e))
	return err
}

// leaveRefused stops reading after a refusal that ends the connection. A WebSocket gets the code, since it can tell
// its client why it closes.
func (c *conn) leaveRefused(code task.Code) error {
	c.linger = true
	if teller, ok := c.nc.(interface{ Refused(code task.Code) }); ok {
		teller.Refused(code)
	}
	return errLeave
}

// goaway asks the client to disconnect, once. It waits for a client that does not read.
func (c *conn) goaway(code task.Code) {
	c.leaving.Do(func() {
		c.goawayAt.Store(int64(max(c.server.now(), 1)))
		c.out.send(wire.AppendGoaway(nil, code, 0))
		_ = c.nc.SetReadDeadline(time.Now().Add(drainQuiet))
	})
}
