package node

import (
	"context"
	"crypto/tls"
	"io"
	"net"

	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/lineapi"
	"github.com/posta-tasks/posta/peer"
	"github.com/posta-tasks/posta/task"
)

// PeerConfig says how a node speaks to the other nodes of its store, to which it passes direct runs on.
type PeerConfig struct {
	Advertise string      // HOST:PORT, where other nodes reach this one; "": they pass no runs to it
	Token     string      // that other nodes ask for; "": they ask for none
	TLS       *tls.Config // other nodes speak TLS; nil: plain text
}

// newPeers returns the other nodes, or nil if no other process uses the store.
func (n *Node) newPeers() *peer.Peers {
	config := &n.config
	if config.Durable == nil || !config.Durable.Shared && config.Durable.Broker == nil {
		return nil
	}
	return peer.New(peer.Config{
		Self: config.Name, Known: n.known, Learn: func(ctx context.Context) { n.durable.Learn(ctx) },
		Dial: n.dialPeer, Token: config.Peers.Token, LineBytes: config.Limits.Line, MaxResult: config.Limits.ResultBytes, PoolWait: config.Limits.PoolWait,
		Logger: n.log,
	})
}

// known returns the live nodes as of the last heartbeat.
func (n *Node) known() *[]task.Node { return n.durable.Known() }

// present completes the row of this node, which other nodes read. A node that drains gets no runs of others.
func (n *Node) present(row *task.Node) {
	if !n.draining.Load() {
		row.Address = n.config.Peers.Advertise
	}
	row.Free = n.executor.Free()
	row.Idempotent = n.config.Workers.Idempotent(n.config.Name)
}

// shareNodes has an engine write where other nodes reach this one.
func (n *Node) shareNodes(engine *durable.Config) {
	if n.peers != nil {
		engine.Present = n.present
	}
}

// passedOn returns how many runs were sent to other nodes, by reason.
func (n *Node) passedOn() (missing, full int64) {
	if n.peers == nil {
		return 0, 0
	}
	return n.peers.Stats()
}

// proxyUnknown is the PROXY header of a connection that is not made for a client.
const proxyUnknown = "PROXY UNKNOWN\r\n"

// dialPeer connects to another node. It assumes that all nodes require a PROXY header if this one does.
func (n *Node) dialPeer(ctx context.Context, addr string) (net.Conn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	lineapi.KeepAlive(conn)
	if n.config.ProxyProtocol {
		if _, err := io.WriteString(conn, proxyUnknown); err != nil {
			_ = conn.Close()
			return nil, err
		}
	}
	if n.config.Peers.TLS == nil {
		return conn, nil
	}
	config := n.config.Peers.TLS.Clone()
	if host, _, err := net.SplitHostPort(addr); err == nil && config.ServerName == "" {
		config.ServerName = host
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}
