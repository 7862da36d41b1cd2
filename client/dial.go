package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// The ids of the handshake's lines.
const (
	authID = 1
	pingID = 2
)

// connect starts the dialer when another connection is wanted and may be opened. mu
// is held.
func (c *Client) connect() {
	if c.closed || c.dialing.Load() || len(*c.ready.Load()) >= c.cfg.Connections {
		return
	}
	c.dialing.Store(true)
	c.running.Go(c.dial)
}

// grow opens another connection, since all were busy. It is called for every call that
// found them so, hence looks without the lock first.
func (c *Client) grow() {
	if c.dialing.Load() || len(*c.ready.Load()) >= c.cfg.Connections {
		return
	}
	c.mu.Lock()
	c.connect()
	c.mu.Unlock()
}

// dial opens connections, one after the other, as long as calls wait for one.
func (c *Client) dial() {
	for {
		if !c.pauseBeforeDial() {
			return
		}
		ctx, cancel := context.WithTimeout(c.ctx, c.cfg.DialTimeout)
		n, err := c.handshake(ctx)
		cancel()
		if err != nil {
			err = fmt.Errorf("connect to %s: %w", c.peer(), err)
		}
		if !c.dialed(n, err) {
			return
		}
	}
}

// peer names the other end in errors.
func (c *Client) peer() string {
	if c.cfg.Addr == "" {
		return "the server"
	}
	return c.cfg.Addr
}

// pauseBeforeDial waits until the next attempt may begin; false means that the Client
// was closed.
func (c *Client) pauseBeforeDial() bool {
	c.mu.Lock()
	pause := time.Until(c.notBefore)
	c.mu.Unlock()
	if pause <= 0 {
		return c.ctx.Err() == nil
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.ctx.Done():
		return false
	}
}

// handshake dials, authenticates and pings, so that no task meets a server that does
// not answer.
func (c *Client) handshake(ctx context.Context) (*conn, error) {
	nc, err := c.cfg.Dial(ctx)
	if err != nil {
		return nil, err
	}
	undo := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	n := newConn(c, nc)
	err = n.greet(c.cfg.Token)
	if !undo() {
		err = errors.Join(ctx.Err(), err)
	}
	if err != nil {
		_ = nc.Close()
		return nil, err
	}
	return n, nil
}

// greet sends the handshake in one write and reads its replies.
func (n *conn) greet(token string) error {
	first := uint64(pingID)
	var lines []byte
	if token != "" {
		first = authID
		lines = append(lines, `{"id":1,"op":"auth","token":`...)
		lines = append(wire.AppendString(lines, token), "}\n"...)
	}
	lines = append(lines, `{"id":2,"op":"ping"}`+"\n"...)
	n.lastID = pingID
	for id := first; id <= pingID; id++ {
		n.pending[id] = due{}
	}
	if _, err := n.net.Write(lines); err != nil {
		return err
	}
	var reply wire.Reply
	for len(n.pending) > 0 {
		line, ok := n.lines.next()
		if !ok {
			if err := n.lines.more(); err != nil {
				return readError(err)
			}
			continue
		}
		if len(line) == 0 {
			continue
		}
		if err := n.greeted(&reply, line); err != nil {
			return err
		}
	}
	return nil
}

// greeted takes one reply of the handshake.
func (n *conn) greeted(reply *wire.Reply, line []byte) error {
	if len(line) > n.lines.limit {
		return tooLong(n.lines.limit)
	}
	if err := reply.Parse(line); err != nil {
		return fmt.Errorf("what answers is no Posta server: %w", err)
	}
	switch {
	case reply.Status == wire.StatusGoaway:
		return errLeft
	case reply.Status == wire.StatusError:
		return reply.Refusal()
	}
	id, known := replyID(reply.ID)
	if _, pending := n.pending[id]; !known || !pending {
		return fmt.Errorf("the server sent a reply with the unknown id %q", reply.ID)
	}
	delete(n.pending, id)
	return nil
}

// dialed takes what an attempt brought, and tells whether to try for another.
func (c *Client) dialed(n *conn, err error) bool {
	c.mu.Lock()
	var givenUp []*call
	again := false
	switch {
	case c.closed:
		if n != nil {
			_ = n.net.Close()
		}
	case err != nil:
		c.failure(err)
		givenUp = c.impatient(err)
		again = c.backlog.length > 0
	default:
		c.adopt(n)
		again = c.backlog.length > 0 && len(*c.ready.Load()) < c.cfg.Connections
	}
	if !again {
		c.dialing.Store(false)
	}
	c.mu.Unlock()
	for _, k := range givenUp {
		k.settle(failed, err)
	}
	return again
}

// adopt puts a connection to use. mu is held.
func (c *Client) adopt(n *conn) {
	c.open[n] = struct{}{}
	ready := append(slices.Clone(*c.ready.Load()), n)
	c.ready.Store(&ready)
	_ = n.net.SetDeadline(time.Time{})
	c.running.Go(n.write)
	c.running.Go(n.read)
	c.feed()
}

// impatient takes out the calls that have waited long enough for a connection: all of
// them when the server said that trying again is pointless. mu is held.
func (c *Client) impatient(err error) []*call {
	permanent := !mayPass(err)
	if len(*c.ready.Load()) > 0 && !permanent {
		return nil
	}
	taken := c.backlog.take(func(k *call) bool {
		return permanent || time.Since(k.since) >= c.cfg.ConnectWait
	})
	c.waiting.Store(c.backlog.length)
	return taken
}

// mayPass tells whether connecting may succeed later.
func mayPass(err error) bool {
	var refusal *task.Error
	if !errors.As(err, &refusal) {
		return true
	}
	switch refusal.Code {
	case task.Overloaded, task.Draining, task.Unavailable, task.Internal:
		return true
	}
	return false
}

// failure notes an attempt that brought no connection of use, and when the next one
// may begin. mu is held.
func (c *Client) failure(err error) {
	c.failures++
	pause := backoff(c.failures)
	var refusal *task.Error
	if errors.As(err, &refusal) {
		pause = max(pause, longer(refusal.RetryAfter))
	}
	c.notBefore = time.Now().Add(pause)
}

// proved is called when a connection has answered a request: what came before is
// forgiven.
func (c *Client) proved() {
	c.mu.Lock()
	c.failures, c.notBefore = 0, time.Time{}
	c.mu.Unlock()
}

// retire takes a connection out of use, and replaces it if somebody waits.
func (c *Client) retire(n *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ready := slices.DeleteFunc(slices.Clone(*c.ready.Load()), func(other *conn) bool { return other == n })
	c.ready.Store(&ready)
	if c.backlog.length > 0 {
		c.connect()
	}
}

// remove forgets a connection that is over. One that never answered a request counts
// as a failed attempt, so that a server which accepts and drops is not called in a loop.
func (c *Client) remove(n *conn) {
	c.retire(n)
	c.mu.Lock()
	delete(c.open, n)
	if !n.useful && n.lastID > pingID {
		c.failure(nil)
	}
	c.mu.Unlock()
}

// roomAgain is called when a connection has got replies.
func (c *Client) roomAgain() {
	if c.waiting.Load() == 0 {
		return
	}
	c.mu.Lock()
	c.feed()
	c.mu.Unlock()
}
