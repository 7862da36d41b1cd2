package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/posta-tasks/posta/task"
)

// The defaults of Config, with their reasons.
const (
	// DefaultConnections is enough to use each of a few nodes behind a balancer.
	DefaultConnections = 4
	// DefaultWindow is half of a server's window, so that the server's flow control
	// never delays a caller.
	DefaultWindow = 128
	// MaxWindow stays below the 256 unanswered requests that a server accepts.
	MaxWindow = 255
	// DefaultDialTimeout is longer than any healthy network takes.
	DefaultDialTimeout = 5 * time.Second
	// DefaultConnectWait is longer than the restart of a node.
	DefaultConnectWait = 10 * time.Second
	// DefaultIdle closes an unused connection within twice this time, and so before the
	// server closes it after ten minutes.
	DefaultIdle = 4 * time.Minute
	// DefaultReplyBytes is four times the largest result.
	DefaultReplyBytes = 4 << 20
)

// ErrClosed is the error of a request whose Client is closed.
var ErrClosed = errors.New("client is closed")

// Config configures a Client. A zero field means the default named in its comment.
type Config struct {
	// Addr is HOST:PORT of a node or a balancer. Required without Dial.
	Addr string
	// Dial replaces the TCP connection to Addr. It must return soon after ctx has ended.
	Dial func(ctx context.Context) (net.Conn, error)
	// TLS, when set, encrypts the TCP connection to Addr. Without a ServerName, the server's
	// certificate must name the host of Addr. Not used with Dial.
	TLS *tls.Config
	// Token, when set, authenticates each connection before anything else is sent.
	Token string
	// Connections limits the connections that are open for new requests; DefaultConnections.
	Connections int
	// Window is how many requests may be unanswered on one connection, at most
	// MaxWindow; DefaultWindow. A request whose caller gave up counts until its reply
	// arrives.
	Window int
	// Resend allows every request to be sent again if its connection ended after it
	// was written. Set it only if your actions may run twice.
	Resend bool
	// DialTimeout limits connecting, authentication and ping together; DefaultDialTimeout.
	DialTimeout time.Duration
	// ConnectWait is how long a request waits while no connection can be opened,
	// before it fails with the reason; DefaultConnectWait. If negative, the request
	// fails as soon as one attempt fails.
	ConnectWait time.Duration
	// Idle is how long a connection may be unused before it is closed; DefaultIdle.
	Idle time.Duration
	// LineBytes is the longest line that the server accepts; task.DefaultLine. A
	// longer request is refused here, since the server would close the connection.
	LineBytes int
	// ReplyBytes is the longest reply that the Client reads; DefaultReplyBytes. A
	// longer one ends its connection.
	ReplyBytes int
}

// withDefaults sets the zero fields to their defaults, and checks all fields.
func (cfg Config) withDefaults() (Config, error) {
	if cfg.Dial == nil {
		if _, _, err := net.SplitHostPort(cfg.Addr); err != nil {
			return cfg, fmt.Errorf("client address %q must be HOST:PORT: %w", cfg.Addr, err)
		}
		cfg.Dial = dialer(cfg.Addr, cfg.TLS)
	}
	for _, number := range []struct {
		name             string
		value            *int
		standard, atMost int
	}{
		{"Connections", &cfg.Connections, DefaultConnections, 1 << 10},
		{"Window", &cfg.Window, DefaultWindow, MaxWindow},
		{"LineBytes", &cfg.LineBytes, task.DefaultLine, 1 << 30},
		{"ReplyBytes", &cfg.ReplyBytes, DefaultReplyBytes, 1 << 30},
	} {
		if *number.value == 0 {
			*number.value = number.standard
		}
		if *number.value < 1 || *number.value > number.atMost {
			return cfg, fmt.Errorf("client %s is %d: 1 to %d are allowed", number.name, *number.value, number.atMost)
		}
	}
	if cfg.DialTimeout == 0 {
		cfg.DialTimeout = DefaultDialTimeout
	}
	if cfg.ConnectWait == 0 {
		cfg.ConnectWait = DefaultConnectWait
	}
	if cfg.Idle == 0 {
		cfg.Idle = DefaultIdle
	}
	if cfg.DialTimeout < 0 || cfg.Idle < 0 {
		return cfg, errors.New("client DialTimeout and Idle cannot be negative")
	}
	return cfg, nil
}

// dialer returns a function that connects to an address, with TLS unless config is nil.
func dialer(addr string, config *tls.Config) func(ctx context.Context) (net.Conn, error) {
	if config == nil {
		var plain net.Dialer
		return func(ctx context.Context) (net.Conn, error) { return plain.DialContext(ctx, "tcp", addr) }
	}
	inner := tls.Dialer{Config: config}
	return func(ctx context.Context) (net.Conn, error) { return inner.DialContext(ctx, "tcp", addr) }
}

// Client sends tasks to a node or a balancer. It is safe for concurrent use, and
// must be closed.
type Client struct {
	cfg      Config
	conns    *connPool
	waiters  sync.Pool // of *waiter
	checkers sync.Pool // of *wire.Request
}

// New returns a Client, which the caller closes. It connects for the first request; call Ping to find out
// at once whether a server answers.
func New(cfg Config) (*Client, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Client{cfg: cfg, conns: newConnPool(cfg)}, nil
}

// Close ends all connections and waits for the Client's goroutines. Waiting requests fail
// with ErrClosed; those already written fail with the code unknown_outcome. Call Close after
// the last reply to avoid that. The error is always nil.
func (c *Client) Close() error {
	c.conns.close()
	return nil
}
