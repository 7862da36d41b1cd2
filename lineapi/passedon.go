package lineapi

import (
	"bytes"
	"context"
	"sync"

	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// passedOn are the open runs of a connection that another node has passed on.
type passedOn struct {
	mu    sync.Mutex // guards the fields below
	open  map[*passedRun]struct{}
	ended bool // a run that comes now is cancelled at once
}

// passedRun is such a run.
type passedRun struct {
	id     []byte // raw JSON; nil when absent
	cancel context.CancelFunc
}

func (p *passedOn) add(r *passedRun) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		r.cancel()
		return
	}
	if p.open == nil {
		p.open = map[*passedRun]struct{}{}
	}
	p.open[r] = struct{}{}
}

func (p *passedOn) remove(r *passedRun) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, r)
}

// cancel cancels the runs with an id. It returns false if there is none.
func (p *passedOn) cancel(id []byte) (found bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for r := range p.open {
		if bytes.Equal(r.id, id) {
			r.cancel()
			found = true
		}
	}
	return found
}

// end cancels all runs, since the connection is over.
func (p *passedOn) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	for r := range p.open {
		r.cancel()
	}
}

// runPassedOn answers a run that another node has passed on:
// {"id":1,"op":"run","action":"resize","passed_on":"missing"} → {"id":1,"status":"done","result":{"ok":true,…}}
//
// The mark gives no rights: it only keeps this node from passing the run on again. A client that sends it is refused where
// it would otherwise wait or be served by another node.
func (c *conn) runPassedOn(b *batch) error {
	r := &b.req
	if refusal, err := c.admit(b, requestBytes+len(r.Payload)); err != nil {
		return err
	} else if refusal != nil {
		return c.refuse(b, r.ID, refusal)
	}
	t := executor.Task{
		ID: bytes.Clone(r.ID), Action: bytes.Clone(r.Action), Payload: bytes.Clone(r.Payload), Timeout: r.Timeout, PassedOn: r.PassedOn,
	}
	full := c.out.begin(len(t.Payload))
	ctx, cancel := context.WithCancel(c.server.forced)
	run := &passedRun{t.ID, cancel}
	c.passed.add(run)
	c.server.goroutines.Go(func() {
		defer cancel()
		result, refusal := c.server.config.Executor.Run(ctx, t)
		cancelled := ctx.Err() != nil
		c.passed.remove(run)
		switch {
		case refusal == nil:
			c.deliver(t, result)
		case cancelled:
			c.deliver(t, executor.FailedResult("cancelled"))
		default:
			c.refused(t, refusal)
		}
	})
	if full {
		return c.pause(b, c.out.await)
	}
	return nil
}

// cancelRun cancels a run of this connection that was passed on:
// {"id":2,"op":"cancel","run":1} → {"id":2,"status":"cancelling"}
func (c *conn) cancelRun(b *batch) error {
	r := &b.req
	if !c.passed.cancel(r.Options.Run) {
		return c.refuse(b, r.ID, task.RefuseField(task.NotFound, "run", "this connection has no run %s that a node has passed on", r.Options.Run))
	}
	b.out = wire.AppendCancelling(b.out, r.ID)
	return nil
}
