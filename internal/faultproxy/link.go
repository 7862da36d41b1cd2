package faultproxy

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// Way is a direction on a link.
type Way int

// The directions.
const (
	There Way = iota // from the program to the server
	Back
)

// Link is a network between a program and a server. While it is cut, what is sent waits, the ends of
// connections too, as it would for packets that are sent again; nobody is told. Its methods are safe for
// concurrent use.
type Link struct {
	listener net.Listener
	target   string
	carriers sync.WaitGroup

	mu    sync.Mutex // guards all below
	cuts  [2]int     // how many faults cut it, each way
	whole [2]chan struct{}
	delay time.Duration // of everything that is sent
	open  map[net.Conn]bool
	ended bool
}

// NewLink makes a link to a server, on a port of loopback. Close ends it.
func NewLink(target string) (*Link, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &Link{listener: listener, target: target, open: map[net.Conn]bool{}}
	l.carriers.Go(func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			l.carriers.Go(func() { l.carry(from) })
		}
	})
	return l, nil
}

// Addr is where the program finds the server.
func (l *Link) Addr() string { return l.listener.Addr().String() }

// Close closes the link and all its connections, and waits for them.
func (l *Link) Close() {
	_ = l.listener.Close()
	l.mu.Lock()
	l.ended = true
	for conn := range l.open {
		_ = conn.Close()
	}
	for way := range l.whole {
		l.cuts[way] = 0
		l.mendLocked(Way(way))
	}
	l.mu.Unlock()
	l.carriers.Wait()
}

// Cut cuts the link in some directions, until it is mended.
func (l *Link) Cut(ways ...Way) (mend func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, way := range ways {
		if l.cuts[way]++; l.whole[way] == nil {
			l.whole[way] = make(chan struct{})
		}
	}
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, way := range ways {
			l.cuts[way]--
			l.mendLocked(way)
		}
	})
}

// mendLocked lets go on what waits, if nothing cuts the link any more. Its caller holds mu.
func (l *Link) mendLocked(way Way) {
	if l.cuts[way] <= 0 && l.whole[way] != nil {
		close(l.whole[way])
		l.whole[way] = nil
	}
}

// Slow has everything that is sent wait for so long, until that is undone.
func (l *Link) Slow(delay time.Duration) (undo func()) {
	add := func(d time.Duration) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.delay += d
	}
	add(delay)
	return sync.OnceFunc(func() { add(-delay) })
}

// carry serves one connection until both of its ends are closed.
func (l *Link) carry(from net.Conn) {
	defer l.drop(from)
	if !l.keep(from) {
		return
	}
	l.wait(There)
	to, err := new(net.Dialer).DialContext(context.Background(), "tcp", l.target)
	if err != nil {
		return
	}
	defer l.drop(to)
	if !l.keep(to) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { l.copy(to, from, There) })
	both.Go(func() { l.copy(from, to, Back) })
	both.Wait()
}

// copy sends on what comes, and the end of it.
func (l *Link) copy(to, from net.Conn, way Way) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		l.wait(way)
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
func (l *Link) wait(way Way) {
	for {
		l.mu.Lock()
		whole, delay, ended := l.whole[way], l.delay, l.ended
		l.mu.Unlock()
		switch {
		case ended:
			return
		case whole != nil:
			<-whole
		case delay > 0:
			<-time.After(delay)
			return
		default:
			return
		}
	}
}

// keep notes a connection, so that Close closes it.
func (l *Link) keep(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		l.open[conn] = true
	}
	return !l.ended
}

func (l *Link) drop(conn net.Conn) {
	_ = conn.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, conn)
}
