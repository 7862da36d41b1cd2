package lineapi

import (
	"context"
	"net"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// Child is a process that this node has started. Its standard input and output are a connection. The
// connection ends only when the process dies, so its tasks are then queued again at once.
type Child struct {
	Name   string          // the name of its streams, after the name of the node, if its work requests have no name
	Joined func()          // called for each work request; it must not block
	Drain  <-chan struct{} // closed: nothing more is pushed, and the connection ends when the child holds nothing
}

// ServeChild serves the connection of a child and returns when it is over. It ends the connection when ctx ends. A child
// needs no token.
func (s *Server) ServeChild(ctx context.Context, nc net.Conn, child Child) {
	over := make(chan struct{})
	c := newConn(s, nc)
	c.since, c.closed = s.now(), func() { close(over) }
	c.identity, c.child = s.anonymous, &child
	stop := context.AfterFunc(ctx, c.abort)
	defer stop()
	go func() {
		select {
		case <-child.Drain:
			c.streams.drain()
			c.goaway(task.Draining)
		case <-over:
		}
	}()
	s.begin(c)
	<-over
}

// isDrained reports whether the child gets no more work.
func (c *Child) isDrained() bool {
	select {
	case <-c.Drain:
		return true
	default:
		return false
	}
}

// complete sets the fields of a child's work request that the node decides, and calls Joined.
func (c *Child) complete(node string, r *wire.Work) {
	r.Grace = 0
	if r.Worker == "" {
		r.Worker = node + "-" + c.Name
	}
	if c.Joined != nil {
		c.Joined()
	}
}
