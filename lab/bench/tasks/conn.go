package tasks

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net"
	"time"

	"github.com/posta-tasks/posta/lab/bench/load"
)

const (
	connBuffer = 64 << 10
	// replyTime is the timeout of one reply.
	replyTime = 30 * time.Second

	ackHead = `{"id":1,"status":"queued","task":"`
	ackTail = `"}` + "\n"
	idWidth = 26
	ackSize = len(ackHead) + idWidth + len(ackTail)
)

// conn enqueues over one connection. It keeps depth requests unanswered, and sends as many as were answered in one
// write. All have the same id, so that they can be rendered in advance and the load costs little.
type conn struct {
	net.Conn
	in    *bufio.Reader
	lines []byte // depth requests
	size  int    // bytes of one
	depth int
	most  int
	acked int
	some  []string
}

func dial(ctx context.Context, addr string, r Round) (*conn, error) {
	var dialer net.Dialer
	tcp, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: tcp, in: bufio.NewReaderSize(tcp, connBuffer), depth: r.Depth, most: r.Most}
	request := fmt.Sprintf(`{"id":1,"op":"enqueue","action":%q,"payload":"hola","queue":%q,"keep":%g}`+"\n", cmp.Or(r.Action, "upper"), r.Queue, r.Keep)
	c.lines, c.size = bytes.Repeat([]byte(request), r.Depth), len(request)
	return c, nil
}

// run enqueues until the time is over or all tasks are sent, then reads the outstanding replies.
func (c *conn) run(end time.Time) error {
	sent := 0
	for open, free := 0, c.depth; ; {
		if c.most > 0 {
			free = min(free, c.most-sent)
		}
		if free > 0 && time.Now().Before(end) {
			if err := c.send(free); err != nil {
				return err
			}
			sent, open = sent+free, open+free
		}
		if open == 0 {
			return nil
		}
		n, err := c.receive()
		if err != nil {
			return fmt.Errorf("%d acknowledgements are missing: %w", open, err)
		}
		open, free = open-n, n
		c.acked += n
	}
}

func (c *conn) send(n int) error {
	if err := c.SetDeadline(time.Now().Add(replyTime)); err != nil {
		return err
	}
	_, err := c.Write(c.lines[:n*c.size])
	return err
}

// receive waits for an acknowledgement and reads all that came with it.
func (c *conn) receive() (int, error) {
	for n := 0; ; {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return n, err
		}
		if len(line) != ackSize || string(line[:len(ackHead)]) != ackHead || string(line[ackSize-len(ackTail):]) != ackTail {
			return n, load.Unexpected(line)
		}
		c.keep(string(line[len(ackHead):len(ackHead)+idWidth]), n)
		n++
		ready, err := c.in.Peek(c.in.Buffered())
		if err != nil || bytes.IndexByte(ready, '\n') < 0 {
			return n, nil
		}
	}
}

// keep keeps a few ids: the first ones, and later sometimes one in place of another.
func (c *conn) keep(id string, n int) {
	switch at := c.acked + n; {
	case len(c.some) < sampled:
		c.some = append(c.some, id)
	case at%101 == 0:
		c.some[at/101%sampled] = id
	}
}
