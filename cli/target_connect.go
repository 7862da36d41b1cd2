package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
)

// transport is a connection whose writing side can be closed alone.
type transport interface {
	net.Conn
	// CloseWrite closes the writing side. The connection can still be read.
	CloseWrite() error
}

// connect opens the connection, with TLS if the flags ask for it. It gives up when ctx ends.
func (t *target) connect(ctx context.Context) (transport, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", t.Addr)
	if err != nil {
		return nil, t.unreachable(ctx, err)
	}
	if t.tls == nil {
		return conn.(*net.TCPConn), nil
	}
	inner := tls.Client(conn, t.tls)
	if err := inner.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, t.untrusted(ctx, err)
	}
	return inner, nil
}

// secured reads the files of the TLS flags.
func (t *target) secured() error {
	flags := *t.secure
	if !flags.On && t.OwnFiles != nil && t.OwnFiles() {
		flags.Cert, flags.Key = "", ""
	}
	config, err := flags.Config()
	if config == nil || err != nil {
		return err
	}
	config.ServerName, _, _ = net.SplitHostPort(t.Addr)
	t.tls = config
	return nil
}

// untrusted explains a failed TLS handshake.
func (t *target) untrusted(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	hint := "does it speak TLS? without --tls, plain text is spoken"
	var unverified *tls.CertificateVerificationError
	if errors.As(err, &unverified) {
		hint = "--tls-ca names the authorities that are trusted, and --to the server as its certificate does"
	}
	return fail(exitUnreachable, hint, "no TLS with %s: %w", t.Addr, innermost(err))
}
