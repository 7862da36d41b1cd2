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

// The defaults of Config, with the reason of each.
const (
	// DefaultConnections reaches all of a few nodes through a balancer.
	DefaultConnections = 4
	// DefaultWindow is half of a server's window, so that its flow control is
	// never what holds a caller up.
	DefaultWindow = 128
	// MaxWindow stays below the 256 unanswered requests that a server reads.
	MaxWindow = 255
	// DefaultDialTimeout is longer than any healthy network takes.
	DefaultDialTimeout = 5 * time.Second
	// DefaultConnectWait outlasts the restart of a node.
	DefaultConnectWait = 10 * time.Second
	// DefaultIdle closes a connection, within twice this time, before the server's
	// ten minutes do.
	DefaultIdle = 4 * time.Minute
	// DefaultReplyBytes is four times the largest result.
	DefaultReplyBytes = 4 << 20
)

// ErrClosed is what a request gets when its Client is closed.
var ErrClosed = errors.New("client is closed")

// Config says whom a Client talks to, and how. The zero value of a field means its
// default.
type Config struct {
	// Addr is HOST:PORT of a node or a balancer. Required without Dial.
	Addr string
	// Dial opens a connection instead of the TCP of Addr. It must return soon after ctx has ended.
	Dial func(ctx context.Context) (net.Conn, error)
	// TLS, when set, is spoken over the TCP of Addr; without a ServerName, the host of Addr is
	// what the server's certificate must name. Not used with Dial.
	TLS *tls.Config
	// Token, when set, is presented on each connection before anything else.
	Token string
	// Connections is how many are kept at most; DefaultConnections.
	Connections int
	// Window is how many requests may be unanswered on one connection, at most
	// MaxWindow; DefaultWindow. A request whose caller gave up counts until its
	// late reply has come.
	Window int
	// Resend allows every request to be sent again when its connection ended
	// after it was written: for actions that may run twice.
	Resend bool
	// DialTimeout bounds connecting, authentication and ping; DefaultDialTimeout.
	DialTimeout time.Duration
	// ConnectWait is how long a request waits for a connection while none can be
	// opened, before it fails with the reason; DefaultConnectWait. Negative: it
	// fails with the first attempt that fails.
	ConnectWait time.Duration
	// Idle is how long a connection may be unused before it is closed; DefaultIdle.
	Idle time.Duration
	// LineBytes is the longest line that the server takes; task.DefaultLine. A
	// longer request is refused here, since there it would cost the connection.
	LineBytes int
	// ReplyBytes is the longest reply that is read; a longer one breaks its
	// connection. DefaultReplyBytes.
	ReplyBytes int
}

// withDefaults fills what is zero and says what is out of range.
func (cfg Config) withDefaults() (Config, error) {
	if cfg.Dial == nil {
		if _, _, err := net.SplitHostPort(cfg.Addr); err != nil {
			return cfg, fmt.Errorf("client address %q must be HOST:PORT: %w", cfg.Addr, err)
		}
		cfg.Dial = dialer(cfg.Addr, cfg.TLS)
	}
	for _, number := range []struct {
		name           string
		value          *int
		preset, atMost int
	}{
		{"Connections", &cfg.Connections, DefaultConnections, 1 << 10},
		{"Window", &cfg.Window, DefaultWindow, MaxWindow},
		{"LineBytes", &cfg.LineBytes, task.DefaultLine, 1 << 30},
		{"ReplyBytes", &cfg.ReplyBytes, DefaultReplyBytes, 1 << 30},
	} {
		if *number.value == 0 {
			*number.value = number.preset
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

// dialer opens connections to an address, inside TLS unless config is nil.
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

// New makes a Client. It connects when the first request comes; Ping tells at once
// whether somebody answers.
func New(cfg Config) (*Client, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Client{cfg: cfg, conns: newConnPool(cfg)}, nil
}

// Close ends all connections and returns when the Client's goroutines have ended.
// Requests that wait get ErrClosed; of one that was already written the outcome is
// unknown, and its error says so. To lose none, call Close after the last reply. The
// error is always nil.
func (c *Client) Close() error {
	c.conns.close()
	return nil
}
