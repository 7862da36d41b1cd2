package client

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/posta-tasks/posta/client/link"
)

// keptLines is how many lines of a reply are kept for a caller that is slow. One that is
// slower is cut off, and asks again from where it was.
const keptLines = 256

// follower is a call whose reply has several lines. It is used once, since a line may
// still come when it has been abandoned.
type follower struct {
	call
	news chan struct{} // holds one

	mu      sync.Mutex // guards what follows; no other lock is taken while it is held
	lines   [][]byte   // that were heard and not taken
	cut     bool       // more lines came than are kept
	settled bool
}

func newFollower(shape link.Shape) *follower {
	f := &follower{news: make(chan struct{}, 1)}
	f.Owner, f.Heard, f.Shape = f, f.heard, shape
	return f
}

// heard keeps a line.
func (f *follower) heard(line []byte) {
	f.mu.Lock()
	f.cut = f.cut || len(f.lines) == keptLines
	if !f.cut {
		f.lines = append(f.lines, line)
	}
	f.mu.Unlock()
	f.wake()
}

// Settled wakes the one who follows.
func (f *follower) Settled() {
	f.mu.Lock()
	f.settled = true
	f.mu.Unlock()
	f.wake()
}

func (f *follower) wake() {
	select {
	case f.news <- struct{}{}:
	default:
	}
}

// take gives the lines that have come, and says whether there will be more.
func (f *follower) take() (lines [][]byte, over bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	lines, f.lines = f.lines, nil
	return lines, f.settled || f.cut
}

// ending says why following a call has ended.
type ending uint8

const (
	settled ending = iota // the call has come back
	cutOff                // lines were lost
	left                  // the caller has enough
	gone                  // ctx ended
)

// follow sends the call and hands on the lines that come, those that came together at
// once, until take has enough. The last line is in the call itself. Unless it has come
// back, the call is abandoned; err is then that of ctx.
func (c *Client) follow(ctx context.Context, f *follower, take func(lines [][]byte) bool) (ending, error) {
	c.links.Submit(&f.Call)
	for {
		lines, over := f.take()
		if len(lines) > 0 && !take(lines) {
			c.abandon(f)
			return left, nil
		}
		if over && len(lines) == 0 {
			return c.end(f), nil
		}
		if over {
			continue
		}
		select {
		case <-f.news:
		case <-ctx.Done():
			handedOn, ours := c.links.Abandon(&f.Call)
			if ours {
				return gone, f.gaveUp(ctx, handedOn)
			}
			f.await()
		}
	}
}

// end says how a call is over of which no more lines are taken.
func (c *Client) end(f *follower) ending {
	f.mu.Lock()
	cut := f.cut
	f.mu.Unlock()
	if !cut {
		return settled
	}
	c.abandon(f)
	return cutOff
}

// abandon takes the call back unless it has come back already.
func (c *Client) abandon(f *follower) {
	if _, ours := c.links.Abandon(&f.Call); !ours {
		f.await()
	}
}

// await waits for a call that is about to come back.
func (f *follower) await() {
	for {
		f.mu.Lock()
		back := f.settled
		f.mu.Unlock()
		if back {
			return
		}
		<-f.news
	}
}

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
	if err := ctx.Err(); err != nil {
		return Final{}, fmt.Errorf("not sent: %w", err)
	}
	p := &push{c: c, request: EnqueueRequest{action, raw, o}, accepted: accepted}
	for {
		final, again, err := p.try(ctx)
		if !again {
			return final, err
		}
	}
}

// push is one EnqueueWait.
type push struct {
	c             *Client
	request       EnqueueRequest
	accepted      func(Accepted)
	task          Accepted
	broken        error // the first line could not be understood
	tries, losses int
}

// try sends the task once. again says that it should be sent once more.
func (p *push) try(ctx context.Context) (final Final, again bool, err error) {
	f := newFollower(link.Accept)
	f.tries, f.losses = p.tries, p.losses
	if err := p.c.enqueueLineWith(&f.call, &p.request, `,"wait":true`); err != nil {
		return Final{}, false, err
	}
	end, err := p.c.follow(ctx, f, func(lines [][]byte) bool {
		p.broken = json.Unmarshal(lines[0], &p.task)
		if p.broken == nil && p.accepted != nil {
			p.accepted(p.task)
		}
		return p.broken == nil
	})
	switch {
	case p.broken != nil:
		return Final{}, false, fmt.Errorf("the server sent what cannot be understood: %w", p.broken)
	case p.task.Task != "" && end == gone:
		return p.standing(), false, fmt.Errorf("the task was accepted, and not finished in time: %w", ctx.Err())
	case end != settled:
		return Final{}, false, err
	case f.Fate == link.Answered && f.Err == nil:
		return p.last(f)
	case p.task.Task != "":
		return p.elsewhere(ctx)
	}
	pause, again := f.again()
	p.tries, p.losses = f.tries, f.losses
	if !again {
		_, err = f.outcome()
		return Final{}, false, err
	}
	if err := p.c.sleep(ctx, pause); err != nil {
		return Final{}, false, stopped(err, &f.call)
	}
	return Final{}, true, nil
}

// standing names the task that was accepted.
func (p *push) standing() Final {
	return Final{Task: p.task.Task, State: p.task.State, Duplicate: p.task.Duplicate}
}

// last reads the final line; of a duplicate it may be the only one.
func (p *push) last(f *follower) (final Final, again bool, err error) {
	if err := json.Unmarshal(f.Result, &final); err != nil {
		return p.standing(), false, fmt.Errorf("the server sent what cannot be understood: %w", err)
	}
	if p.task.Task == "" && p.accepted != nil {
		p.accepted(Accepted{Task: final.Task, State: final.State, Duplicate: final.Duplicate})
	}
	return final, false, nil
}

// elsewhere waits for an accepted task whose push was lost.
func (p *push) elsewhere(ctx context.Context) (final Final, again bool, err error) {
	r, err := p.c.Wait(ctx, p.task.Task)
	if err != nil {
		return p.standing(), false, fmt.Errorf("the task was accepted: %w", err)
	}
	return Final{r.Task, r.State, r.Result, r.Error, r.Code, r.Attempt, p.task.Duplicate}, false, nil
}
