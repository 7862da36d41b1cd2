package lineapi

import (
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/service"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/wire"
	"github.com/posta-tasks/posta/worker"
)

const (
	// keepAlive is how often the kernel probes a quiet connection of a worker, and keepAliveMost how many probes may stay
	// without an answer.
	keepAlive     = 15 * time.Second
	keepAliveMost = 3
	// userTimeout is how long bytes that were sent to a worker may stay without an acknowledgement.
	userTimeout = 30 * time.Second
)

// streams are the open work requests of a connection, by the raw JSON of their ids.
type streams struct {
	mu   sync.Mutex // guards the field below
	open map[string]*stream
}

// stream is an open work request.
type stream struct {
	*worker.Stream
	ended sync.Once // calls endWait
}

// take removes and returns the stream with an id; nil means all streams.
func (s *streams) take(id []byte) (list []*stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, one := range s.open {
		if id == nil || name == string(id) {
			list = append(list, one)
			delete(s.open, name)
		}
	}
	return list
}

// drain tells the workers to connect to another node.
func (s *streams) drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.open {
		one.Drain()
	}
}

// find returns the stream with an id, or nil.
func (s *streams) find(id []byte) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open[string(id)]
}

// refuseLease writes an error reply that names the lease.
func (c *conn) refuseLease(b *batch, refusal *task.Error) {
	c.server.stats.refused(refusal.Code)
	b.out = wire.AppendLeaseError(b.out, b.req.ID, string(b.req.Work.Lease), refusal)
}

// beginWork: {"id":"w","op":"work","actions":["greet"]} → {"id":"w","status":"ready","worker":"n1-c7","node":"n1","slots":1}
// and then a line for each task
func beginWork(c *conn, b *batch) (bool, error) {
	r := &b.req
	switch {
	case c.server.draining.Load(), c.child != nil && c.child.isDrained():
		return true, c.refuse(b, r.ID, worker.RefuseDraining())
	case c.streams.find(r.ID) != nil:
		return true, c.refuse(b, r.ID, task.RefuseField(task.InvalidRequest, "id", "this connection has a work request with this id already"))
	}
	if refusal := service.MayWork(c.identity, r.Work.Actions, r.Work.Queues); refusal != nil {
		return true, c.refuse(b, r.ID, refusal)
	}
	if refusal := c.out.beginWait(); refusal != nil {
		return true, c.refuse(b, r.ID, refusal)
	}
	KeepAlive(c.nc)
	if c.child != nil {
		c.child.complete(c.server.config.Node, &r.Work)
	}
	own := &stream{}
	id := string(r.ID)
	return true, c.pause(b, func() {
		c.streams.mu.Lock()
		defer c.streams.mu.Unlock()
		if c.streams.open == nil {
			c.streams.open = map[string]*stream{}
		}
		own.Stream = c.server.workers.Join(c.server.forced, r, c.identity, c.out.send, func() { own.ended.Do(c.out.endWait) })
		c.streams.open[id] = own
	})
}

// KeepAlive makes the kernel end a connection whose network has failed, within a minute. It is for connections to workers
// and other nodes.
func KeepAlive(nc net.Conn) {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return
	}
	_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: keepAlive, Interval: keepAlive, Count: keepAliveMost})
	if raw, err := tcp.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { setUserTimeout(int(fd), userTimeout) })
	}
}

// endStreams ends the work requests that the client's new identity may not have. What they hold goes back.
func (c *conn) endStreams(who *auth.Identity) {
	if c.identity == nil || c.identity.Holder() == who.Holder() && who.All(auth.Work) {
		return
	}
	c.streams.mu.Lock()
	var list []*stream
	for id, one := range c.streams.open {
		if c.identity.Holder() != who.Holder() || service.MayWork(who, one.Actions, one.Queues) != nil {
			list = append(list, one)
			delete(c.streams.open, id)
		}
	}
	c.streams.mu.Unlock()
	for _, s := range list {
		c.server.goroutines.Go(func() {
			s.Leave(func(int) []byte {
				return wire.AppendError(nil, s.ID, service.Forbid(auth.Work, "these actions any more, since the connection has another token"))
			})
			s.ended.Do(c.out.endWait)
		})
	}
}

// setSlots: {"op":"slots","work":"w","slots":4}
func setSlots(c *conn, b *batch) (bool, error) {
	s := c.streams.find(b.req.Work.Of)
	if s == nil {
		return true, c.refuse(b, b.req.ID, refuseNoWork(&b.req))
	}
	s.SetSlots(b.req.Work.Slots)
	return true, nil
}

// reportProgress: {"op":"progress","lease":"01J….1","percent":40,"message":"half"}
func reportProgress(c *conn, b *batch) (bool, error) {
	if refusal := c.server.workers.Report(&b.req, c.identity); refusal != nil {
		c.refuseLease(b, refusal)
	}
	return true, nil
}

// leaveWork: {"id":3,"op":"leave","work":"w"} → {"id":3,"status":"done","result":{"ok":true}}, and as the last line of the
// stream {"id":"w","status":"done","result":{"ok":true,"released":0}}
func leaveWork(c *conn, b *batch) (bool, error) {
	list := c.streams.take(b.req.Work.Of)
	if len(list) == 0 {
		return true, c.refuse(b, b.req.ID, refuseNoWork(&b.req))
	}
	b.out = wire.AppendDone(b.out, b.req.ID, []byte(`{"ok":true}`))
	c.flush(b)
	for _, s := range list {
		c.server.goroutines.Go(func() {
			s.Leave(func(released int) []byte { return wire.AppendLeft(nil, s.ID, released) })
			s.ended.Do(c.out.endWait)
		})
	}
	return true, nil
}

// refuseNoWork returns the refusal of a line about a work request that is not open.
func refuseNoWork(r *wire.Request) *task.Error {
	return task.RefuseField(task.NotFound, "work", "this connection has no open work request with the id %s", r.Work.Of)
}

// finishAttempt: {"op":"done","lease":"01J….1","data":"HOLA"} → {"id":null,"status":"done","lease":"01J….1","task":"01J…","attempt":1}
// It is never refused because too many requests are open, since it frees a slot.
func finishAttempt(c *conn, b *batch) (bool, error) {
	full := c.out.begin(0)
	elsewhere, refusal := c.server.workers.Finish(&b.req, c.identity, func(line []byte, refusal *task.Error) {
		if refusal != nil {
			c.server.stats.refused(refusal.Code)
		}
		c.out.post(line)
		c.out.end(1, 0)
	})
	switch {
	case refusal != nil:
		c.refuseLease(b, refusal)
		c.out.end(1, 0)
	case elsewhere != nil:
		c.server.goroutines.Go(elsewhere)
		if full {
			return true, c.pause(b, c.out.await)
		}
	}
	return true, nil
}

// closeStreams ends the work requests of a connection that is over.
func (c *conn) closeStreams(err error) {
	cause := worker.Died
	if errors.Is(err, syscall.ETIMEDOUT) || errors.Is(err, syscall.EHOSTUNREACH) {
		cause = worker.Silent
	}
	for _, s := range c.streams.take(nil) {
		s.Close(cause)
		s.ended.Do(c.out.endWait)
	}
}
