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
	// keepAlive frees connections whose client has vanished: three probes, this far apart.
	keepAlive      = 15 * time.Second
	keepAliveCount = 3
	// userTimeout frees connections whose client does not acknowledge what is sent.
	userTimeout = 30 * time.Second
	// healthPatience is how long one of the connections that are kept for HTTP may be silent.
	healthPatience = 100 * time.Millisecond
	// notSent is how much the kernel takes of what the network does not: little enough
	// that a slow client is seen to make progress within the write timeout.
	notSent = 128 << 10
	// maxRefusing bounds the connections that linger so that a refusal can be read.
	maxRefusing = 256
	// acceptPause is how long the port waits when the process has no descriptor left.
	acceptPause = 50 * time.Millisecond
	// backlogTime bounds how long the port accepts what waits in its backlog: a busy machine takes a while for it,
	// and clients that come all the time must not keep the port open.
	backlogTime = 2 * time.Second
)

// tlsByte is the first byte of a client that speaks TLS.
const tlsByte = 0x16

// tlsAlert tells a client that speaks TLS to a port without it, or that is refused before
// it has come in: fatal, handshake_failure.
var tlsAlert = [...]byte{0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x28}

// port accepts connections and gives each to the door that its first byte asks for.
type port struct {
	node     *Node
	listener *net.TCPListener
	proxy    proxyReader
	serving  sync.WaitGroup
	refusing atomic.Int64
	refused  atomic.Int64 // since the start
	closing  atomic.Bool
	probed   atomic.Bool  // somebody has connected and said nothing
	newest   atomic.Int64 // when the last connection came, in Unix nanoseconds

	mu      sync.Mutex // guards all below
	open    int
	byAddr  map[netip.Addr]int
	waiting map[*net.TCPConn]struct{} // have sent nothing yet
	kept    []*place                  // those kept for health checks whose clients have not sent a whole head, oldest first
}

// place is one of the connections that the port may have open.
type place struct {
	port *port
	conn *net.TCPConn
	addr netip.Addr // of the client
	free bool       // the connection is over, or had to make room; guarded by port.mu
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

// close ends accept: what waits in the backlog is still served.
func (p *port) close() {
	p.closing.Store(true)
	_ = p.listener.SetDeadline(time.Unix(1, 0))
}

// serveBacklog accepts what has connected already, then closes the listener. The
// backlog is made as small as it can be first, so that little can come in between.
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

// wake lets connections that have sent nothing yet hear that the node drains.
func (p *port) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.waiting {
		_ = conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// wait waits for the connections' goroutines until ctx ends.
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

// admit counts a connection, finds out who it is, and serves it.
func (p *port) admit(conn *net.TCPConn) {
	p.newest.Store(time.Now().UnixNano())
	setKeepAlive(conn)
	client := conn.RemoteAddr()
	if p.node.config.ProxyProtocol {
		var err error
		if client, err = p.proxy.read(conn, time.Now().Add(proxyTimeout)); err != nil {
			p.node.log.Debug("connection without a PROXY header closed", "remote", conn.RemoteAddr().String(), "error", err)
			p.probed.Store(true) // a balancer that checks by connecting sends no header either
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

// choose finds out what the connection speaks, and frees its place when it is over.
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

// door gives the connection to the door that its first byte asks for; err says why there
// was none.
func (p *port) door(conn halfCloser, first byte, err error, since time.Time, place *place) {
	switch {
	case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
		p.probed.Store(true) // a balancer that checks by connecting says nothing
		_ = conn.Close()
		place.leave()
	case err == nil && 'A' <= first && first <= 'Z':
		if p.crowded() {
			p.node.http.ServeBriefly(conn, p.crowdedRefusal(), place.hold)
		} else {
			place.hold()
			p.node.http.Serve(conn)
		}
		place.leave()
	case p.crowded():
		place.leave()
		p.refuse(conn, p.crowdedRefusal())
	default:
		place.hold()
		p.node.lines.Serve(conn, since, place.leave) // also who has said nothing in time is told so there
	}
}

// firstByte waits for the client's first byte, as long as a connection may be idle.
func (p *port) firstByte(conn *net.TCPConn) (byte, error) {
	defer p.await(conn)()
	return firstByte(conn, time.Now().Add(p.patience()))
}

// await has wake end the waiting for a byte of the connection, until the function that it
// gives is called.
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

// patience is how long a client may take to say its first byte.
func (p *port) patience() time.Duration {
	patience := p.node.config.Limits.Idle
	switch {
	case p.closing.Load():
		patience = time.Second
	case p.crowded():
		patience = min(patience, healthPatience)
	case p.node.config.Tokens != nil:
		patience = min(patience, task.UnauthenticatedTimeout)
	}
	return patience
}

// enter counts a connection, or says why it may not come in. When all places are taken, the oldest connection on a
// place kept for health checks whose client has not sent the head of a request makes room: clients that send half a head
// cannot hold these places.
func (p *port) enter(conn *net.TCPConn, addr netip.Addr) (*place, *task.Error) {
	limits := &p.node.config.Limits
	p.mu.Lock()
	defer p.mu.Unlock()
	if most := limits.ConnectionsPerAddress; most > 0 && p.byAddr[addr] >= most {
		return nil, overloaded("max-connections-per-address", most)
	}
	if p.open >= limits.Connections {
		if len(p.kept) == 0 {
			return nil, overloaded("max-connections", limits.Connections)
		}
		oldest := p.kept[0]
		p.giveUp(oldest)
		p.refused.Add(1)
		_ = oldest.conn.Close() // who serves it notices
	}
	p.open++
	p.byAddr[addr]++
	place := &place{port: p, conn: conn, addr: addr}
	if p.open > limits.Connections-limits.HealthConnections {
		p.kept = append(p.kept, place)
	}
	return place, nil
}

// leave takes a connection out of the count, once.
func (l *place) leave() {
	l.port.mu.Lock()
	defer l.port.mu.Unlock()
	l.port.giveUp(l)
}

// hold notes that the connection need not make room for others any more.
func (l *place) hold() {
	l.port.mu.Lock()
	defer l.port.mu.Unlock()
	l.port.secure(l)
}

// giveUp frees a place; p.mu is held.
func (p *port) giveUp(l *place) {
	if l.free {
		return
	}
	l.free = true
	p.secure(l)
	p.open--
	if p.byAddr[l.addr]--; p.byAddr[l.addr] == 0 {
		delete(p.byAddr, l.addr)
	}
}

// secure takes a place off the list of those that make room; p.mu is held.
func (p *port) secure(l *place) {
	if i := slices.Index(p.kept, l); i >= 0 {
		p.kept = slices.Delete(p.kept, i, i+1)
	}
}

// crowded tells whether only the connections that are kept for HTTP are left.
func (p *port) crowded() bool {
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

// crowdedRefusal tells clients that only the connections kept for health checks are left.
func (p *port) crowdedRefusal() *task.Error {
	limits := &p.node.config.Limits
	return overloaded("max-connections", limits.Connections-limits.HealthConnections)
}

func overloaded(limit string, most int) *task.Error {
	e := task.Refuse(task.Overloaded, "the node has %d connections open, its limit %s", most, limit)
	e.Limit, e.RetryAfter = limit, time.Second
	return e
}

// refuse tells a client why it cannot come in, in its own language when it has spoken.
func (p *port) refuse(conn halfCloser, refusal *task.Error) {
	p.refused.Add(1)
	if p.refusing.Add(1) > maxRefusing {
		p.refusing.Add(-1)
		_ = conn.Close()
		return
	}
	defer p.refusing.Add(-1)
	switch first, err := said(conn); {
	case err == nil && first == tlsByte:
		_, _ = conn.Write(tlsAlert[:])
	case err == nil && 'A' <= first && first <= 'Z':
		_, _ = conn.Write(httpapi.Refusal(refusal))
	default:
		_, _ = conn.Write(lineapi.Refusal(refusal))
	}
	linger(conn)
}

// said gives the first byte of a connection that may have said something already.
func said(conn halfCloser) (byte, error) {
	switch conn := conn.(type) {
	case *net.TCPConn:
		return firstByte(conn, time.Now().Add(acceptPause))
	case *secured:
		return conn.first[0], nil
	default:
		return 0, net.ErrClosed
	}
}

// linger closes the writing side, reads what still comes for a moment, and closes: so
// that what was written is not lost with a reset.
func linger(conn halfCloser) {
	_ = conn.CloseWrite()
	_ = conn.SetReadDeadline(time.Now().Add(task.LingerTime))
	_, _ = io.CopyN(io.Discard, conn, task.LingerBytes)
	_ = conn.Close()
}

// addrOf gives the client's address without its port.
func addrOf(addr net.Addr) netip.Addr {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// setKeepAlive has the kernel find out when a client has vanished, and not take more
// than it can send soon.
func setKeepAlive(conn *net.TCPConn) {
	_ = conn.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: keepAlive, Interval: keepAlive, Count: keepAliveCount})
	if raw, err := conn.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSent)
		})
	}
}
