package link

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
func (s *Set) connect() {
	if s.closed || s.dialing.Load() || len(*s.ready.Load()) >= s.cfg.Connections {
		return
	}
	s.dialing.Store(true)
	s.running.Go(s.dial)
}

// grow opens another connection, since all were busy. It is called for every call that
// found them so, hence looks without the lock first.
func (s *Set) grow() {
	if s.dialing.Load() || len(*s.ready.Load()) >= s.cfg.Connections {
		return
	}
	s.mu.Lock()
	s.connect()
	s.mu.Unlock()
}

// dial opens connections, one after the other, as long as calls wait for one.
func (s *Set) dial() {
	for {
		if !s.pauseBeforeDial() {
			return
		}
		ctx, cancel := context.WithTimeout(s.ctx, s.cfg.DialTimeout)
		n, err := s.handshake(ctx)
		cancel()
		if err != nil {
			err = fmt.Errorf("connect to %s: %w", s.cfg.Peer, err)
		}
		if !s.dialed(n, err) {
			return
		}
	}
}

// pauseBeforeDial waits until the next attempt may begin; false means that the Set
// was closed.
func (s *Set) pauseBeforeDial() bool {
	s.mu.Lock()
	pause := time.Until(s.notBefore)
	s.mu.Unlock()
	if pause <= 0 {
		return s.ctx.Err() == nil
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.ctx.Done():
		return false
	}
}

// handshake dials, authenticates and pings, so that no task meets a server that does
// not answer.
func (s *Set) handshake(ctx context.Context) (*conn, error) {
	nc, err := s.cfg.Dial(ctx)
	if err != nil {
		return nil, err
	}
	undo := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	n := newConn(s, nc)
	err = n.greet(s.cfg.Token)
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
func (s *Set) dialed(n *conn, err error) bool {
	s.mu.Lock()
	var givenUp []*Call
	again := false
	switch {
	case s.closed:
		if n != nil {
			_ = n.net.Close()
		}
	case err != nil:
		s.failure(err)
		givenUp = s.impatient(err)
		again = s.backlog.length > 0
	default:
		s.adopt(n)
		again = s.backlog.length > 0 && len(*s.ready.Load()) < s.cfg.Connections
	}
	if !again {
		s.dialing.Store(false)
	}
	s.mu.Unlock()
	for _, k := range givenUp {
		k.settle(Failed, err)
	}
	return again
}

// adopt puts a connection to use. mu is held.
func (s *Set) adopt(n *conn) {
	s.open[n] = struct{}{}
	ready := append(slices.Clone(*s.ready.Load()), n)
	s.ready.Store(&ready)
	_ = n.net.SetDeadline(time.Time{})
	s.running.Go(n.write)
	s.running.Go(n.read)
	s.feed()
}

// impatient takes out the calls that have waited long enough for a connection: all of
// them when the server said that trying again is pointless. mu is held.
func (s *Set) impatient(err error) []*Call {
	if len(*s.ready.Load()) > 0 {
		return nil
	}
	permanent := !mayPass(err)
	taken := s.backlog.take(func(k *Call) bool {
		return permanent || time.Since(k.since) >= s.cfg.ConnectWait
	})
	s.waiting.Store(s.backlog.length)
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
func (s *Set) failure(err error) {
	s.failures++
	pause := Backoff(s.failures)
	var refusal *task.Error
	if errors.As(err, &refusal) {
		pause = max(pause, Longer(refusal.RetryAfter))
	}
	s.notBefore = time.Now().Add(pause)
}

// proved is called when a connection has answered a request: what came before is
// forgiven.
func (s *Set) proved() {
	s.mu.Lock()
	s.failures, s.notBefore = 0, time.Time{}
	s.mu.Unlock()
}

// retire takes a connection out of use, and replaces it if somebody waits.
func (s *Set) retire(n *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.takeOut(n)
}

// takeOut is retire with mu held.
func (s *Set) takeOut(n *conn) {
	ready := slices.DeleteFunc(slices.Clone(*s.ready.Load()), func(other *conn) bool { return other == n })
	s.ready.Store(&ready)
	if s.backlog.length > 0 {
		s.connect()
	}
}

// remove forgets a connection that is over. One that never answered a request counts
// as a failed attempt, so that a server which accepts and drops is not called in a loop.
func (s *Set) remove(n *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, n)
	if !n.useful && n.lastID > pingID {
		s.failure(nil)
	}
	s.takeOut(n)
}

// roomAgain is called when a connection has got replies.
func (s *Set) roomAgain() {
	if s.waiting.Load() == 0 {
		return
	}
	s.mu.Lock()
	s.feed()
	s.mu.Unlock()
}
