package lineapi

import (
	"bytes"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/service"
	"github.com/posta-tasks/posta/task"
)

// acceptance is an enqueue that waits for the end of its batch. All enqueues of a batch share one commit.
type acceptance struct {
	id      []byte
	wait    bool
	bytes   int
	request durable.Request
	who     *auth.Identity
}

// enqueue: {"id":7,"op":"enqueue","action":"upper","payload":"hola","wait":true} → {"id":7,"status":"queued","task":"01J…"}
// and, with wait, {"id":7,"status":"done","task":"01J…","result":{"ok":true,"data":"HOLA"},"attempt":1}
func enqueue(c *conn, b *batch) (bool, error) {
	if c.server.service == nil {
		return unavailable(c, b)
	}
	request, refusal := service.Enqueued(&b.req, c.identity)
	a := acceptance{id: bytes.Clone(b.req.ID), wait: b.req.Options.Wait, bytes: len(b.req.Payload), request: request, who: c.identity}
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

// accept accepts the enqueues of the batch together, in a new goroutine.
func (c *conn) accept(b *batch) {
	list := b.accepts
	b.accepts = nil
	if len(list) == 0 {
		return
	}
	c.server.goroutines.Go(func() {
		requests, held := make([]durable.Request, len(list)), 0
		for i := range list {
			requests[i] = list[i].request
			held += list[i].bytes
		}
		answers := c.server.service.Accept(c.life, list[0].who, requests)
		var lines []byte
		for i := range list {
			if isFinal(&answers[i]) { // its result may be large
				c.out.send(lines)
				lines = lines[:0]
				c.sendFinal(&list[i], &answers[i].Task, answers[i].Duplicate, held+len(list)*requestBytes)
				continue
			}
			if answers[i].Refusal != nil {
				c.server.stats.refused(answers[i].Refusal.Code)
			}
			lines = c.server.service.AppendAccepted(c.life, lines, list[i].id, &answers[i])
		}
		c.out.send(lines)
		fail.Point("accept.answered")
		for i := range list {
			c.push(&list[i], &answers[i])
		}
		c.out.end(len(list), held)
	})
}

// isFinal reports whether the answer is about a task that was accepted before and is finished.
func isFinal(answer *durable.Accepted) bool {
	return answer.Refusal == nil && answer.Task.State.Final()
}

// sendFinal sends the final line of the task, as soon as the budget has room for it. holds is the number of counted
// bytes that the caller returns only after it.
func (c *conn) sendFinal(a *acceptance, t *task.Task, duplicate bool, holds int) {
	reply := replyRoom{conn: c, holds: holds}
	defer reply.give()
	if refusal := reply.take(); refusal != nil {
		c.sendRefusal(a.id, refusal)
		return
	}
	c.out.send(c.server.service.AppendFinal(c.life, nil, a.id, t, service.Final{Duplicate: duplicate}))
}

// push sends the final line when the task is finished, if the client asked for it and has not received it yet.
func (c *conn) push(a *acceptance, answer *durable.Accepted) {
	if !a.wait {
		return
	}
	if answer.Refusal != nil || isFinal(answer) {
		c.out.endWait()
		return
	}
	c.server.goroutines.Go(func() {
		defer c.out.endWait()
		t, refusal := c.server.service.Wait(c.life, answer.Task.ID)
		switch {
		case refusal != nil:
			c.sendRefusal(a.id, refusal)
		case t.State.Final():
			c.sendFinal(a, &t, answer.Duplicate, waitBytes)
		}
	})
}
