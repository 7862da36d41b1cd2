// Package pgproxy is a proxy between a program and a PostgreSQL server that loses statements, or the answers to
// them. Tests use it to check how a program handles the loss. It knows nothing about tasks.
package pgproxy

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// Proxy is a proxy in front of a PostgreSQL server. It parses the protocol, so that a test can choose which
// statement is lost. It does not support TLS. Its methods are safe for concurrent use.
type Proxy struct {
	listener net.Listener
	server   string

	mu        sync.Mutex // guards the fields below
	marker    string     // a part of the statements that are lost
	losing    Losing
	remaining int // how many more are lost
	open      map[net.Conn]bool
	ended     bool
}

// Losing is what is lost, together with the connection.
type Losing int

// The messages that a Proxy can lose.
const (
	Request Losing = iota // the server does not receive the request
	Answer                // the server has executed the request, to the end of its transaction
)

// New returns a proxy to the server at an address. It is closed when the test ends.
func New(t testing.TB, server string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	x := &Proxy{listener: listener, server: server, open: map[net.Conn]bool{}}
	var parts sync.WaitGroup
	parts.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			parts.Go(func() { x.serve(t.Context(), client) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		x.mu.Lock()
		x.ended = true
		for conn := range x.open {
			_ = conn.Close()
		}
		x.mu.Unlock()
		parts.Wait()
	})
	return x
}

// Through returns the URL with the address of the proxy instead of the server's.
func (x *Proxy) Through(url string) string {
	return strings.Replace(url, x.server, x.listener.Addr().String(), 1)
}

// Lose makes the proxy lose the next statements, as many as times says, that contain marker.
func (x *Proxy) Lose(what Losing, marker string, times int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.losing, x.marker, x.remaining = what, marker, times
}

// Remaining returns how many of them have not been lost yet.
func (x *Proxy) Remaining() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.remaining
}

// keep registers a connection that must be closed with the proxy. It returns false if the proxy is closed.
func (x *Proxy) keep(conn net.Conn) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ended {
		return false
	}
	x.open[conn] = true
	return true
}

func (x *Proxy) drop(conn net.Conn) {
	_ = conn.Close()
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.open, conn)
}

// link is one connection through the proxy. Each request is answered by one "ready for query", so the n-th
// request belongs to the n-th of these.
type link struct {
	proxy          *Proxy
	client, server net.Conn
	texts          map[string]string // texts of prepared statements, by name

	mu   sync.Mutex // guards the field below
	lost []bool     // for each unanswered request, whether its answer is lost
}

func (x *Proxy) serve(ctx context.Context, client net.Conn) {
	defer x.drop(client)
	server, err := (&net.Dialer{}).DialContext(ctx, "tcp", x.server)
	if err != nil {
		return
	}
	defer x.drop(server)
	if !x.keep(client) || !x.keep(server) {
		return
	}
	l := &link{proxy: x, client: client, server: server, texts: map[string]string{}}
	var answers sync.WaitGroup
	answers.Go(func() {
		l.answers()
		_ = client.Close() // ends requests
	})
	l.requests()
	_ = server.Close()
	answers.Wait()
}

// requests forwards whole requests to the server.
func (l *link) requests() {
	start, err := readMessage(l.client, false)
	if err != nil {
		return
	}
	if _, err := l.server.Write(start); err != nil {
		return
	}
	l.await(false) // the startup message is answered like a request
	var batch []byte
	marked := false
	for {
		message, err := readMessage(l.client, true)
		if err != nil {
			return
		}
		batch = append(batch, message...)
		marked = marked || l.marks(message)
		kind := message[0]
		if kind == 'S' || kind == 'Q' {
			losing, lost := l.proxy.takes(marked)
			if lost && losing == Request {
				return
			}
			l.await(lost)
			marked = false
		} else if kind != 'p' && kind != 'X' && kind != 'H' { // messages without an answer are forwarded at once
			continue
		}
		if _, err := l.server.Write(batch); err != nil {
			return
		}
		batch = batch[:0]
	}
}

// marks reports whether a message runs a statement that contains the marker.
func (l *link) marks(message []byte) bool {
	fields := bytes.SplitN(message[5:], []byte{0}, 3)
	switch message[0] {
	case 'P':
		l.texts[string(fields[0])] = string(fields[1])
	case 'B':
		return l.proxy.wants(l.texts[string(fields[1])])
	case 'Q':
		return l.proxy.wants(string(fields[0]))
	}
	return false
}

func (x *Proxy) wants(text string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.remaining > 0 && strings.Contains(text, x.marker)
}

// takes counts a request with the marker, and reports whether it is lost.
func (x *Proxy) takes(marked bool) (Losing, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !marked || x.remaining == 0 {
		return 0, false
	}
	x.remaining--
	return x.losing, true
}

func (l *link) await(lost bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost = append(l.lost, lost)
}

// answers forwards answers to the client, until one is lost.
func (l *link) answers() {
	for {
		message, err := readMessage(l.server, true)
		if err != nil {
			return
		}
		lost := l.loses(message[0] == 'Z')
		if lost && message[0] == 'Z' {
			return
		}
		if lost {
			continue
		}
		if _, err := l.client.Write(message); err != nil {
			return
		}
	}
}

// loses reports whether the current answer is lost.
func (l *link) loses(ready bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lost) == 0 {
		return false
	}
	lost := l.lost[0]
	if ready {
		l.lost = l.lost[1:]
	}
	return lost
}

// readMessage reads a message with its header. Only the first message of a connection has no type byte, which
// kind says.
func readMessage(from net.Conn, kind bool) ([]byte, error) {
	head := make([]byte, 4, 5)
	if kind {
		head = head[:5]
	}
	if _, err := io.ReadFull(from, head); err != nil {
		return nil, err
	}
	rest := int(binary.BigEndian.Uint32(head[len(head)-4:])) - 4
	if rest < 0 {
		return nil, io.ErrUnexpectedEOF
	}
	message := append(head, make([]byte, rest)...)
	_, err := io.ReadFull(from, message[len(head):])
	return message, err
}
