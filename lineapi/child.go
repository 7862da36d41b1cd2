package lineapi

import (
	"context"
	"net"

	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
)

// Child is a process that this node has started, whose standard input and output are a connection. Its connection ends
// only when it dies, so what it holds goes back at once then.
type Child struct {
	Name   string          // names its streams, behind the name of the node, if its work requests give no name
	Joined func()          // called for each work request; it must not block
	Drain  <-chan struct{} // closed: nothing more is pushed, and the connection ends when the child holds nothing
}

// ServeChild serves the connection of a child. The child needs no token. ServeChild returns when the connection is over,
// and ends it when ctx ends.
func (s *Server) ServeChild(ctx context.Context, nc net.Conn, child Child) {
	over := make(chan struct{})
	c := newConn(s, nc)
	c.since, c.closed = s.now(), func() { close(over) }
	c.identity, c.child = &s.anonymous, &child
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

// isDrained reports whether the child must begin no more work.
func (c *Child) isDrained() bool {
	select {
	case <-c.Drain:
		return true
	default:
		return false
	}
}

// adopt completes the work request of a child.
func (c *Child) adopt(node string, r *wire.Work) {
	r.Grace = 0
	if r.Worker == "" {
		r.Worker = node + "-" + c.Name
	}
	if c.Joined != nil {
		c.Joined()
	}
}
