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

// Link is a network between a program and a server. While it is cut, data and the ends of connections wait, as
// they do while a real network sends packets again; no program is notified. Its methods are safe for concurrent
// use.
type Link struct {
	listener net.Listener
	target   string
	carriers sync.WaitGroup

	mu       sync.Mutex       // guards the fields below
	cuts     [2]int           // number of active cuts in each direction
	restored [2]chan struct{} // closed when the direction works again; nil while it works
	delay    time.Duration    // of all data
	open     map[net.Conn]bool
	ended    bool
}

// NewLink returns a link to a server, on a port of loopback. The caller must call Close.
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

// Addr is the address at which the program reaches the server.
func (l *Link) Addr() string { return l.listener.Addr().String() }

// Close closes the link and all its connections, and waits for them.
func (l *Link) Close() {
	_ = l.listener.Close()
	l.mu.Lock()
	l.ended = true
	for conn := range l.open {
		_ = conn.Close()
	}
	for way := range l.restored {
		l.cuts[way] = 0
		l.restoreLocked(Way(way))
	}
	l.mu.Unlock()
	l.carriers.Wait()
}

// Cut cuts the link in some directions until restore is called.
func (l *Link) Cut(ways ...Way) (restore func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, way := range ways {
		if l.cuts[way]++; l.restored[way] == nil {
			l.restored[way] = make(chan struct{})
		}
	}
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, way := range ways {
			l.cuts[way]--
			l.restoreLocked(way)
		}
	})
}

// Disconnect ends all connections. New ones can be opened at once.
func (l *Link) Disconnect() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for conn := range l.open {
		_ = conn.Close()
	}
}

// restoreLocked lets waiting data continue if no cut is left. The caller holds mu.
func (l *Link) restoreLocked(way Way) {
	if l.cuts[way] <= 0 && l.restored[way] != nil {
		close(l.restored[way])
		l.restored[way] = nil
	}
}

// Slow delays all data until undo is called.
func (l *Link) Slow(delay time.Duration) (undo func()) {
	add := func(d time.Duration) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.delay += d
	}
	add(delay)
	return sync.OnceFunc(func() { add(-delay) })
}

// carry serves one connection until both ends are closed.
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

// copy forwards data in one direction, and then its end.
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
			_ = to.Close() // half-closed connections are not supported
			_ = from.Close()
			return
		}
	}
}

// wait waits until the link is not cut, and then for the delay.
func (l *Link) wait(way Way) {
	for {
		l.mu.Lock()
		restored, delay, ended := l.restored[way], l.delay, l.ended
		l.mu.Unlock()
		switch {
		case ended:
			return
		case restored != nil:
			<-restored
		case delay > 0:
			<-time.After(delay)
			return
		default:
			return
		}
	}
}

// keep registers a connection for Close. It returns false after Close.
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
