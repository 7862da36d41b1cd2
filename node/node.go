// Package node is one Posta node: it opens the port, chooses the door of each connection by
// its first byte, starts the parts behind the doors, and drains them.
//
// A program with its own actions embeds a node: call New, then Run.
package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/dashboard"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/httpapi"
	"github.com/posta-tasks/posta/lineapi"
	"github.com/posta-tasks/posta/peer"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/worker"
)

// DefaultListen is the default address of a node. Only programs on the same machine can reach it.
const DefaultListen = "127.0.0.1:9001"

// quietTime is how long a node must be without new connections before it assumes that no balancer checks it. Common
// balancers check at least this often.
const quietTime = 5 * time.Second

// Config configures a Node. A zero field means the default in its comment.
type Config struct {
	Name          string             // of the node; default: the host name and the port
	Version       string             // of the program, for clients and logs
	Listen        string             // HOST:PORT; default DefaultListen; port 0: a free one
	Listener      net.Listener       // TCP; used instead of Listen, and closed by Run
	Actions       []actions.Action   // default actions.Builtin
	Limits        task.Limits        // zero fields mean their defaults, except DrainDelay: 0 means no delay
	Tokens        *auth.Tokens       // clients must send one of these, or a key; nil: there is no token file
	Keys          *auth.Keyring      // checks keys and passes; nil: there are none. The caller runs it
	Certificates  *auth.Certificates // the port accepts only TLS, with these; nil: plain text
	Insecure      bool               // allows an address that other machines can reach without authentication
	AllowedHosts  []string           // names under which HTTP clients may call the node
	AllowOrigins  []string           // origins of web pages elsewhere that may use the HTTP API, such as https://app.example
	ProxyProtocol bool               // every connection must begin with a PROXY header
	Durable       *durable.Config    // durable tasks: its Store, at least; nil: enqueue is unavailable
	Workers       *worker.Pool       // shared by nodes of one process, so that each reaches the workers of all; nil: its own
	Peers         PeerConfig         // how other nodes of the store reach this one, and it reaches them
	History       *dashboard.History // what the dashboard shows over time, shared by nodes of one process; nil: its own
	DefaultOp     string             // of lines without an op: run (the default) or enqueue
	Logger        *slog.Logger       // nil: warnings and errors go to stderr
	// Observe is called when a task ends, a few dozen times a second at most, on the
	// goroutine that ran it. Summarize is called for each second in which there were more.
	Observe   func(executor.Event)
	Summarize func(executor.Summary)
}

// Node is a node. Its methods are safe for concurrent use.
type Node struct {
	config   Config
	log      *slog.Logger
	executor *executor.Executor
	durable  *durable.Engine // nil without a store
	peers    *peer.Peers     // nil unless other processes use the store
	budget   *task.Budget
	lines    *lineapi.Server
	http     *httpapi.Server
	port     *port
	draining atomic.Bool
	ran      atomic.Bool // Run was called
}

// New returns a node with an open port, so that Addr is known; Run serves it. A node that is
// not run keeps the port until the process ends. New refuses an address that other machines
// can reach if clients are not authenticated (by Tokens, or by Certificates with an authority
// for clients) and Insecure is not set.
func New(config Config) (*Node, error) {
	if config.Listen == "" {
		config.Listen = DefaultListen
	}
	if config.Actions == nil {
		config.Actions = actions.Builtin()
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	delay := config.Limits.DrainDelay
	if config.ProxyProtocol && config.Limits.ConnectionsPerAddress == 0 {
		config.Limits.ConnectionsPerAddress = task.ProxyConnectionsPerAddress
	}
	var err error
	if config.Limits, err = config.Limits.WithDefaults(); err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	config.Limits.DrainDelay = delay
	if config.Limits.BufferedBytes == 0 {
		config.Limits.BufferedBytes = DefaultBuffered()
	}
	if refusal := task.CheckName("the name of the node", config.Name); refusal != nil {
		return nil, fmt.Errorf("node: %s: %q", refusal.Message, config.Name)
	}
	listener, err := listen(config)
	if err != nil {
		return nil, err
	}
	if config.Name == "" {
		config.Name = defaultName(listener.Addr())
	}
	n := &Node{config: config, log: config.Logger.With("node", config.Name)}
	if err := n.build(listener); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return n, nil
}

// isClosed reports whether clients are authenticated or the operator has set Insecure.
func (c *Config) isClosed() bool {
	return c.Insecure || !c.isOpen() || c.Certificates.AsksClients()
}

// isOpen reports whether clients need no token.
func (c *Config) isOpen() bool { return auth.Verifier{Tokens: c.Tokens, Keys: c.Keys}.IsOpen() }

// listen checks the address and opens the port, unless the caller has opened it.
func listen(config Config) (net.Listener, error) {
	if config.Listener != nil {
		return config.Listener, checkTrust(config.Listener.Addr(), config.isClosed())
	}
	addr, err := resolveListen(config.Listen)
	if err != nil {
		return nil, err
	}
	if err := checkTrust(addr, config.isClosed()); err != nil {
		return nil, err
	}
	return net.ListenTCP("tcp", addr)
}

// defaultName names a node after its host and port.
func defaultName(addr net.Addr) string {
	host, err := os.Hostname()
	if err != nil {
		host = "node"
	}
	text := addr.String()
	return host + text[strings.LastIndexByte(text, ':'):]
}

// withTimeout returns defaults with the timeout of attempts set to timeout where they have none.
func withTimeout(defaults map[string]task.Defaults, timeout time.Duration) map[string]task.Defaults {
	defaults = maps.Clone(defaults)
	if defaults == nil {
		defaults = map[string]task.Defaults{}
	}
	all := defaults["*"]
	all.Timeout = cmp.Or(all.Timeout, timeout)
	defaults["*"] = all
	return defaults
}

// build creates the parts, from the inside out.
func (n *Node) build(listener net.Listener) error {
	config, limits := &n.config, n.config.Limits
	if config.Workers == nil {
		config.Workers = worker.NewPool()
	}
	registry, err := actions.NewRegistry(config.Actions...)
	if err != nil {
		return err
	}
	n.peers = n.newPeers()
	executing := executor.Config{
		Registry: registry, Slots: limits.Slots, QuickSlots: limits.QuickSlots, StuckSlots: limits.StuckSlots,
		MaxResult: limits.ResultBytes, TaskTimeout: limits.TaskTimeout, PoolWait: limits.PoolWait,
		Logger: n.log, Observe: config.Observe, Summarize: config.Summarize,
		Remote: remote{config.Workers, limits.ResultBytes},
	}
	if n.peers != nil {
		executing.Peers = n.peers
	}
	if n.executor, err = executor.New(executing); err != nil {
		return err
	}
	if config.Durable != nil {
		engine := *config.Durable
		engine.Executor, engine.Node, engine.Logger = n.executor, config.Name, n.log
		engine.Workers, engine.SignLeases = config.Workers, !config.isOpen() || config.Certificates.AsksClients()
		n.shareNodes(&engine)
		engine.Streams = n.executor.Streams
		engine.Defaults = withTimeout(engine.Defaults, limits.TaskTimeout)
		if n.durable, err = durable.New(engine); err != nil {
			return err
		}
	}
	n.budget = task.NewBudget(limits.BufferedBytes)
	n.lines, err = lineapi.New(lineapi.Config{
		Executor: n.executor, Durable: n.durable, Workers: config.Workers, Tokens: config.Tokens, Keys: config.Keys, Limits: limits, Budget: n.budget, DefaultOp: config.DefaultOp, Logger: n.log,
		Node: config.Name, Version: config.Version,
	})
	if err != nil {
		return err
	}
	n.http, err = httpapi.New(httpapi.Config{
		Executor: n.executor, Durable: n.durable, Workers: config.Workers, Lines: n.lines.ServeAs, Tokens: config.Tokens, Keys: config.Keys, Limits: limits, Budget: n.budget, Logger: n.log,
		Node: config.Name, Version: config.Version, Ready: n.ready, Metrics: n.metrics(), History: config.History,
		AllowedHosts: allowedHosts(config.Listen, config.AllowedHosts), AllowOrigins: config.AllowOrigins,
	})
	if err != nil {
		return err
	}
	n.port, err = newPort(n, listener)
	return err
}

// Addr returns the address on which the node listens.
func (n *Node) Addr() net.Addr { return n.port.listener.Addr() }

// Name returns the name of the node.
func (n *Node) Name() string { return n.config.Name }

// SetActions replaces the actions of the node, also while it runs. Attempts that run or wait
// for a slot keep the actions that they began with. The node claims durable tasks of new
// actions at once.
func (n *Node) SetActions(list ...actions.Action) error {
	if err := n.executor.SetActions(list...); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	if n.durable != nil {
		n.durable.ActionsChanged()
	}
	return nil
}

// ServeChild serves a worker that this process has started, over its standard input and output. It returns when the
// connection is over, and ends the connection when ctx ends.
func (n *Node) ServeChild(ctx context.Context, conn net.Conn, child lineapi.Child) {
	n.lines.ServeChild(ctx, conn, child)
}

// ready returns why the node should get no new work, or nil.
func (n *Node) ready() error {
	switch {
	case n.draining.Load():
		return task.Refuse(task.Draining, "the node is draining")
	case !n.executor.Healthy():
		return task.Refuse(task.Overloaded, "more tasks ignore their timeout than the %d slots that are replaced", n.config.Limits.StuckSlots)
	}
	return nil
}

// Run serves until ctx ends, then drains: it stops being ready, waits for the drain delay,
// closes the listener, asks its clients to leave, answers the requests it has received, and
// returns nil. The drain timeout limits this; tasks that still run then are cancelled. Call
// Run once. An error means that the listener failed.
func (n *Node) Run(ctx context.Context) error {
	if n.ran.Swap(true) {
		return errors.New("node: Run was already called; create a new node")
	}
	n.log.Info("node serves", "addr", n.Addr().String())
	endWork, endPages := n.work(), n.feedPages()
	defer endPages()
	failed := make(chan error, 1)
	var accepting sync.WaitGroup
	accepting.Go(func() { failed <- n.port.accept() })
	select {
	case err := <-failed:
		n.stop(endWork)
		return fmt.Errorf("node: %w", err)
	case <-ctx.Done():
	}
	n.draining.Store(true)
	if n.peers != nil {
		n.durable.Announce() // other nodes pass no more runs to this one
	}
	n.http.Drain() // HTTP clients leave with their next response, before any connection closes
	delay := n.drainDelay()
	n.log.Info("node drains", "delay_s", delay.Seconds(), "timeout_s", n.config.Limits.DrainTimeout.Seconds())
	select {
	case <-time.After(delay):
	case err := <-failed:
		n.log.Warn("the listener failed while draining", "error", err)
	}
	n.port.close()
	accepting.Wait()
	n.stop(endWork)
	n.log.Info("node has drained")
	return nil
}

// drainDelay returns how long the listener stays open for balancers that have not noticed the drain yet. It returns 0 if no
// connection is open, none was opened lately, and no balancer has ever checked the node over HTTP, with a ping, or by connecting.
func (n *Node) drainDelay() time.Duration {
	probed := n.http.Probed() || n.lines.Probed() || n.port.probed.Load()
	if n.port.isEmpty() && !probed && time.Since(time.Unix(0, n.port.newest.Load())) >= quietTime {
		return 0
	}
	return n.config.Limits.DrainDelay
}

// work runs durable tasks, if there is a store, until the returned function is called. That
// function lets running attempts finish until ctx ends, and releases the others.
func (n *Node) work() (end func(ctx context.Context)) {
	if n.durable == nil {
		return func(context.Context) {}
	}
	life, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.durable.Run(life) }()
	return func(ctx context.Context) {
		n.durable.Drain(ctx)
		stop()
		if err := <-ended; err != nil {
			n.log.Error("durable tasks did not run", "error", err)
		}
	}
}

// feedPages feeds the pages of the dashboard until the returned function is called.
func (n *Node) feedPages() (end func()) {
	life, stop := context.WithCancel(context.Background())
	var pages sync.WaitGroup
	pages.Go(func() { n.http.RunPages(life) })
	return func() {
		stop()
		pages.Wait()
	}
}

// stop ends the parts, from the outside in, each after the parts that use it: first the doors
// and the running durable tasks, then the executor.
func (n *Node) stop(endWork func(context.Context)) {
	ctx, cancel := context.WithTimeout(context.Background(), n.config.Limits.DrainTimeout)
	defer cancel()
	n.lines.Drain()
	n.http.Drain()
	n.port.wake()
	var doors sync.WaitGroup
	doors.Go(func() {
		n.port.wait(ctx) // connections without a first byte may still come to a door
		n.lines.Close(ctx)
	})
	doors.Go(func() {
		if err := n.http.Close(ctx); err != nil {
			n.log.Warn("HTTP requests were cut off at the drain timeout", "error", err)
		}
	})
	doors.Go(func() { endWork(ctx) })
	doors.Wait()
	if err := n.executor.Close(ctx); err != nil {
		n.log.Warn("the executor was not idle at the drain timeout", "error", err)
	}
	if n.peers != nil {
		n.peers.Close()
	}
	n.port.wait(ctx)
}
