package child

import (
	"errors"
	"net"
	"os"
	"time"
)

// conn is the standard input and output of a child as a connection.
type conn struct {
	in, out *os.File // our ends: in is written, and out is read
	name    string
}

// addr is the address of a child: its name.
type addr string

// Network implements net.Addr.
func (addr) Network() string { return "pipe" }

// String returns the name of the child.
func (a addr) String() string { return string(a) }

func (c *conn) Read(p []byte) (int, error)  { return c.out.Read(p) }
func (c *conn) Write(p []byte) (int, error) { return c.in.Write(p) }

// CloseWrite closes the standard input of the child.
func (c *conn) CloseWrite() error { return c.in.Close() }

// Close closes both.
func (c *conn) Close() error { return errors.Join(c.in.Close(), c.out.Close()) }

// SetReadDeadline sets the deadline of Read.
func (c *conn) SetReadDeadline(t time.Time) error { return c.out.SetReadDeadline(t) }

// SetWriteDeadline sets the deadline of Write.
func (c *conn) SetWriteDeadline(t time.Time) error { return c.in.SetWriteDeadline(t) }

// SetDeadline sets both deadlines.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// LocalAddr returns the address of the node.
func (c *conn) LocalAddr() net.Addr { return addr("posta") }

// RemoteAddr returns the name of the child.
func (c *conn) RemoteAddr() net.Addr { return addr(c.name) }
