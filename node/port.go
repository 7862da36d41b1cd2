package node

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/posta-tasks/posta/httpapi"
	"github.com/posta-tasks/posta/lineapi"
	"github.com/posta-tasks/posta/task"
)

const (
	// keepAlive is the time between probes. A client that does not answer three of them has vanished.
	keepAlive      = 15 * time.Second
	keepAliveCount = 3
	// userTimeout ends connections whose client does not acknowledge bytes.
	userTimeout = 30 * time.Second
	// healthPatience is how long a connection that is reserved for health checks may be silent.
	healthPatience = 100 * time.Millisecond
	// notSent limits the unsent bytes in the kernel's buffer, so that the node notices the
	// progress of a slow client within the write timeout.
	notSent = 128 << 10
	// maxRefusing limits the refused connections that linger at a time.
	maxRefusing = 256
	// acceptPause is how long the port waits when the process has no descriptor left.
	acceptPause = 50 * time.Millisecond
	// backlogTime limits how long the closing port accepts connections from its backlog. A busy machine needs some
	// time for it, and new clients must not keep the port open.
	backlogTime = 2 * time.Second
)

// tlsByte is the first byte of a TLS client.
const tlsByte = 0x16

// tlsAlert is the reply to a TLS client on a port without TLS, or to one that is refused
// before the handshake: fatal, handshake_failure.
var tlsAlert = [...]byte{0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x28}

// port accepts connections and passes each to the door that matches its first byte.
type port struct {
	node     *Node
	listener *net.TCPListener
	proxy    proxyReader
	serving  sync.WaitGroup
	refusing atomic.Int64
	refused  atomic.Int64 // since the start
	closing  atomic.Bool
	probed   atomic.Bool  // a client has connected and closed without sending
	newest   atomic.Int64 // when the last connection was accepted, in Unix nanoseconds

	mu       sync.Mutex // guards the fields below
	open     int
	byAddr   map[netip.Addr]int
	waiting  map[*net.TCPConn]struct{} // connections that have sent nothing yet
	reserved []*place                  // reserved for health checks, without a complete request head so far; oldest first
}

// place is a connection's share of the connection limits.
type place struct {
	port *port
	conn *net.TCPConn
	addr netip.Addr // of the client
	free bool       // the connection has ended or was evicted; guarded by port.mu
}

func newPort(n *Node, listener net.Listener) (*port, error) {
	tcp, ok := listener.(*net.TCPListener)
	if !ok {
		return nil, errors.New("node: the listener must be one for TCP")
	}
	return &port{node: n, listener: tcp, byAddr: make(map[netip.Addr]int), waiting: make(map[*net.TCPConn]struct{})}, nil
}

// accept serves connections until close, or until the listener fails.
func (p *port) accept() error {
	for {
		conn, err := p.listener.AcceptTCP()
		switch {
		case err == nil:
			p.serving.Go(func() { p.admit(conn) })
		case p.closing.Load() || errors.Is(err, net.ErrClosed):
			return p.serveBacklog()
		case errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ECONNABORTED):
			p.node.log.Warn("a connection could not be accepted", "error", err)
			time.Sleep(acceptPause)
		default:
			return err
		}
	}
}

// close makes accept serve the backlog and return.
func (p *port) close() {
	p.closing.Store(true)
	_ = p.listener.SetDeadline(time.Unix(1, 0))
}

// serveBacklog accepts the connections in the backlog, then closes the listener. It first
// makes the backlog as small as possible, so that few connections are added meanwhile.
func (p *port) serveBacklog() error {
	raw, err := p.listener.SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) { _ = syscall.Listen(int(fd), 0) })
	}
	for end := time.Now().Add(backlogTime); ; {
		pause := time.Now().Add(acceptPause)
		if pause.After(end) {
			pause = end
		}
		_ = p.listener.SetDeadline(pause)
		conn, err := p.listener.AcceptTCP()
		if err != nil {
			return p.listener.Close()
		}
		p.serving.Go(func() { p.admit(conn) })
	}
}

// wake ends the wait for the first byte, so that these clients learn that the node drains.
func (p *port) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.waiting {
		_ = conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// wait waits for the goroutines of all connections until ctx ends.
func (p *port) wait(ctx context.Context) {
	ended := make(chan struct{})
	go func() {
		p.serving.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
}

// admit finds the client's address, counts the connection and serves it.
func (p *port) admit(conn *net.TCPConn) {
	p.newest.Store(time.Now().UnixNano())
	setKeepAlive(conn)
	client := conn.RemoteAddr()
	if p.node.config.ProxyProtocol {
		var err error
		if client, err = p.proxy.read(conn, time.Now().Add(proxyTimeout)); err != nil {
			p.node.log.Debug("connection without a PROXY header closed", "remote", conn.RemoteAddr().String(), "error", err)
			p.probed.Store(true) // a balancer that checks by connecting sends no header
			p.refused.Add(1)
			_ = conn.Close()
			return
		}
	}
	place, refusal := p.enter(conn, addrOf(client))
	if refusal != nil {
		p.refuse(conn, refusal)
		return
	}
	p.choose(conn, place)
}

// choose detects TLS, and passes the connection to its door.
func (p *port) choose(conn *net.TCPConn, place *place) {
	since := time.Now()
	first, err := p.firstByte(conn)
	encrypted := err == nil && first == tlsByte
	switch {
	case encrypted && p.node.config.Certificates == nil:
		_, _ = conn.Write(tlsAlert[:])
		linger(conn)
		place.leave()
	case encrypted:
		p.unwrap(conn, place)
	case p.node.config.Certificates != nil && (err == nil || errors.Is(err, os.ErrDeadlineExceeded)):
		place.leave()
		p.refuse(conn, task.Refuse(task.Forbidden, "this port speaks TLS only"))
	default:
		p.door(conn, first, err, since, place)
	}
}

// door passes the connection to the door that matches its first byte. err is why there is no
// first byte.
func (p *port) door(conn halfCloser, first byte, err error, since time.Time, place *place) {
	switch {
	case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
		p.probed.Store(true) // a balancer that checks by connecting sends nothing
		_ = conn.Close()
		place.leave()
	case err == nil && 'A' <= first && first <= 'Z':
		if p.isFull() {
			p.node.http.ServeBriefly(conn, p.fullRefusal(), place.hold)
		} else {
			place.hold()
			p.node.http.Serve(conn)
		}
		place.leave()
	case p.isFull():
		place.leave()
		p.refuse(conn, p.fullRefusal())
	default:
		place.hold()
		p.node.lines.Serve(conn, since, place.leave) // this door also sends the error to a client that sent nothing in time
	}
}

// firstByte waits for the client's first byte, at most patience.
func (p *port) firstByte(conn *net.TCPConn) (byte, error) {
	defer p.await(conn)()
	return firstByte(conn, time.Now().Add(p.patience()))
}

// await lets wake end the wait for the first byte of the connection, until done is called.
func (p *port) await(conn *net.TCPConn) (done func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting[conn] = struct{}{}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.waiting, conn)
	}
}

// patience returns how long a client may take to send its first byte.
func (p *port) patience() time.Duration {
	patience := p.node.config.Limits.Idle
	switch {
	case p.closing.Load():
		patience = time.Second
	case p.isFull():
		patience = min(patience, healthPatience)
	case !p.node.config.isOpen():
		patience = min(patience, task.UnauthenticatedTimeout)
	}
	return patience
}

// enter counts a connection, or returns why it is refused. When all places are taken, enter closes the oldest connection on
// a place reserved for health checks whose client has not sent a complete request head, so that such clients cannot occupy
// these places.
func (p *port) enter(conn *net.TCPConn, addr netip.Addr) (*place, *task.Error) {
	limits := &p.node.config.Limits
	p.mu.Lock()
	defer p.mu.Unlock()
	if most := limits.ConnectionsPerAddress; most > 0 && p.byAddr[addr] >= most {
		return nil, overloaded("max-connections-per-address", most)
	}
	if p.open >= limits.Connections {
		if len(p.reserved) == 0 {
			return nil, overloaded("max-connections", limits.Connections)
		}
		oldest := p.reserved[0]
		p.release(oldest)
		p.refused.Add(1)
		_ = oldest.conn.Close() // the goroutine that serves it notices
	}
	p.open++
	p.byAddr[addr]++
	place := &place{port: p, conn: conn, addr: addr}
	if p.open > limits.Connections-limits.HealthConnections {
		p.reserved = append(p.reserved, place)
	}
	return place, nil
}

// leave removes a connection from the count. Calling it twice has no effect.
func (l *place) leave() {
	l.port.mu.Lock()
	defer l.port.mu.Unlock()
	l.port.release(l)
}

// hold protects the connection from eviction.
func (l *place) hold() {
	l.port.mu.Lock()
	defer l.port.mu.Unlock()
	l.port.unreserve(l)
}

// release frees a place. p.mu is held.
func (p *port) release(l *place) {
	if l.free {
		return
	}
	l.free = true
	p.unreserve(l)
	p.open--
	if p.byAddr[l.addr]--; p.byAddr[l.addr] == 0 {
		delete(p.byAddr, l.addr)
	}
}

// unreserve removes a place from the reserved ones that may be evicted. p.mu is held.
func (p *port) unreserve(l *place) {
	if i := slices.Index(p.reserved, l); i >= 0 {
		p.reserved = slices.Delete(p.reserved, i, i+1)
	}
}

// isFull reports whether only the places reserved for health checks are left.
func (p *port) isFull() bool {
	limits := &p.node.config.Limits
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open > limits.Connections-limits.HealthConnections
}

// isEmpty reports whether no connection is open.
func (p *port) isEmpty() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open == 0
}

// fullRefusal returns the error for clients when only the places reserved for health checks are left.
func (p *port) fullRefusal() *task.Error {
	limits := &p.node.config.Limits
	return overloaded("max-connections", limits.Connections-limits.HealthConnections)
}

func overloaded(limit string, most int) *task.Error {
	e := task.Refuse(task.Overloaded, "the node has %d connections open, its limit %s", most, limit)
	e.Limit, e.RetryAfter = limit, time.Second
	return e
}

// refuse sends a refusal, in the client's protocol if the client has sent a byte, and closes the connection.
func (p *port) refuse(conn halfCloser, refusal *task.Error) {
	p.refused.Add(1)
	if p.refusing.Add(1) > maxRefusing {
		p.refusing.Add(-1)
		_ = conn.Close()
		return
	}
	defer p.refusing.Add(-1)
	switch first, err := peekFirst(conn); {
	case err == nil && first == tlsByte:
		_, _ = conn.Write(tlsAlert[:])
	case err == nil && 'A' <= first && first <= 'Z':
		_, _ = conn.Write(httpapi.Refusal(refusal))
	default:
		_, _ = conn.Write(lineapi.Refusal(refusal))
	}
	linger(conn)
}

// peekFirst returns the first byte of a connection, if there is one.
func peekFirst(conn halfCloser) (byte, error) {
	switch conn := conn.(type) {
	case *net.TCPConn:
		return firstByte(conn, time.Now().Add(acceptPause))
	case *secured:
		return conn.first[0], nil
	default:
		return 0, net.ErrClosed
	}
}

// linger closes the write side, reads for a moment, and closes the connection. Otherwise a
// reset could discard the bytes that were written.
func linger(conn halfCloser) {
	_ = conn.CloseWrite()
	_ = conn.SetReadDeadline(time.Now().Add(task.LingerTime))
	_, _ = io.CopyN(io.Discard, conn, task.LingerBytes)
	_ = conn.Close()
}

// addrOf returns the IP address of an address.
func addrOf(addr net.Addr) netip.Addr {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// setKeepAlive makes the kernel detect vanished clients and limit its send buffer.
func setKeepAlive(conn *net.TCPConn) {
	_ = conn.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: keepAlive, Interval: keepAlive, Count: keepAliveCount})
	if raw, err := conn.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSent)
		})
	}
}
