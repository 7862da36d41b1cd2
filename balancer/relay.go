package balancer

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// clientCloseTimeout is how long a client may continue to send after the node has closed
	// its direction. A node lingers for at most 2 s. A client that does not close must not
	// occupy two descriptors, or delay a draining balancer, for longer.
	clientCloseTimeout = 5 * time.Second
	// stallTimeout is how long a client may read nothing while a node sends. A node that
	// writes to a client directly gives up after 10 s. Behind a balancer it writes into the
	// balancer's buffers, so only this limit ends a connection whose client has stopped
	// reading. There is no such limit for nodes: a node that does not read has a full pool
	// and slows its clients on purpose.
	stallTimeout = time.Minute
)

// ending is how one direction of a connection ended.
type ending int

const (
	stopped      ending = iota // the balancer or a limit ended it
	endOfStream                // the source sent its FIN: a half-close
	sourceBroken               // reading failed: a reset, or a vanished peer
	targetBroken               // writing failed
)

// relay copies bytes between a client and a node, in both directions, as if their two
// sockets were one connection. Each direction (a flow) has a goroutine. A half-close
// passes through in either direction. A reset passes through as a reset, so that a node
// learns that its client is gone and cancels its tasks.
//
// This file decides how the end of one flow affects the other. flow_splice.go makes the
// system calls of a flow on Linux: it reads and writes short bursts, and splices long ones
// inside the kernel. flow_portable.go is for other systems.
type relay struct {
	carrier      *carrier
	client, node *net.TCPConn
	resetClient  atomic.Bool // close with a reset instead of a FIN
	resetNode    atomic.Bool
	nodeDone     atomic.Bool // everything that the node sent is in the client's socket
	// expires is the deadline of the client, in Unix nanoseconds; 0: none. See expire.
	expires atomic.Int64
}

// join returns a relay between a client and a node. The relay owns both sockets. It does
// nothing until run is called.
func (c *carrier) join(client, node *net.TCPConn) *relay {
	return &relay{carrier: c, client: client, node: node}
}

// run copies bytes until both directions have ended, then closes both sockets.
func (r *relay) run() {
	var up sync.WaitGroup
	up.Go(func() { r.clientEnded(r.carrier.carry(r.client, r.node, nil)) })
	r.nodeEnded(r.carrier.carry(r.node, r.client, &r.expires))
	up.Wait()
	closeWith(r.client, r.resetClient.Load())
	closeWith(r.node, r.resetNode.Load())
}

// clientEnded handles the end of the direction from the client to the node.
func (r *relay) clientEnded(how ending) {
	switch how {
	case endOfStream:
		// An error means that the node is gone. The other direction notices that, too.
		_ = r.node.CloseWrite()
	case sourceBroken:
		r.resetNode.Store(true)
		r.abort()
	case targetBroken:
		// The node is gone, but its last bytes (a refusal, for example) may still be in
		// its socket. The other direction delivers them, then ends by itself.
	case stopped:
	}
}

// nodeEnded handles the end of the direction from the node to the client.
func (r *relay) nodeEnded(how ending) {
	switch how {
	case endOfStream:
		_ = r.client.CloseWrite()
		r.nodeDone.Store(true)
		r.expires.Store(time.Now().Add(clientCloseTimeout).UnixNano())
	case sourceBroken:
		r.resetClient.Store(true)
		r.abort()
	case targetBroken:
		r.resetNode.Store(true)
		r.abort()
	case stopped:
	}
}

// abort makes both directions end soon. It may be called at any time and concurrently.
func (r *relay) abort() {
	past := time.Unix(1, 0)
	_ = r.client.SetDeadline(past)
	_ = r.node.SetDeadline(past)
}

// cancel makes run return soon, and resets the node's connection, so that the node cancels
// the client's tasks. It may be called at any time, also before run, more than once and
// concurrently.
func (r *relay) cancel() {
	r.resetNode.Store(true)
	r.abort()
}

// expire cancels the relay if its client has exceeded stallTimeout or clientCloseTimeout. The
// balancer calls it every second.
func (r *relay) expire(now time.Time) {
	limit := r.expires.Load()
	if limit == 0 || now.UnixNano() <= limit {
		return
	}
	// If the node has ended, the client's socket is closed without a reset: the kernel may
	// still be sending the last replies.
	if !r.nodeDone.Load() {
		r.resetClient.Store(true)
	}
	r.cancel()
}

// closeWith closes the socket, with a reset if reset is true.
func closeWith(conn *net.TCPConn, reset bool) {
	if reset {
		_ = conn.SetLinger(0)
	}
	_ = conn.Close()
}
