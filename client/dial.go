package client

import (
	"cmp"
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

// connect starts the dialer unless it runs already or no more connections are allowed. mu
// is held.
func (p *connPool) connect() {
	if p.closed || p.dialing.Load() || len(*p.ready.Load()) >= p.cfg.Connections {
		return
	}
	p.dialing.Store(true)
	p.running.Go(p.dial)
}

// grow opens another connection, since all were busy. Every call that finds them busy calls
// it, so it first looks without the lock.
func (p *connPool) grow() {
	if p.dialing.Load() || len(*p.ready.Load()) >= p.cfg.Connections {
		return
	}
	p.mu.Lock()
	p.connect()
	p.mu.Unlock()
}

// dial opens connections, one after another, while calls wait for one.
func (p *connPool) dial() {
	for {
		if !p.pauseBeforeDial() {
			return
		}
		ctx, cancel := context.WithTimeout(p.ctx, p.cfg.DialTimeout)
		n, err := p.handshake(ctx)
		cancel()
		if err != nil {
			err = fmt.Errorf("connect to %s: %w", cmp.Or(p.cfg.Addr, "the server"), err)
		}
		if !p.dialed(n, err) {
			return
		}
	}
}

// pauseBeforeDial waits until the next attempt may begin. It returns false if the connPool
// was closed.
func (p *connPool) pauseBeforeDial() bool {
	p.mu.Lock()
	pause := time.Until(p.notBefore)
	p.mu.Unlock()
	if pause <= 0 {
		return p.ctx.Err() == nil
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.ctx.Done():
		return false
	}
}

// handshake dials, authenticates and pings, so that no task is sent to a server that does
// not answer.
func (p *connPool) handshake(ctx context.Context) (*conn, error) {
	nc, err := p.cfg.Dial(ctx)
	if err != nil {
		return nil, err
	}
	undo := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	n := newConn(p, nc)
	err = n.greet(p.cfg.Token)
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
		lines = append(task.AppendString(lines, token), "}\n"...)
	}
	lines = append(lines, `{"id":2,"op":"ping"}`+"\n"...)
	n.lastID = pingID
	for id := first; id <= pingID; id++ {
		n.pending[id] = pendingCall{}
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

// greeted handles one reply of the handshake.
func (n *conn) greeted(reply *wire.Reply, line []byte) error {
	if len(line) > n.lines.limit {
		return tooLong(n.lines.limit)
	}
	if err := reply.Parse(line); err != nil {
		return fmt.Errorf("the peer is not a Posta server: %w", err)
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

// dialed handles the outcome of an attempt, and reports whether to make another one.
func (p *connPool) dialed(n *conn, err error) bool {
	p.mu.Lock()
	var expired []*call
	again := false
	switch {
	case p.closed:
		if n != nil {
			_ = n.net.Close()
		}
	case err != nil:
		p.noteFailure(err)
		expired = p.takeExpired(err)
		again = p.backlog.length > 0
	default:
		p.adopt(n)
		again = p.backlog.length > 0 && len(*p.ready.Load()) < p.cfg.Connections
	}
	if !again {
		p.dialing.Store(false)
	}
	p.mu.Unlock()
	for _, k := range expired {
		k.complete(failed, err)
	}
	return again
}

// adopt adds a connection and starts its goroutines. mu is held.
func (p *connPool) adopt(n *conn) {
	p.open[n] = struct{}{}
	ready := append(slices.Clone(*p.ready.Load()), n)
	p.ready.Store(&ready)
	_ = n.net.SetDeadline(time.Time{})
	p.running.Go(n.write)
	p.running.Go(n.read)
	p.feed()
}

// takeExpired removes and returns the calls that have waited ConnectWait for a connection, or
// all calls if the error is permanent. While a connection is in use it removes none. mu is
// held.
func (p *connPool) takeExpired(err error) []*call {
	if len(*p.ready.Load()) > 0 {
		return nil
	}
	permanent := !temporary(err)
	taken := p.backlog.take(func(k *call) bool {
		return permanent || time.Since(k.since) >= p.cfg.ConnectWait
	})
	p.waiting.Store(p.backlog.length)
	return taken
}

// temporary reports whether connecting may succeed later.
func temporary(err error) bool {
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

// noteFailure counts an attempt that brought no useful connection, and sets when the next one
// may begin. mu is held.
func (p *connPool) noteFailure(err error) {
	p.failures++
	pause := backoff(p.failures)
	var refusal *task.Error
	if errors.As(err, &refusal) {
		pause = max(pause, withJitter(refusal.RetryAfter))
	}
	p.notBefore = time.Now().Add(pause)
}

// noteSuccess resets the count of failures, since a connection has answered a request.
func (p *connPool) noteSuccess() {
	p.mu.Lock()
	p.failures, p.notBefore = 0, time.Time{}
	p.mu.Unlock()
}

// takeOut is retire with mu held.
func (p *connPool) takeOut(n *conn) {
	ready := slices.DeleteFunc(slices.Clone(*p.ready.Load()), func(other *conn) bool { return other == n })
	p.ready.Store(&ready)
	if p.backlog.length > 0 {
		p.connect()
	}
}
