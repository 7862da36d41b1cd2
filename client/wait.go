package client

import (
	"context"
	"fmt"
)

// EnqueueWait is Enqueue followed by Wait, in one request. When the task is accepted, it
// calls accepted, unless that is nil, with what Enqueue would have returned. A later error
// affects only the waiting: the task continues, and the Final names it. If the node drains
// or the connection ends, EnqueueWait waits for the task on another connection, like Wait.
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
	w := &enqueueWait{c: c, request: EnqueueRequest{action, raw, o}, accepted: accepted}
	for {
		again, err := w.try(ctx)
		if !again {
			return w.final, err
		}
	}
}

// enqueueWait is the state of one EnqueueWait.
type enqueueWait struct {
	c        *Client
	request  EnqueueRequest
	accepted func(Accepted)
	final    Final // names the task once it is accepted
	broken   error // the error of an invalid first line
	past     resends
}

// try sends the task once, and reports whether to send it again.
func (w *enqueueWait) try(ctx context.Context) (again bool, err error) {
	if err := checkContext(ctx); err != nil {
		return false, err
	}
	f := newFollower(shapeAccept, w.past)
	if err := w.c.enqueueLine(&f.call, &w.request); err != nil {
		return false, err
	}
	end, err := w.c.follow(ctx, f, func(lines [][]byte) bool { return w.first(lines[0]) })
	known := w.final.Task != ""
	switch {
	case w.broken != nil:
		return false, w.broken
	case known && end == endContext:
		return false, fmt.Errorf("the task was accepted, and not finished in time: %w", ctx.Err())
	case end != endSettled:
		return false, err
	case f.fate == answered && f.err == nil:
		return false, w.last(f.result, known)
	case known:
		return false, w.elsewhere(ctx)
	}
	again, err = w.c.retry(ctx, f)
	w.past = f.resends()
	return again, err
}

// first handles the line of the accepted task.
func (w *enqueueWait) first(line []byte) bool {
	var a Accepted
	if w.broken = parseReply(line, &a); w.broken != nil {
		return false
	}
	w.final = Final{Task: a.Task, State: a.State, Duplicate: a.Duplicate}
	w.accepted(a)
	return true
}

// last handles the final line. For a duplicate it may be the only line.
func (w *enqueueWait) last(line []byte, known bool) error {
	var final Final
	if err := parseReply(line, &final); err != nil {
		return err
	}
	w.final = final
	if !known {
		w.accepted(Accepted{Task: final.Task, State: final.State, Duplicate: final.Duplicate})
	}
	return nil
}

// elsewhere waits for an accepted task whose reply was lost.
func (w *enqueueWait) elsewhere(ctx context.Context) error {
	r, err := w.c.Wait(ctx, w.final.Task)
	if err != nil {
		return fmt.Errorf("the task was accepted: %w", err)
	}
	w.final = Final{r.Task, r.State, r.Result, r.Error, r.Code, r.Attempt, w.final.Duplicate}
	return nil
}
