package faultproxy_test

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/faultproxy"
)

// patience is long enough for a very busy machine.
const patience = time.Minute

// linked returns a link and both ends of a connection over it.
func linked(t *testing.T) (l *faultproxy.Link, client, server net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	if l, err = faultproxy.NewLink(listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	if client, err = net.Dial("tcp", l.Addr()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if server, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	for _, conn := range []net.Conn{client, server} {
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
	}
	return l, client, server
}

// send sends a byte from one end to the other.
func send(from, to net.Conn) error {
	if _, err := from.Write([]byte("x")); err != nil {
		return err
	}
	_, err := to.Read(make([]byte, 1))
	return err
}

// held sends a byte, checks that it does not arrive for a moment, and returns a function that waits until it
// does.
func held(t *testing.T, from, to net.Conn) <-chan error {
	t.Helper()
	arrived := make(chan error, 1)
	go func() { arrived <- send(from, to) }()
	select {
	case err := <-arrived:
		t.Fatalf("data passed a link that is cut: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	return arrived
}

func TestALinkThatIsCutDelaysData(t *testing.T) {
	t.Parallel()
	for name, way := range map[string]faultproxy.Way{"there": faultproxy.There, "back": faultproxy.Back} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, client, server := linked(t)
			restore := l.Cut(way)
			from, to := client, server
			if way == faultproxy.Back {
				from, to = server, client
			}
			if err := send(to, from); err != nil {
				t.Fatal("the other direction does not work: ", err)
			}
			arrived := held(t, from, to)
			restore()
			if err := <-arrived; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestALinkThatIsCutTwiceMustBeRestoredTwice(t *testing.T) {
	t.Parallel()
	l, client, server := linked(t)
	one, both := l.Cut(faultproxy.There), l.Cut(faultproxy.There, faultproxy.Back)
	one()
	one() // a second call does nothing
	arrived := held(t, client, server)
	both()
	if err := <-arrived; err != nil {
		t.Error(err)
	}
}

func TestASlowLinkDelaysData(t *testing.T) {
	t.Parallel()
	l, client, server := linked(t)
	const delay = 50 * time.Millisecond
	undo := l.Slow(delay)
	began := time.Now()
	if err := send(client, server); err != nil || time.Since(began) < delay {
		t.Errorf("it took %v: %v", time.Since(began), err)
	}
	undo()
	if err := send(client, server); err != nil {
		t.Error(err)
	}
}

func TestCloseClosesTheConnectionsOfALink(t *testing.T) {
	t.Parallel()
	l, client, server := linked(t)
	l.Cut(faultproxy.There, faultproxy.Back)
	l.Close()
	for _, conn := range []net.Conn{client, server} {
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !isReset(err) {
			t.Error(err)
		}
	}
}

// isReset reports whether an error means that the connection has ended.
func isReset(err error) bool {
	var timeout net.Error
	return err != nil && (!errors.As(err, &timeout) || !timeout.Timeout())
}
