package balancer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// Config configures the built-in balancer. A zero field means the default in its
// comment.
type Config struct {
	// Listen is the address for clients, host:port; port 0 means a free one.
	// Default: DefaultListen. Not used when Listener is given.
	Listen string
	// Listener is a *net.TCPListener for clients; Run closes it.
	// Default: one on Listen.
	Listener net.Listener
	// Nodes are the addresses of the nodes, host:port: at least one, no duplicates.
	Nodes []string
	// ProxyProtocol sends a PROXY protocol header, version 2, to nodes on clients'
	// connections and on health checks. Default: no header.
	ProxyProtocol bool
	// NodeTLS is used for health checks of nodes that speak TLS. Without a ServerName, a
	// node's certificate must name the host of its address. Clients' connections pass
	// unchanged. Default: checks in plain text.
	NodeTLS *tls.Config
	// MaxConnections limits the open client connections; more are refused (overloaded).
	// Each needs two descriptors, so New lowers the limit to what the process may open.
	// Default: DefaultMaxConnections.
	MaxConnections int
	// ConnectTimeout limits one attempt to connect to a node.
	// Default: DefaultConnectTimeout.
	ConnectTimeout time.Duration
	// CheckInterval is the time between two health checks of a node, CheckTimeout
	// limits one. Defaults: DefaultCheckInterval, DefaultCheckTimeout.
	CheckInterval, CheckTimeout time.Duration

	// Fall is the number of failed checks in a row after which a node is down, and Rise the
	// number of good checks in a row after which it is up again. Default: 2 each.
	Fall, Rise int
	// Wait is how long a connection waits for a node when none can be reached, before it
	// is refused (unavailable). Default: 2 s.
	Wait time.Duration
	// DrainTimeout is how long open connections may take to finish after the context of
	// Run has ended. Default: DefaultDrainTimeout.
	DrainTimeout time.Duration
	// KeepAlive is the time after which a silent peer gets a TCP keepalive probe.
	// Default: DefaultKeepAlive.
	KeepAlive time.Duration
	// Logger receives a line for each change of a node's state, and at most one line a
	// second about refused connections. Default: no logs.
	Logger *slog.Logger
}

// defaultWait is long enough for a quick restart of a single node, and short enough for a
// person who waits for a reply.
const defaultWait = 2 * time.Second

// Balancer is the built-in balancer. Create it with New and start it with Run. Its methods
// are safe for concurrent use.
type Balancer struct {
	cfg      Config
	listener *net.TCPListener
	nodes    *nodes
	carrier  *carrier

	overloaded, unavailable *refusal
	lingering               chan struct{} // one token for each lingering refusal

	serving sync.WaitGroup // one for each client connection

	// mu guards the fields below. It is held briefly.
	mu       sync.Mutex
	clients  int // connections that count against MaxConnections
	relays   map[*relay]struct{}
	refused  int64
	unlogged int64 // refusals since the last line about them
	lastLog  time.Time
}

// Stats is a snapshot of the balancer.
type Stats struct {
	// Nodes has one row for each node, in the order of the configuration.
	Nodes []NodeStats `json:"nodes"`
	// Open is the number of client connections, including those that wait for a node.
	Open int `json:"open"`
	// Refused is the number of connections that no node got.
	Refused int64 `json:"refused"`
}

// New checks cfg and opens the listener. Clients can connect from then on, and Run serves
// them. Errors name the wrong value.
func New(cfg Config) (*Balancer, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("balancer: %w", err)
	}
	listener, err := cfg.listener()
	if err != nil {
		return nil, fmt.Errorf("balancer: %w", err)
	}
	addresses, err := nodeAddresses(listener.Addr().String(), cfg.Nodes)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("balancer: %w", err), listener.Close())
	}
	return &Balancer{
		cfg:      cfg,
		listener: listener,
		nodes:    newNodes(addresses, cfg),
		carrier:  newCarrier(),
		overloaded: newRefusal("overloaded", "too many connections",
			fmt.Sprintf("%d connections", cfg.MaxConnections)),
		unavailable: newRefusal("unavailable", "no node can be reached", ""),
		lingering:   make(chan struct{}, maxLingering),
		relays:      make(map[*relay]struct{}),
	}, nil
}

// complete sets the defaults and checks the values.
func (c *Config) complete() error {
	if _, err := nodeAddresses("", c.Nodes); err != nil {
		return err
	}
	for _, field := range []struct {
		name     string
		value    *time.Duration
		standard time.Duration
	}{
		{"connect timeout", &c.ConnectTimeout, DefaultConnectTimeout},
		{"check interval", &c.CheckInterval, DefaultCheckInterval},
		{"check timeout", &c.CheckTimeout, DefaultCheckTimeout},
		{"wait", &c.Wait, defaultWait},
		{"drain timeout", &c.DrainTimeout, DefaultDrainTimeout},
		{"keepalive", &c.KeepAlive, DefaultKeepAlive},
	} {
		if *field.value < 0 {
			return fmt.Errorf("%s: %v is negative", field.name, *field.value)
		}
		if *field.value == 0 {
			*field.value = field.standard
		}
	}
	for _, field := range []struct {
		name     string
		value    *int
		standard int
	}{
		{"max connections", &c.MaxConnections, DefaultMaxConnections},
		{"fall", &c.Fall, defaultFall},
		{"rise", &c.Rise, defaultRise},
	} {
		if *field.value < 0 {
			return fmt.Errorf("%s: %d is negative", field.name, *field.value)
		}
		if *field.value == 0 {
			*field.value = field.standard
		}
	}
	if c.Listen == "" {
		c.Listen = DefaultListen
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.fitDescriptors()
	return nil
}

// fitDescriptors lowers MaxConnections to the number for which the process may open descriptors.
func (c *Config) fitDescriptors() {
	limit, known := descriptorLimit()
	if most := max((limit-descriptorsBesides)/2, 1); known && most < c.MaxConnections {
		c.Logger.Debug("fewer connections than configured: each takes two descriptors",
			"configured", c.MaxConnections, "connections", most, "descriptors", limit)
		c.MaxConnections = most
	}
}

func (c *Config) listener() (*net.TCPListener, error) {
	if c.Listener != nil {
		listener, ok := c.Listener.(*net.TCPListener)
		if !ok {
			return nil, fmt.Errorf("listener: %T is not a *net.TCPListener", c.Listener)
		}
		return listener, nil
	}
	host, port, err := splitAddress(strings.TrimPrefix(c.Listen, "*"))
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(host, fmt.Sprint(port)))
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return listener.(*net.TCPListener), nil
}

// Addr returns the address that clients connect to.
func (b *Balancer) Addr() net.Addr { return b.listener.Addr() }

// Stats returns the current counts.
func (b *Balancer) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Stats{Nodes: b.nodes.stats(), Open: b.clients, Refused: b.refused}
}

// backlogTime is how long Run still accepts connections after its context has ended. It
// empties the kernel's backlog, since closing the listener would reset those connections.
const backlogTime = 50 * time.Millisecond

// expireInterval is the time between two checks of the relays' deadlines.
const expireInterval = time.Second

// Run serves clients until ctx ends, then drains: it accepts no more connections, lets the
// open ones finish for at most DrainTimeout, and closes the rest. It returns when all its
// goroutines have ended: nil after a drain, otherwise the error of the listener. Call it
// once.
func (b *Balancer) Run(ctx context.Context) error {
	// Checks and connects continue during the drain.
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	var watchers sync.WaitGroup
	for _, n := range b.nodes.list {
		watchers.Go(func() { b.watch(serving, n) })
	}
	watchers.Go(func() { b.expire(serving) })

	stop := context.AfterFunc(ctx, func() { _ = b.listener.SetDeadline(time.Now().Add(backlogTime)) })
	err := b.accept(ctx, serving)
	stop()
	// The listener closes before the wait, so that no client connects during the drain.
	err = errors.Join(err, b.listener.Close())
	b.drain(stopServing)
	stopServing()
	watchers.Wait()
	b.carrier.close()
	return err
}

// accept accepts connections until the listener's deadline, which the end of ctx sets, or
// until the listener fails for good.
func (b *Balancer) accept(ctx, serving context.Context) error {
	pause := time.Duration(0)
	for {
		conn, err := b.listener.AcceptTCP()
		switch {
		case err == nil:
			pause = 0
			b.handle(serving, conn)
		case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("balancer: %w", err)
		default:
			// No descriptor is free, or the client closed the connection before it was accepted.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			b.cfg.Logger.Warn("cannot accept", "error", err, "pause", pause)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		}
	}
}

// handle serves one client connection in a goroutine, or refuses it.
func (b *Balancer) handle(serving context.Context, conn *net.TCPConn) {
	b.mu.Lock()
	accepted := b.clients < b.cfg.MaxConnections
	if accepted {
		b.clients++
	}
	b.mu.Unlock()
	b.serving.Go(func() {
		if !accepted {
			b.refuse(conn, b.overloaded)
			return
		}
		defer b.clientDone()
		b.serve(serving, conn)
	})
}

func (b *Balancer) clientDone() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clients--
}

// serve connects a client to a node and relays their bytes until both directions have ended.
func (b *Balancer) serve(serving context.Context, client *net.TCPConn) {
	_ = client.SetKeepAliveConfig(b.keepAlive())
	to, n, err := b.connect(serving, client)
	if err != nil {
		b.refuse(client, b.refusalOf(err))
		return
	}
	defer b.nodes.release(n)
	r := b.carrier.join(client, to)
	b.addRelay(r)
	defer b.removeRelay(r)
	if serving.Err() != nil { // the drain ended before r was added
		r.cancel()
	}
	r.run()
}

// refusalOf returns the refusal for an error of connect.
func (b *Balancer) refusalOf(err error) *refusal {
	if isLocal(err) {
		return b.overloaded
	}
	return b.unavailable
}

func (b *Balancer) addRelay(r *relay) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.relays[r] = struct{}{}
}

func (b *Balancer) removeRelay(r *relay) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.relays, r)
}

// each calls do for every relay.
func (b *Balancer) each(do func(*relay)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for r := range b.relays {
		do(r)
	}
}

// expire checks the relays' deadlines until ctx ends.
func (b *Balancer) expire(ctx context.Context) {
	interval := time.NewTicker(expireInterval)
	defer interval.Stop()
	for {
		select {
		case now := <-interval.C:
			b.each(func(r *relay) { r.expire(now) })
		case <-ctx.Done():
			return
		}
	}
}

// drain waits until no client connection is left, but at most DrainTimeout. Then it stops
// serving and closes the connections that are left.
func (b *Balancer) drain(stopServing func()) {
	finished := make(chan struct{})
	go func() {
		b.serving.Wait()
		close(finished)
	}()
	limit := time.NewTimer(b.cfg.DrainTimeout)
	defer limit.Stop()
	select {
	case <-finished:
	case <-limit.C:
		stopServing() // before each, so that a relay that starts now cancels itself
		b.each((*relay).cancel)
		<-finished
	}
}

// keepAlive returns the settings that detect a vanished peer within a minute.
func (b *Balancer) keepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: b.cfg.KeepAlive, Interval: b.cfg.KeepAlive, Count: 3}
}

// noteRefusal counts a refused connection and logs at most once a second.
func (b *Balancer) noteRefusal(r *refusal) {
	b.mu.Lock()
	b.refused++
	b.unlogged++
	count, now := b.unlogged, time.Now()
	due := now.Sub(b.lastLog) >= time.Second
	if due {
		b.unlogged, b.lastLog = 0, now
	}
	b.mu.Unlock()
	if due {
		b.cfg.Logger.Warn("connections refused", "reason", r.reason, "count", count)
	}
}
