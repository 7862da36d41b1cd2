package testenv

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Duplex is one end of a connection in memory. Each side can close its own direction alone, like TCP and unlike
// net.Pipe. It works in a bubble of testing/synctest. A write waits until it is read.
type Duplex struct {
	in, out net.Conn
}

// NewDuplex returns the two ends of a connection.
func NewDuplex() (client, server *Duplex) {
	there, arrives := net.Pipe()
	back, returns := net.Pipe()
	return &Duplex{in: returns, out: there}, &Duplex{in: arrives, out: back}
}

// Read implements net.Conn.
func (d *Duplex) Read(p []byte) (int, error) { return d.in.Read(p) }

// Write implements net.Conn.
func (d *Duplex) Write(p []byte) (int, error) { return d.out.Write(p) }

// CloseWrite closes the direction of this side.
func (d *Duplex) CloseWrite() error { return d.out.Close() }

// Close closes both directions.
func (d *Duplex) Close() error { return errors.Join(d.in.Close(), d.out.Close()) }

// SetDeadline implements net.Conn.
func (d *Duplex) SetDeadline(at time.Time) error {
	return errors.Join(d.SetReadDeadline(at), d.SetWriteDeadline(at))
}

// SetReadDeadline implements net.Conn.
func (d *Duplex) SetReadDeadline(at time.Time) error { return d.in.SetReadDeadline(at) }

// SetWriteDeadline implements net.Conn.
func (d *Duplex) SetWriteDeadline(at time.Time) error { return d.out.SetWriteDeadline(at) }

// LocalAddr implements net.Conn.
func (d *Duplex) LocalAddr() net.Addr { return d.in.LocalAddr() }

// RemoteAddr implements net.Conn.
func (d *Duplex) RemoteAddr() net.Addr { return d.in.RemoteAddr() }

var (
	_ net.Conn                        = (*Duplex)(nil)
	_ interface{ CloseWrite() error } = (*Duplex)(nil)
	_ io.ReadWriteCloser              = (*Duplex)(nil)
)

// Listener accepts connections in memory, for servers in a bubble of testing/synctest.
type Listener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// NewListener returns a listener.
func NewListener() *Listener {
	return &Listener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Dial connects to the listener, once it accepts.
func (l *Listener) Dial() (*Duplex, error) {
	client, server := NewDuplex()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener. The port is the one of discard, where nobody listens.
func (l *Listener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9} }

// TCPPair returns the two ends of a TCP connection over loopback, which are closed at the end of the test.
func TCPPair(t testing.TB) (client, server *net.TCPConn) {
	t.Helper()
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dialed, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err = listener.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	client = dialed.(*net.TCPConn)
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}
