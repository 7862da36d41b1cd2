package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"time"
)

// loadReadBytes is the size of the read buffer of a connection. One read takes all replies that have arrived.
const loadReadBytes = 64 << 10

// loadConn is a connection that keeps a fixed number of tasks unanswered. The id of each is the index of its
// request line.
type loadConn struct {
	load    *load
	conn    net.Conn
	replies *bufio.Reader
	sent    []time.Duration // when each task was sent, since the start; by id
	free    []int           // ids without an unanswered task
	out     []byte          // the requests of the next write
	long    []byte          // a reply that is larger than the read buffer
	latency histogram
	failed  int64
	fault   string // why the first task failed
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

// work sends and reads until all tasks are sent and answered.
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

// send writes requests for all free ids, as many as are still allowed, in one write.
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

// receive waits for a reply, and also handles all replies that came with it. It reads the clock once for all of
// them. It returns the number of tasks that they answered.
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

// read returns the next reply line, which is valid until the next read.
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

// more reports whether another complete reply has been read from the socket.
func (c *loadConn) more() bool {
	text, err := c.replies.Peek(c.replies.Buffered())
	return err == nil && bytes.IndexByte(text, '\n') >= 0
}

// answered handles one reply and reports whether it answers its task.
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

// idNumber parses the digits of an id.
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
