package balancer

import (
	"context"
	"errors"
	"net"
	"time"
)

// errNoNode means that no node took the connection.
var errNoNode = errors.New("no node can be reached")

// connect opens a connection to a node for client and returns both; the caller releases
// the node. If a node does not take the connection, connect tries the next one. If none
// does, it waits at most Wait for a node to come up. The error is errNoNode or a failure
// of this process.
func (b *Balancer) connect(ctx context.Context, client *net.TCPConn) (*net.TCPConn, *node, error) {
	var header []byte
	if b.cfg.ProxyProtocol {
		header = proxyHeader(client)
	}
	returned := b.nodes.backUp()
	conn, n, err := b.tryAll(ctx, header)
	if !errors.Is(err, errNoNode) {
		return conn, n, err
	}
	patience := time.NewTimer(b.cfg.Wait)
	defer patience.Stop()
	for {
		select {
		case <-returned:
		case <-patience.C:
			return nil, nil, errNoNode
		case <-ctx.Done():
			return nil, nil, errNoNode
		}
		returned = b.nodes.backUp()
		conn, n, err = b.tryAll(ctx, header)
		if !errors.Is(err, errNoNode) {
			return conn, n, err
		}
	}
}

// tryAll offers the connection to one node after the other.
func (b *Balancer) tryAll(ctx context.Context, header []byte) (*net.TCPConn, *node, error) {
	var tried map[*node]bool
	for {
		n := b.nodes.pick(tried)
		if n == nil {
			return nil, nil, errNoNode
		}
		conn, err := b.dial(ctx, n.address, header)
		if err == nil {
			b.nodes.took(n)
			return conn, n, nil
		}
		b.nodes.release(n)
		if isLocal(err) || ctx.Err() != nil {
			return nil, nil, err
		}
		b.nodes.missed(n, verdictOf(err), err)
		if tried == nil {
			tried = make(map[*node]bool)
		}
		tried[n] = true
	}
}
