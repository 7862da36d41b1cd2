package lineapi

import (
	"time"

	"github.com/posta-tasks/posta/lineapi/answers"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// durably takes a request of a durable op out of the batch and has it answered apart from
// the reading.
func durably(c *conn, b *batch) (bool, error) {
	engine := c.server.config.Durable
	if engine == nil {
		return unavailable(c, b)
	}
	r, refusal := answers.New(&b.req)
	if refusal != nil {
		return true, c.refuse(b, r.ID, refusal)
	}
	r.Refused = c.server.stats.refused
	if r.Op == wire.OpWait || r.Op == wire.OpWatch {
		return true, c.follow(b, r)
	}
	full := c.out.begin(0)
	c.server.apart.Go(func() {
		c.out.send(r.Answer(c.life, engine))
		c.out.end(1, 0)
	})
	if full {
		return true, c.pause(b, c.out.await)
	}
	return true, nil
}

// follow has a wait or a watch answered, for as long as it takes.
func (c *conn) follow(b *batch, r *answers.Request) error {
	if !c.out.beginWait() {
		return c.refuse(b, r.ID, c.tooManyWaits())
	}
	c.server.apart.Go(func() {
		defer c.out.endWait()
		if r.Op == wire.OpWait {
			c.out.send(r.Answer(c.life, c.server.config.Durable))
		} else {
			r.Watch(c.life, c.server.config.Durable, c.out.send)
		}
	})
	return nil
}

func (c *conn) tooManyWaits() *task.Error {
	limit := c.server.config.Limits.Waits
	e := task.Refuse(task.Overloaded, "the connection has %d waits and watches open, its limit", limit)
	e.Limit, e.RetryAfter = "max-waits", time.Second
	return e
}
