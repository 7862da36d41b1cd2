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

// Config says what the built-in balancer does. A zero field means the default
// named beside it.
type Config struct {
	// Listen is the address for clients, host:port; port 0 takes a free one.
	// Default: DefaultListen. Not used when Listener is given.
	Listen string
	// Listener is a *net.TCPListener to take clients from; Run closes it.
	// Default: one on Listen.
	Listener net.Listener
	// Nodes are the nodes' addresses, host:port, each once. At least one.
	Nodes []string
	// ProxyProtocol sends nodes a PROXY protocol header, version 2, on clients'
	// connections and on health checks. Default: no header.
	ProxyProtocol bool
	// NodeTLS is for health checks of nodes that speak TLS; without a ServerName, the
	// host of a node's address is what its certificate must name. Clients' connections are passed
	// on as they are. Default: checks are plain text.
	NodeTLS *tls.Config
	// MaxConnections bounds the open client connections; those beyond it are
	// refused (overloaded). Two descriptors are needed for each: New lowers it to what the
	// process may open. Default: DefaultMaxConnections.
	MaxConnections int
	// ConnectTimeout bounds one attempt to connect to a node.
	// Default: DefaultConnectTimeout.
	ConnectTimeout time.Duration
	// CheckInterval is the time between two health checks of a node, CheckTimeout
	// bounds one. Defaults: DefaultCheckInterval, DefaultCheckTimeout.
	CheckInterval, CheckTimeout time.Duration
	// Fall is the number of failures in a row after which a node is down, Rise the
	// number of good checks in a row after which it is up. Default: 2 each.
	Fall, Rise int
	// Wait is how long a connection waits for a node to come up when none can be
	// reached, before it is refused (unavailable). Default: 2 s.
	Wait time.Duration
	// DrainTimeout bounds the time that open connections have to finish after the
	// context of Run has ended. Default: DefaultDrainTimeout.
	DrainTimeout time.Duration
	// KeepAlive is the time after which a silent peer is asked whether it lives.
	// Default: DefaultKeepAlive.
	KeepAlive time.Duration
	// Logger gets a line for each change of a node's state, and at most one a
	// second about refused connections. Default: none.
	Logger *slog.Logger
}

// defaultWait is long enough for a single node to restart quickly, and short
// enough for a person who waits for an answer.
const defaultWait = 2 * time.Second

// Balancer is the built-in balancer. Make it with New, start it with Run. Its
// methods are safe for concurrent use.
type Balancer struct {
	cfg      Config
	listener *net.TCPListener
	nodes    *nodes
	carrier  *carrier

	overloaded, unavailable *refusal
	lingering               chan struct{} // one for each refusal that lingers

	working sync.WaitGroup // one for each client connection

	// mu guards what follows. Nothing slow happens under it.
	mu       sync.Mutex
	clients  int // connections that count towards MaxConnections
	relays   map[*relay]struct{}
	refused  int64
	unlogged int64 // refusals since the last line about them
	lastLog  time.Time
}

// Stats is what the balancer looked like at one moment.
type Stats struct {
	// Nodes has one row for each node, in the order of the configuration.
	Nodes []NodeStats `json:"nodes"`
	// Open is the number of client connections, those included that wait for a
	// node.
	Open int `json:"open"`
	// Refused counts the connections that no node got.
	Refused int64 `json:"refused"`
}

// New checks cfg and opens the listener, so that clients may connect from then
// on; Run serves them. Errors name the value that is wrong.
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

// complete fills in the defaults and refuses what is wrong.
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

// fitDescriptors lowers MaxConnections to what the process may open.
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

// Addr is the address that clients connect to.
func (b *Balancer) Addr() net.Addr { return b.listener.Addr() }

// Stats counts what is there now.
func (b *Balancer) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Stats{Nodes: b.nodes.stats(), Open: b.clients, Refused: b.refused}
}

// backlogTime is how long connections are still taken after the context of Run
// has ended: what the kernel has accepted on our behalf would be reset when the
// listener closes.
const backlogTime = 50 * time.Millisecond

// expireInterval is the time between two looks for connections whose client has
// had its time.
const expireInterval = time.Second

// Run serves clients until ctx ends, then drains: it takes no more connections,
// lets the open ones finish for at most DrainTimeout and cuts the rest. It
// returns when all its goroutines have ended: nil after a drain, otherwise what
// made the listener unusable. It may be called once.
func (b *Balancer) Run(ctx context.Context) error {
	// Checks and connects go on while the drain does.
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	var watchers sync.WaitGroup
	for _, n := range b.nodes.list {
		watchers.Go(func() { b.watch(serving, n) })
	}
	watchers.Go(func() { b.expire(serving) })

	stop := context.AfterFunc(ctx, func() { _ = b.listener.SetDeadline(time.Now().Add(backlogTime)) })
	err := b.accept(ctx, serving)
	stop()
	// The listener closes before the wait: nobody may connect to what drains.
	err = errors.Join(err, b.listener.Close())
	b.drain(stopServing)
	stopServing()
	watchers.Wait()
	b.carrier.close()
	return err
}

// accept takes connections until the listener's deadline, which the end of ctx
// sets, or until the listener fails for good.
func (b *Balancer) accept(ctx, serving context.Context) error {
	pause := time.Duration(0)
	for {
		conn, err := b.listener.AcceptTCP()
		switch {
		case err == nil:
			pause = 0
			b.take(serving, conn)
		case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("balancer: %w", err)
		default:
			// Out of descriptors, or a client that was gone before it was accepted.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			b.cfg.Logger.Warn("cannot accept", "error", err, "pause", pause)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		}
	}
}

// take starts the work on one client connection.
func (b *Balancer) take(serving context.Context, conn *net.TCPConn) {
	b.mu.Lock()
	room := b.clients < b.cfg.MaxConnections
	if room {
		b.clients++
	}
	b.mu.Unlock()
	b.working.Go(func() {
		if !room {
			b.refuse(conn, b.overloaded)
			return
		}
		defer b.leave()
		b.serve(serving, conn)
	})
}

func (b *Balancer) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clients--
}

// serve finds a node for a client and carries their bytes until both have ended.
func (b *Balancer) serve(serving context.Context, client *net.TCPConn) {
	_ = client.SetKeepAliveConfig(b.keepAlive())
	to, n, err := b.connect(serving, client)
	if err != nil {
		b.refuse(client, b.refusalOf(err))
		return
	}
	defer b.nodes.release(n)
	r := b.carrier.join(client, to)
	b.enter(r)
	defer b.exit(r)
	if serving.Err() != nil { // the drain was over before r could be found
		r.cancel()
	}
	r.run()
}

// refusalOf says what a client is told about a failure to connect.
func (b *Balancer) refusalOf(err error) *refusal {
	if isOurs(err) {
		return b.overloaded
	}
	return b.unavailable
}

func (b *Balancer) enter(r *relay) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.relays[r] = struct{}{}
}

func (b *Balancer) exit(r *relay) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.relays, r)
}

// each calls do for every relay there is.
func (b *Balancer) each(do func(*relay)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for r := range b.relays {
		do(r)
	}
}

// expire looks for clients that have had their time, until ctx ends.
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

// drain waits until no client connection is left, at most DrainTimeout; then it
// stops serving and cuts those that are left.
func (b *Balancer) drain(stopServing func()) {
	finished := make(chan struct{})
	go func() {
		b.working.Wait()
		close(finished)
	}()
	limit := time.NewTimer(b.cfg.DrainTimeout)
	defer limit.Stop()
	select {
	case <-finished:
	case <-limit.C:
		stopServing() // before each, so that a relay that it does not see cancels itself
		b.each((*relay).cancel)
		<-finished
	}
}

// keepAlive finds out within a minute that a peer is gone without a word.
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
