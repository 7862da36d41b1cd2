// Package pgproxy stands between a program and a PostgreSQL server and loses statements, or the
// answers to them. It is for tests of what a program makes of that, and knows nothing of tasks.
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

// Proxy stands between programs and a PostgreSQL server, and loses what a test wants lost.
// It reads the protocol, so that what is lost is a certain statement. TLS it does not speak.
type Proxy struct {
	listener net.Listener
	server   string

	mu        sync.Mutex // guards all below
	marker    string     // is in the statement that is lost; "": none
	losing    Losing
	remaining int // so many more are lost
	open      map[net.Conn]bool
	ended     bool
}

// Losing says what is lost, and the connection with it.
type Losing int

// What a Proxy loses.
const (
	Request Losing = iota // the server never hears of it
	Answer                // the server has done it, to the end of its transaction
)

// New makes a proxy to the server on an address, which ends with the test.
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

// Through gives a URL of the server as one of the proxy.
func (x *Proxy) Through(url string) string {
	return strings.Replace(url, x.server, x.listener.Addr().String(), 1)
}

// Lose has the next statements lost in which marker is.
func (x *Proxy) Lose(what Losing, marker string, times int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.losing, x.marker, x.remaining = what, marker, times
}

// Remaining tells how many of them are still to come.
func (x *Proxy) Remaining() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.remaining
}

// keep notes a connection that must be closed with the proxy.
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

// link is one connection through the proxy. A request ends with what has the server say that it
// is ready, so that the n-th request is the n-th such answer's.
type link struct {
	proxy          *Proxy
	client, server net.Conn
	texts          map[string]string // of prepared statements, by their names

	mu   sync.Mutex // guards the one below
	lost []bool     // for each request that is not answered: its answer is lost
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
		_ = client.Close() // with it, the requests end
	})
	l.requests()
	_ = server.Close()
	answers.Wait()
}

// requests hands requests on to the server, each as a whole.
func (l *link) requests() {
	start, err := readMessage(l.client, false)
	if err != nil {
		return
	}
	if _, err := l.server.Write(start); err != nil {
		return
	}
	l.await(false) // the greeting is answered like a request
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
		} else if kind != 'p' && kind != 'X' && kind != 'H' { // what is not waited for goes on at once
			continue
		}
		if _, err := l.server.Write(batch); err != nil {
			return
		}
		batch = batch[:0]
	}
}

// marks tells whether a message runs a statement with the marker in it.
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

// takes counts a request that is lost.
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

// answers hands answers on to the client, until one is lost.
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

// loses tells whether what the server answers now is lost.
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

// readMessage reads a message with its head; only the first of a connection has no kind.
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
