package lineapi

import (
	"bytes"
	"context"

	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/service"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// acceptance is an enqueue that waits for the end of its batch, so that all of a batch
// share a commit.
type acceptance struct {
	id      []byte
	wait    bool
	bytes   int
	request durable.Request
}

// enqueue: {"id":7,"op":"enqueue","action":"upper","payload":"hola","wait":true} → {"id":7,"status":"queued","task":"01J…"}
// and, with wait, {"id":7,"status":"done","task":"01J…","result":{"ok":true,"data":"HOLA"},"attempt":1}
func enqueue(c *conn, b *batch) (bool, error) {
	if c.server.config.Durable == nil {
		return unavailable(c, b)
	}
	request, refusal := service.Enqueue(&b.req)
	a := acceptance{id: bytes.Clone(b.req.ID), wait: b.req.Options.Wait, bytes: len(b.req.Payload), request: durable.Request(request)}
	if refusal == nil && a.wait {
		refusal = c.out.beginWait()
	}
	if refusal != nil {
		return true, c.refuse(b, b.req.ID, refusal)
	}
	if refusal, err := c.admit(b, requestBytes+a.bytes); refusal != nil || err != nil {
		if a.wait {
			c.out.endWait()
		}
		if err != nil {
			return true, err
		}
		return true, c.refuse(b, b.req.ID, refusal)
	}
	b.accepts = append(b.accepts, a)
	if c.out.begin(a.bytes) {
		c.accept(b)
		return true, c.pause(b, c.out.await)
	}
	return true, nil
}

// accept has the batch's enqueues accepted together, apart from the reading.
func (c *conn) accept(b *batch) {
	list := b.accepts
	b.accepts = nil
	if len(list) == 0 {
		return
	}
	c.server.apart.Go(func() {
		requests, held := make([]durable.Request, len(list)), 0
		for i := range list {
			requests[i] = list[i].request
			held += list[i].bytes
		}
		// A client that has gone takes nothing back.
		answers := c.server.config.Durable.Accept(context.WithoutCancel(c.life), requests)
		var lines []byte
		for i := range list {
			if answers[i].Refusal == nil && answers[i].Task.State.Final() {
				c.out.send(lines)
				c.sendFinal(&list[i], &answers[i].Task, answers[i].Duplicate)
				lines = lines[:0]
				continue
			}
			lines = c.answerAccept(lines, &list[i], &answers[i])
		}
		c.out.send(lines)
		fail.Point("accept.answered")
		for i := range list {
			c.push(&list[i], &answers[i])
		}
		c.out.end(len(list), held)
	})
}

// answerAccept appends the first line of an enqueue.
func (c *conn) answerAccept(dst []byte, a *acceptance, answer *durable.Accepted) []byte {
	if answer.Refusal != nil {
		c.server.stats.refused(answer.Refusal.Code)
		return wire.AppendError(dst, a.id, answer.Refusal)
	}
	return wire.AppendAccepted(dst, a.id, &answer.Task, answer.Duplicate, answer.Warning)
}

// sendFinal sends the final line of an enqueue's task, when there is room for it.
func (c *conn) sendFinal(a *acceptance, t *task.Task, duplicate bool) {
	reply := room{conn: c}
	defer reply.give()
	if refusal := reply.take(); refusal != nil {
		c.server.stats.refused(refusal.Code)
		c.out.send(wire.AppendError(nil, a.id, refusal))
		return
	}
	t.Payload = task.Body{}
	c.server.config.Durable.Show(c.life, t, wire.MaxShown)
	c.out.send(wire.AppendFinal(nil, a.id, t, 0, duplicate))
}

// push has the final line follow when it was asked for and has not been said.
func (c *conn) push(a *acceptance, answer *durable.Accepted) {
	if !a.wait {
		return
	}
	if answer.Refusal != nil || answer.Task.State.Final() {
		c.out.endWait()
		return
	}
	c.server.apart.Go(func() {
		defer c.out.endWait()
		t, refusal := c.server.config.Durable.Wait(c.life, answer.Task.ID)
		switch {
		case refusal != nil:
			c.server.stats.refused(refusal.Code)
			c.out.send(wire.AppendError(nil, a.id, refusal))
		case t.State.Final():
			c.sendFinal(a, &t, answer.Duplicate)
		}
	})
}
