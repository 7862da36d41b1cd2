package lineapi

import (
	"github.com/posta-tasks/posta/service"
	"github.com/posta-tasks/posta/wire"
)

// durably takes a request of a durable op out of the batch and has it answered apart from
// the reading.
func durably(c *conn, b *batch) (bool, error) {
	engine := c.server.config.Durable
	if engine == nil {
		return unavailable(c, b)
	}
	r, refusal := service.New(&b.req)
	if refusal != nil {
		return true, c.refuse(b, r.ID, refusal)
	}
	r.Refused = c.server.stats.refused
	if r.Op == wire.OpWait || r.Op == wire.OpWatch {
		return true, c.follow(b, r)
	}
	reply := 0
	switch r.Op {
	case wire.OpGet, wire.OpList, wire.OpQueues:
		reply = replyBytes
		refusal, err := c.admit(b, requestBytes+reply)
		if refusal != nil && err == nil {
			err = c.refuse(b, r.ID, refusal)
		}
		if refusal != nil || err != nil {
			return true, err
		}
	default: // a cancel is what frees a node that has too much to do
		if !c.server.budget.Take(requestBytes) {
			return true, c.pause(b, func() { c.out.send(r.Answer(c.life, engine)) })
		}
	}
	full := c.out.begin(0)
	c.server.apart.Go(func() {
		c.out.send(r.Answer(c.life, engine))
		c.out.giveBack(reply)
		c.out.end(1, 0)
	})
	if full {
		return true, c.pause(b, c.out.await)
	}
	return true, nil
}

// follow has a wait or a watch answered, for as long as it takes.
func (c *conn) follow(b *batch, r *service.Request) error {
	if refusal := c.out.beginWait(); refusal != nil {
		return c.refuse(b, r.ID, refusal)
	}
	c.server.apart.Go(func() {
		defer c.out.endWait()
		reply := room{conn: c}
		defer reply.give()
		r.Room = reply.take
		if r.Op == wire.OpWait {
			c.out.send(r.Answer(c.life, c.server.config.Durable))
		} else {
			r.Watch(c.life, c.server.config.Durable, c.out.send)
		}
	})
	return nil
}
