package lineapi

import (
	"github.com/posta-tasks/posta/service"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// durably copies a durable request out of the batch and answers it in a new goroutine.
func durably(c *conn, b *batch) (bool, error) {
	if b.req.Options.Run != nil {
		return true, c.cancelRun(b)
	}
	if c.server.service == nil {
		return unavailable(c, b)
	}
	r, refusal := service.NewRequest(&b.req, c.identity)
	if refusal != nil {
		return true, c.refuse(b, r.ID, refusal)
	}
	reply := 0
	switch r.Op {
	case wire.OpWait:
		return true, c.follow(b, r, c.wait)
	case wire.OpWatch:
		return true, c.follow(b, r, c.watch)
	case wire.OpGet, wire.OpList, wire.OpQueues:
		reply = replyBytes
		refusal, err := c.admit(b, requestBytes+reply)
		if refusal != nil && err == nil {
			err = c.refuse(b, r.ID, refusal)
		}
		if refusal != nil || err != nil {
			return true, err
		}
	default: // a cancel frees a node that has too much to do, so it is never refused
		if !c.server.budget.Take(requestBytes) {
			return true, c.pause(b, func() { c.answer(r) })
		}
	}
	full := c.out.begin(0)
	c.server.goroutines.Go(func() {
		c.answer(r)
		c.out.giveBack(reply)
		c.out.end(1, 0)
	})
	if full {
		return true, c.pause(b, c.out.await)
	}
	return true, nil
}

// answer carries out a request and sends its reply.
func (c *conn) answer(r *service.Request) {
	reply, refusal := c.server.service.Do(c.life, r)
	if refusal != nil {
		c.sendRefusal(r.ID, refusal)
		return
	}
	c.out.send(reply.Line())
}

// sendRefusal sends an error reply. Any goroutine may call it.
func (c *conn) sendRefusal(id []byte, refusal *task.Error) {
	c.server.stats.refused(refusal.Code)
	c.out.send(wire.AppendError(nil, id, refusal))
}

// follow answers a wait or a watch in a new goroutine, which may take long.
func (c *conn) follow(b *batch, r *service.Request, until func(*service.Request)) error {
	if refusal := c.out.beginWait(); refusal != nil {
		return c.refuse(b, r.ID, refusal)
	}
	c.server.goroutines.Go(func() {
		defer c.out.endWait()
		until(r)
	})
	return nil
}

// wait answers a wait.
func (c *conn) wait(r *service.Request) {
	reply := replyRoom{conn: c, holds: waitBytes}
	defer reply.give()
	r.Room = reply.take
	c.answer(r)
}

// watch sends a line for each event until the task is finished.
func (c *conn) watch(r *service.Request) {
	reply := replyRoom{conn: c, holds: waitBytes}
	defer reply.give()
	for event, refusal := range c.server.service.Watch(c.life, r) {
		if refusal == nil && event.Final != nil {
			refusal = reply.take()
		}
		if refusal != nil {
			c.sendRefusal(r.ID, refusal)
		} else {
			c.out.send(c.server.service.AppendEvent(c.life, nil, r, &event))
		}
	}
}
