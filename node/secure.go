package node

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"time"

	"github.com/posta-tasks/posta/auth"
)

// halfCloser is a connection whose write side can be closed alone.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// secured is the inside of a TLS connection. The first byte was read to choose the door, and
// Read returns it again.
type secured struct {
	*tls.Conn
	first  [1]byte
	unread bool           // Read has not returned first yet
	who    *auth.Identity // from the client's certificate; nil: it has none
}

// Identity returns the identity in the client's certificate, or nil if it has none.
func (c *secured) Identity() *auth.Identity { return c.who }

// Read reads bytes that the client sent.
func (c *secured) Read(p []byte) (int, error) {
	if c.unread && len(p) > 0 {
		c.unread = false
		return copy(p, c.first[:]), nil
	}
	return c.Conn.Read(p)
}

// unwrap does the TLS handshake and passes the connection to its door. If the handshake fails,
// it has sent the client an alert.
func (p *port) unwrap(conn *net.TCPConn, place *place) {
	since := time.Now()
	inner := &secured{Conn: tls.Server(conn, p.node.config.Certificates.Config())}
	ctx, cancel := context.WithTimeout(context.Background(), p.node.config.Limits.LineTimeout)
	err := inner.HandshakeContext(ctx)
	cancel()
	if err != nil {
		p.node.log.Debug("TLS handshake failed", "remote", conn.RemoteAddr().String(), "error", err)
		p.refused.Add(1)
		_ = inner.Close()
		place.leave()
		return
	}
	if who := p.node.config.Certificates.Identify(inner.ConnectionState()); who != nil {
		inner.who = who
		p.node.log.Debug("client has a certificate", "remote", conn.RemoteAddr().String(), "client", who.Name)
	}
	err = p.firstInside(conn, inner)
	p.door(inner, inner.first[0], err, since, place)
}

// firstInside waits for the client's first byte inside TLS.
func (p *port) firstInside(conn *net.TCPConn, inner *secured) error {
	defer p.await(conn)()
	if err := inner.SetReadDeadline(time.Now().Add(p.patience())); err != nil {
		return err
	}
	n, err := inner.Conn.Read(inner.first[:])
	if inner.unread = n == 1; inner.unread {
		err = nil
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return errors.Join(err, inner.SetReadDeadline(time.Time{}))
}
