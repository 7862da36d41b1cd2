package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// openers is how many connections are opened or used at the same time.
	openers = 32
	// portsPerAddress is how many connections start from one loopback address: Linux has 28,000 ports for them.
	portsPerAddress = 20_000
	exchangeTime    = 10 * time.Second
)

// Idle is a set of open, silent connections. One goroutine may use it.
type Idle struct {
	conns []net.Conn
}

// Open opens n connections and sends one task on each. The caller closes them. After an error there is nothing to
// close.
func Open(ctx context.Context, to string, connections int) (*Idle, error) {
	idle := &Idle{conns: make([]net.Conn, connections)}
	err := eachOf(connections, func(i int) (err error) {
		if idle.conns[i], err = dialFrom(ctx, i, to); err != nil {
			return fmt.Errorf("connection %d: %w", i+1, err)
		}
		return serveOnce(idle.conns[i])
	})
	if err != nil {
		idle.Close()
		return nil, err
	}
	return idle, nil
}

// Serve sends one more task on each connection. It returns how many were answered, and the errors of others.
func (idle *Idle) Serve() (int, error) {
	var served atomic.Int64
	err := eachOf(len(idle.conns), func(i int) error {
		err := serveOnce(idle.conns[i])
		if err == nil {
			served.Add(1)
		}
		return err
	})
	return int(served.Load()), err
}

// Close closes all connections.
func (idle *Idle) Close() {
	for _, conn := range idle.conns {
		if conn != nil {
			conn.Close()
		}
	}
}

// eachOf calls do for 0 to n-1 from several goroutines and returns the first few errors.
func eachOf(n int, do func(i int) error) error {
	next := make(chan int)
	errs := make([]error, openers)
	var group sync.WaitGroup
	for w := range openers {
		group.Go(func() {
			for i := range next {
				if err := do(i); err != nil {
					errs[w] = err
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	group.Wait()
	return errors.Join(errs...)
}

// dialFrom distributes the connections over several loopback addresses, since one has too few ports.
func dialFrom(ctx context.Context, i int, to string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: exchangeTime}
	if block := i / portsPerAddress; block > 0 {
		dialer.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+block))}
	}
	return dialer.DialContext(ctx, "tcp", to)
}

// serveOnce sends one task on a connection that stays open.
func serveOnce(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(exchangeTime)); err != nil {
		return err
	}
	if err := exchange(conn); err != nil {
		return err
	}
	return conn.SetDeadline(time.Time{})
}
