package balancer

import (
	"context"
	"errors"
	"net"
	"time"
)

// errNoNode says that every node was tried in vain.
var errNoNode = errors.New("no node can be reached")

// connect opens a connection to a node on behalf of client and says to which;
// the caller releases the node. A node that does not take the connection is
// followed by the next; when none does, connect waits for one to come up, at
// most Wait. The error is errNoNode or a failure of this process.
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

// tryAll offers a connection to one node after the other.
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
		if isOurs(err) || ctx.Err() != nil {
			return nil, nil, err
		}
		b.nodes.missed(n, verdictOf(err), err)
		if tried == nil {
			tried = make(map[*node]bool)
		}
		tried[n] = true
	}
}
