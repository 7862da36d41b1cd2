package lineapi

import (
	"bytes"

	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/wire"
)

const (
	// batchBytes is the size of a read buffer: enough for a deep pipeline in one read.
	batchBytes = 64 << 10
	// flushBytes is how many bytes of replies are collected before they are written.
	flushBytes = 64 << 10
	// carryBytes is the longest part of a line that is copied out of the buffer while the connection waits for the
	// rest. A longer part stays in the buffer.
	carryBytes = 8 << 10
)

// batch has what a goroutine needs to handle lines of a connection. A connection borrows it only while it has
// lines, so that an idle connection uses no buffer.
type batch struct {
	conn *conn
	lane *executor.Lane
	req  wire.Request
	in   []byte // the bytes that were read
	r, w int    // in[r:w] is not handled yet
	scan int    // in[r:scan] has no line ending
	out  []byte // replies not yet written

	counted int // bytes of in that count against the budget: all while a long line is incomplete, otherwise none

	accepts []acceptance // enqueues that the engine does not have yet
}

func (s *Server) newBatch() *batch {
	b := &batch{lane: s.config.Executor.NewLane(), in: make([]byte, batchBytes)}
	b.lane.HandOver = func() { b.conn.handOver(b) }
	b.lane.Deliver = func(t executor.Task, result []byte) { b.conn.deliver(t, result) }
	return b
}

// borrow returns a batch for the connection. It begins with the bytes that putAside kept.
func (s *Server) borrow(c *conn) *batch {
	b := s.batches.Get().(*batch)
	b.conn = c
	b.lane.Bind(c.source)
	b.r, b.scan = 0, 0
	b.w = copy(b.in, c.carry)
	c.carry = nil
	return b
}

// giveBack ends a borrow. A buffer that has grown is not reused.
func (s *Server) giveBack(b *batch) {
	b.conn = nil
	b.lane.Bind(nil)
	if cap(b.out) > 2*flushBytes {
		b.out = nil
	}
	if b.counted > 0 {
		s.budget.Give(b.counted)
		b.counted = 0
	}
	if len(b.in) > batchBytes {
		b.in = make([]byte, batchBytes)
	}
	s.batches.Put(b)
}

// needs returns how many more bytes must be counted before the rest of a line is read: the whole buffer when the
// connection begins to hold it, and each growth.
func (b *batch) needs() int {
	needed := 0
	if b.w-b.r > carryBytes {
		needed = len(b.in) - b.counted
	}
	if b.r == 0 && b.w == len(b.in) {
		needed += len(b.in)
	}
	return needed
}

// makeRoom makes space for more bytes after in[:w].
func (b *batch) makeRoom() {
	if b.r == b.w {
		b.r, b.w, b.scan = 0, 0, 0
	}
	if b.w < len(b.in) {
		return
	}
	from := b.in
	if b.r == 0 {
		b.in = make([]byte, 2*len(from))
	}
	n := copy(b.in, from[b.r:b.w])
	b.scan, b.r, b.w = b.scan-b.r, 0, n
}

// line returns the next whole line, without its line ending.
func (b *batch) line() (line []byte, ok bool) {
	i := bytes.IndexByte(b.in[b.scan:b.w], '\n')
	if i < 0 {
		b.scan = b.w
		return nil, false
	}
	line = b.in[b.r : b.scan+i]
	b.r = b.scan + i + 1
	b.scan = b.r
	return trim(line), true
}

// rest returns the bytes after the last line ending.
func (b *batch) rest() []byte {
	line := trim(b.in[b.r:b.w])
	b.r, b.scan = b.w, b.w
	return line
}

// trim removes a carriage return before the line feed.
func trim(line []byte) []byte {
	if n := len(line); n > 0 && line[n-1] == '\r' {
		return line[:n-1]
	}
	return line
}

// isBlank reports whether a line has only white space.
func isBlank(line []byte) bool {
	for _, c := range line {
		if c != ' ' && c != '\t' && c != '\r' {
			return false
		}
	}
	return true
}
