package chaos_test

import (
	"errors"
	"net"
	"sync"
	"testing"
	"time"
)

// way is a direction on a link.
type way int

const (
	there way = iota // from the nodes to the server
	back
)

// link is a network between the nodes and a server. While it is cut, what is sent waits, the ends of
// connections too, as it would for packets that are sent again; nobody is told.
type link struct {
	listener net.Listener
	target   string

	mu    sync.Mutex // guards all below
	cut   [2]chan struct{}
	delay time.Duration // of everything that is sent
	open  map[net.Conn]bool
	ended bool
}

// newLink makes a link to a server, which ends with the test.
func newLink(t *testing.T, target string) *link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{listener: listener, target: target, open: map[net.Conn]bool{}}
	var ended sync.WaitGroup
	ended.Go(func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			ended.Go(func() { l.carry(from) })
		}
	})
	t.Cleanup(func() {
		l.end()
		ended.Wait()
	})
	return l
}

func (l *link) addr() string { return l.listener.Addr().String() }

// end closes the link and all its connections.
func (l *link) end() {
	_ = l.listener.Close()
	for _, w := range []way{there, back} {
		l.mend(w)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	for conn := range l.open {
		_ = conn.Close()
	}
}

// carry serves one connection until both of its ends are closed.
func (l *link) carry(from net.Conn) {
	defer l.drop(from)
	if !l.keep(from) {
		return
	}
	l.wait(there)
	to, err := net.Dial("tcp", l.target)
	if err != nil {
		return
	}
	defer l.drop(to)
	if !l.keep(to) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { l.copy(to, from, there) })
	both.Go(func() { l.copy(from, to, back) })
	both.Wait()
}

// copy sends on what comes, and the end of it.
func (l *link) copy(to, from net.Conn, w way) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		l.wait(w)
		if n > 0 {
			if _, failed := to.Write(buffer[:n]); failed != nil {
				err = errors.Join(err, failed)
			}
		}
		if err != nil {
			_ = to.Close() // programs that end one direction of a connection only are none of ours
			_ = from.Close()
			return
		}
	}
}

// wait waits while the link is cut, and for as long as it is slow.
func (l *link) wait(w way) {
	for {
		l.mu.Lock()
		cut, delay := l.cut[w], l.delay
		l.mu.Unlock()
		if cut == nil {
			if delay > 0 {
				<-time.After(delay)
			}
			return
		}
		<-cut
	}
}

// sever cuts the link one way, until it is mended.
func (l *link) sever(w way) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut[w] == nil {
		l.cut[w] = make(chan struct{})
	}
}

// mend undoes sever.
func (l *link) mend(w way) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut[w] != nil {
		close(l.cut[w])
		l.cut[w] = nil
	}
}

// slow has everything wait for so long; 0: no longer.
func (l *link) slow(delay time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.delay = delay
}

// keep notes a connection, so that end closes it.
func (l *link) keep(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		l.open[conn] = true
	}
	return !l.ended
}

func (l *link) drop(conn net.Conn) {
	_ = conn.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, conn)
}

func TestALinkThatIsCutHoldsWhatIsSent(t *testing.T) {
	t.Parallel()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	l := newLink(t, server.Addr().String())
	client, err := net.Dial("tcp", l.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	accepted, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	l.sever(back)
	send := func(from, to net.Conn) error {
		if _, err := from.Write([]byte("x")); err != nil {
			return err
		}
		_, err := to.Read(make([]byte, 1))
		return err
	}
	if err := send(client, accepted); err != nil {
		t.Fatal("the way there is open: ", err)
	}
	arrived := make(chan error)
	go func() { arrived <- send(accepted, client) }()
	select {
	case err := <-arrived:
		t.Fatalf("something came over a link that is cut: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	l.mend(back)
	if err := <-arrived; err != nil {
		t.Error(err)
	}
}
