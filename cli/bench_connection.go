package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"time"
)

// loadReadBytes is a connection's read buffer: a read takes all replies that wait.
const loadReadBytes = 64 << 10

// A loadConn keeps a fixed number of tasks unanswered, each under the id of its place
// in the list of request lines.
type loadConn struct {
	load    *load
	conn    net.Conn
	replies *bufio.Reader
	sent    []time.Duration // when, since the start; by id
	free    []int           // ids that were answered
	out     []byte          // what is about to be written
	long    []byte          // a reply that is longer than the buffer
	latency histogram
	failed  int64
	fault   string // of the first failure
}

func newLoadConn(l *load, conn net.Conn) *loadConn {
	c := &loadConn{
		load: l, conn: conn, replies: bufio.NewReaderSize(conn, loadReadBytes),
		sent: make([]time.Duration, len(l.config.Lines)),
	}
	for id := range c.sent {
		c.free = append(c.free, id)
	}
	return c
}

// work sends and reads until there are no more tasks and all is answered.
func (c *loadConn) work(start time.Time) error {
	if duration := c.load.config.Duration; duration > 0 {
		if err := c.conn.SetDeadline(start.Add(duration + loadGrace)); err != nil {
			return c.load.config.Lost(err)
		}
	}
	open := 0
	for {
		n, err := c.send(start)
		if err != nil {
			return c.load.config.Lost(err)
		}
		open += n
		if open == 0 {
			return nil
		}
		answered, err := c.receive(start, open)
		if err != nil {
			return err
		}
		open -= answered
		c.load.done.Add(int64(answered))
	}
}

// send writes as many requests as are free and allowed, in one write.
func (c *loadConn) send(start time.Time) (int, error) {
	n := c.load.take(len(c.free))
	if n == 0 {
		return 0, nil
	}
	c.out = c.out[:0]
	now := time.Since(start)
	for _, id := range c.free[:n] {
		c.out = append(c.out, c.load.config.Lines[id]...)
		c.sent[id] = now
	}
	c.free = c.free[:copy(c.free, c.free[n:])]
	_, err := c.conn.Write(c.out)
	return n, err
}

// receive waits for a reply and takes all that have come with it. One reading of the
// clock serves them all. It gives the number of tasks that they answered.
func (c *loadConn) receive(start time.Time, open int) (int, error) {
	now, n := time.Duration(0), 0
	for first := true; first || n < open && c.more(); first = false {
		line, err := c.read()
		if err != nil {
			return n, c.load.config.Lost(err)
		}
		if first {
			now = time.Since(start)
		}
		answered, err := c.answered(line, now)
		if err != nil {
			return n, err
		}
		if answered {
			n++
		}
	}
	return n, nil
}

// read returns the next reply line; it is valid until the next read.
func (c *loadConn) read() ([]byte, error) {
	line, err := c.replies.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, err
	}
	c.long = c.long[:0]
	for errors.Is(err, bufio.ErrBufferFull) {
		c.long = append(c.long, line...)
		line, err = c.replies.ReadSlice('\n')
	}
	c.long = append(c.long, line...)
	return c.long, err
}

// more reports whether a whole reply has been read from the socket already.
func (c *loadConn) more() bool {
	text, err := c.replies.Peek(c.replies.Buffered())
	return err == nil && bytes.IndexByte(text, '\n') >= 0
}

// answered counts one reply, and tells whether it answers its task.
func (c *loadConn) answered(line []byte, now time.Duration) (bool, error) {
	raw, fault, err := c.load.config.Judge(line)
	if err != nil || raw == nil {
		return false, err
	}
	id, ok := idNumber(raw)
	if !ok || id >= len(c.sent) {
		return false, fmt.Errorf("a reply has the id %.40q, which was not sent", raw)
	}
	if fault != "" {
		c.failed++
		if c.fault == "" {
			c.fault = fault
		}
	}
	c.latency.Record(now - c.sent[id])
	c.free = append(c.free, id)
	return true, nil
}

// idNumber reads the digits of an id.
func idNumber(text []byte) (int, bool) {
	n := 0
	for _, digit := range text {
		if digit < '0' || digit > '9' || n > maxBenchDepth {
			return 0, false
		}
		n = n*10 + int(digit-'0')
	}
	return n, len(text) > 0
}
