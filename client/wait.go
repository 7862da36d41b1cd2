package client

import (
	"context"
	"fmt"
)

// EnqueueWait is Enqueue, and waits until the task is finished: the server says so on
// the same connection. As soon as the task is accepted, accepted is called with what
// Enqueue would have returned; nil: nobody wants to know. From then on an error is about
// the waiting only, the task lives on, and the Final names it. A node that drains, or a
// connection that ends, makes the Client wait for the task elsewhere, as Wait does.
func (c *Client) EnqueueWait(
	ctx context.Context, action string, payload any, o EnqueueOptions, accepted func(Accepted),
) (Final, error) {
	raw, err := marshal(nil, payload)
	if err != nil {
		return Final{}, err
	}
	if accepted == nil {
		accepted = func(Accepted) {}
	}
	p := &push{c: c, request: EnqueueRequest{action, raw, o}, accepted: accepted}
	for {
		again, err := p.try(ctx)
		if !again {
			return p.final, err
		}
	}
}

// push is one EnqueueWait.
type push struct {
	c        *Client
	request  EnqueueRequest
	accepted func(Accepted)
	final    Final // from the first line on it names the task
	broken   error // the first line could not be understood
	past     resends
}

// try sends the task once, and tells whether it should be sent once more.
func (p *push) try(ctx context.Context) (again bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, fmt.Errorf("not sent: %w", err)
	}
	f := newFollower(shapeAccept, p.past)
	if err := p.c.enqueueLine(&f.call, &p.request); err != nil {
		return false, err
	}
	end, err := p.c.follow(ctx, f, func(lines [][]byte) bool { return p.first(lines[0]) })
	known := p.final.Task != ""
	switch {
	case p.broken != nil:
		return false, p.broken
	case known && end == endContext:
		return false, fmt.Errorf("the task was accepted, and not finished in time: %w", ctx.Err())
	case end != endSettled:
		return false, err
	case f.fate == answered && f.err == nil:
		return false, p.last(f.result, known)
	case known:
		return false, p.elsewhere(ctx)
	}
	again, err = p.c.retry(ctx, f)
	p.past = f.resends()
	return again, err
}

// first reads the line that says that the task is accepted.
func (p *push) first(line []byte) bool {
	var a Accepted
	if p.broken = understand(line, &a); p.broken != nil {
		return false
	}
	p.final = Final{Task: a.Task, State: a.State, Duplicate: a.Duplicate}
	p.accepted(a)
	return true
}

// last reads the final line; of a duplicate it may be the only one.
func (p *push) last(line []byte, known bool) error {
	var final Final
	if err := understand(line, &final); err != nil {
		return err
	}
	p.final = final
	if !known {
		p.accepted(Accepted{Task: final.Task, State: final.State, Duplicate: final.Duplicate})
	}
	return nil
}

// elsewhere waits for an accepted task whose push was lost.
func (p *push) elsewhere(ctx context.Context) error {
	r, err := p.c.Wait(ctx, p.final.Task)
	if err != nil {
		return fmt.Errorf("the task was accepted: %w", err)
	}
	p.final = Final{r.Task, r.State, r.Result, r.Error, r.Code, r.Attempt, p.final.Duplicate}
	return nil
}
