// Package line is a client of the line protocol that sends one line and reads the next. It checks nothing and repeats
// nothing, so a test sees what the server really answers.
package line

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"time"
)

const (
	bufferSize = 64 << 10
	dialTime   = 5 * time.Second
)

// Conn is a connection. It is for one goroutine.
type Conn struct {
	net.Conn
	in    *bufio.Reader
	limit time.Duration
}

// Dial connects. Each call waits for a line as long as limit. The caller closes the connection.
func Dial(ctx context.Context, addr string, limit time.Duration) (*Conn, error) {
	dialer := net.Dialer{Timeout: dialTime}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &Conn{Conn: conn, in: bufio.NewReaderSize(conn, bufferSize), limit: limit}, nil
}

// Send writes a line.
func (c *Conn) Send(format string, args ...any) error {
	if err := c.SetDeadline(time.Now().Add(c.limit)); err != nil {
		return err
	}
	_, err := fmt.Fprintf(c.Conn, format+"\n", args...)
	return err
}

// Next reads the next line, which is JSON, into reply, and returns the line.
func (c *Conn) Next(reply any) ([]byte, error) {
	if err := c.SetDeadline(time.Now().Add(c.limit)); err != nil {
		return nil, err
	}
	text, err := c.in.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	return text, json.Unmarshal(text, reply)
}

// Ask writes a line and reads the next one into reply.
func (c *Conn) Ask(reply any, format string, args ...any) ([]byte, error) {
	if err := c.Send(format, args...); err != nil {
		return nil, err
	}
	return c.Next(reply)
}
