package lineapi

import (
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// What counts against the node's budget, beside the bytes of long lines and of requests.
const (
	// requestBytes is what a request costs that is worked on apart from the reading.
	requestBytes = 4 << 10
	// waitBytes is what a watch costs by measurement; a wait costs 2 KiB less.
	waitBytes = 14 << 10
	// replyBytes is what a reply about tasks may need.
	replyBytes = wire.MaxShown
)

// reserve counts bytes against the budget of the node. It waits for them as long as a line may take, and
// reports whether it got them. The reading holds so many already.
func (c *conn) reserve(bytes, holds int) bool {
	return c.server.budget.TakeWithin(c.life, c.server.config.Limits.LineTimeout, bytes, holds)
}

// admit counts what a request will make the node hold. While there is no room, the connection is not read.
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

// awaitRoom waits until the budget is not used up, so that results do not add to what clients do not read.
func (c *conn) awaitRoom(b *batch) (*task.Error, error) {
	refusal, err := c.admit(b, 1)
	if refusal == nil && err == nil {
		c.server.budget.Give(1)
	}
	return refusal, err
}

// room is what replies of one request count until they are sent.
type room struct {
	conn  *conn
	taken bool
}

// take counts a reply that is about to be made.
func (r *room) take() *task.Error {
	if r.taken || r.conn.reserve(replyBytes, 0) {
		r.taken = true
		return nil
	}
	return r.conn.server.budget.Refusal()
}

// give returns what take has counted.
func (r *room) give() {
	if r.taken {
		r.conn.server.budget.Give(replyBytes)
		r.taken = false
	}
}
