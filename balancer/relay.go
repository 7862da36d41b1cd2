// Package relay carries bytes between two TCP connections, both ways, as if they
// were one: what the balancer does with a client and a node once it has
// brought them together.
//
// A half-close passes through in either direction, a reset passes through as a
// reset. A connection on which nothing passes holds two descriptors and no
// memory for bytes: a [carrier] lends buffers and pipes only while bytes are
// under way. Short bursts are read and written; long ones are spliced inside the
// kernel, where it can.
//
// What must hold of one direction (a flow) for the other is in relay.go; how a
// flow makes its system calls is in flow_splice.go for Linux, and in
// flow_portable.go for the rest.
package balancer

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// afterNode is how long a client may go on sending after the node has ended
	// its own direction. A node lingers 2 s at most; a client that forgets to
	// close must not hold two descriptors for longer, nor a balancer that drains.
	afterNode = 5 * time.Second
	// stallLimit is how long a client may take nothing of what a node sends. A
	// node that writes to a client itself gives up after 10 s, but behind a
	// balancer it writes into the balancer's buffers, so this is the only watch
	// over a client that has stopped reading. Towards nodes there is no such
	// limit: a node that does not read is a full pool that slows its clients.
	stallLimit = time.Minute
)

// ending is how one direction of a connection came to its end.
type ending int

const (
	stopped      ending = iota // by the balancer, or by a limit of this file
	endOfStream                // the source sent its FIN: a half-close
	sourceBroken               // reading failed: a reset, or a peer that is gone
	targetBroken               // writing failed
)

// relay is one client's connection joined to one node's: two sockets, and the two
// directions between them, each on a goroutine of its own. A reset passes
// through as a reset so that a node learns that its client is gone and cancels
// what the client asked for.
type relay struct {
	carrier      *carrier
	client, node *net.TCPConn
	resetClient  atomic.Bool // how to close: with a reset instead of a FIN
	resetNode    atomic.Bool
	nodeDone     atomic.Bool // all that the node sent was handed to the client's socket
	// expires is when the balancer's patience with the client ends, in Unix
	// nanoseconds; 0: there is no reason for impatience. See Expire.
	expires atomic.Int64
}

// Join makes a relay between a client and a node, which it owns from now on. It
// does nothing until Run is called.
func (c *carrier) join(client, node *net.TCPConn) *relay {
	return &relay{carrier: c, client: client, node: node}
}

// Run carries bytes both ways until both directions have ended, then closes both
// sockets.
func (r *relay) run() {
	var up sync.WaitGroup
	up.Go(func() { r.clientEnded(r.carrier.carry(r.client, r.node, nil)) })
	r.nodeEnded(r.carrier.carry(r.node, r.client, &r.expires))
	up.Wait()
	closeWith(r.client, r.resetClient.Load())
	closeWith(r.node, r.resetNode.Load())
}

// clientEnded acts on the end of the direction from the client to the node.
func (r *relay) clientEnded(how ending) {
	switch how {
	case endOfStream:
		// An error here means that the node is gone, which the other direction
		// finds out too.
		_ = r.node.CloseWrite()
	case sourceBroken:
		r.resetNode.Store(true)
		r.abort()
	case targetBroken:
		// The node is gone, but what it said last (a refusal, say) may still wait
		// in its socket: the other direction brings it over, then ends by itself.
	case stopped:
	}
}

// nodeEnded acts on the end of the direction from the node to the client.
func (r *relay) nodeEnded(how ending) {
	switch how {
	case endOfStream:
		_ = r.client.CloseWrite()
		r.nodeDone.Store(true)
		r.expires.Store(time.Now().Add(afterNode).UnixNano())
	case sourceBroken:
		r.resetClient.Store(true)
		r.abort()
	case targetBroken:
		r.resetNode.Store(true)
		r.abort()
	case stopped:
	}
}

// abort ends both directions soon. It may be called at any time, by anyone.
func (r *relay) abort() {
	past := time.Unix(1, 0)
	_ = r.client.SetDeadline(past)
	_ = r.node.SetDeadline(past)
}

// Cancel makes Run return soon. The node is told by a reset that nobody waits
// for its replies any more. It may be called at any time, by anyone, more than
// once; before Run, too.
func (r *relay) cancel() {
	r.resetNode.Store(true)
	r.abort()
}

// Expire cancels the relay if by now its client has had its time: a minute to take
// some of what the node sends, five seconds to close after the node has. Whoever
// owns the relay calls it now and then.
func (r *relay) expire(now time.Time) {
	limit := r.expires.Load()
	if limit == 0 || now.UnixNano() <= limit {
		return
	}
	// After the node's end the client is closed the quiet way: the kernel may
	// still be busy bringing it the last replies.
	if !r.nodeDone.Load() {
		r.resetClient.Store(true)
	}
	r.cancel()
}

// closeWith closes the socket, with a reset if told so.
func closeWith(conn *net.TCPConn, reset bool) {
	if reset {
		_ = conn.SetLinger(0)
	}
	_ = conn.Close()
}
