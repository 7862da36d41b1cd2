package lineapi

import (
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// What counts against the budget of the node, beside long lines and requests.
const (
	// requestBytes is the memory of a request that is not handled by the reading goroutine.
	requestBytes = 4 << 10
	// waitBytes is the measured memory of a watch. A wait uses 2 KiB less.
	waitBytes = 14 << 10
	// replyBytes is the memory that a reply about tasks may need.
	replyBytes = wire.MaxShown
)

// reserve counts bytes against the budget of the node. It waits for them at most as long as a line may take, and
// reports whether it got them. holds is the number of bytes that the reading goroutine has counted already.
func (c *conn) reserve(bytes, holds int) bool {
	return c.server.budget.TakeWithin(c.life, c.server.config.Limits.LineTimeout, bytes, holds)
}

// admit counts the memory of a request. While the budget is used up, the connection is not read.
func (c *conn) admit(b *batch, bytes int) (*task.Error, error) {
	if c.server.budget.Take(bytes) {
		return nil, nil
	}
	granted := false
	err := c.pause(b, func() { granted = c.reserve(bytes, b.counted) })
	switch {
	case granted && err != nil:
		c.server.budget.Give(bytes)
	case !granted:
		return c.server.budget.Refusal(), err
	}
	return nil, err
}

// awaitRoom waits until the budget is not used up. Otherwise results would add to the replies that clients do not
// read.
func (c *conn) awaitRoom(b *batch) (*task.Error, error) {
	refusal, err := c.admit(b, 1)
	if refusal == nil && err == nil {
		c.server.budget.Give(1)
	}
	return refusal, err
}

// replyRoom is the memory that is counted for a reply until it is sent.
type replyRoom struct {
	conn  *conn
	holds int // counted bytes that the caller returns only after take
	taken bool
}

// take counts a reply before it is made.
func (r *replyRoom) take() *task.Error {
	if r.taken || r.conn.reserve(replyBytes, r.holds) {
		r.taken = true
		return nil
	}
	return r.conn.server.budget.Refusal()
}

// give returns the bytes that take has counted.
func (r *replyRoom) give() {
	if r.taken {
		r.conn.server.budget.Give(replyBytes)
		r.taken = false
	}
}
