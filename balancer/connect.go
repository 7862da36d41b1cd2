package balancer

import (
	"context"
	"errors"
	"net"
	"time"
)

// errNoNode means that no node accepted the connection.
var errNoNode = errors.New("no node can be reached")

// connect opens a connection to a node for client and returns both; the caller releases
// the node. If a node does not accept the connection, connect tries the next one. If no node
// does, it tries again after each check that finds a node up, for at most Wait. The error is
// errNoNode or a failure of this process.
func (b *Balancer) connect(ctx context.Context, client *net.TCPConn) (*net.TCPConn, *node, error) {
	var header []byte
	if b.cfg.ProxyProtocol {
		header = proxyHeader(client)
	}
	nodeUp := b.nodes.waitUp()
	conn, n, err := b.tryAll(ctx, header)
	if !errors.Is(err, errNoNode) {
		return conn, n, err
	}
	timeout := time.NewTimer(b.cfg.Wait)
	defer timeout.Stop()
	for {
		select {
		case <-nodeUp:
		case <-timeout.C:
			return nil, nil, errNoNode
		case <-ctx.Done():
			return nil, nil, errNoNode
		}
		nodeUp = b.nodes.waitUp()
		conn, n, err = b.tryAll(ctx, header)
		if !errors.Is(err, errNoNode) {
			return conn, n, err
		}
	}
}

// tryAll tries to connect to one node after another.
func (b *Balancer) tryAll(ctx context.Context, header []byte) (*net.TCPConn, *node, error) {
	var tried map[*node]bool
	for {
		n := b.nodes.pick(tried)
		if n == nil {
			return nil, nil, errNoNode
		}
		conn, err := b.dial(ctx, n.address, header)
		if err == nil {
			b.nodes.noteConnected(n)
			return conn, n, nil
		}
		b.nodes.release(n)
		if isLocal(err) || ctx.Err() != nil {
			return nil, nil, err
		}
		b.nodes.noteFailed(n, outcomeOf(err), err)
		if tried == nil {
			tried = make(map[*node]bool)
		}
		tried[n] = true
	}
}
