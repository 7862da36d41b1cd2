package balancer

import (
	"embed"
	"fmt"
	"regexp"
	"strings"
	"text/template"
	"time"
)

// Values that the printed configurations and the built-in balancer share.
const (
	// DefaultListen is the address for clients.
	DefaultListen = "127.0.0.1:9000"
	// DefaultMaxConnections limits the open client connections. It equals the limit of a
	// node, so that a single remaining node can serve them all.
	DefaultMaxConnections = 15_000
	// DefaultConnectTimeout limits one attempt to connect to a node, after which
	// the next node is tried.
	DefaultConnectTimeout = 500 * time.Millisecond
	// DefaultCheckInterval is the time between two health checks of a node.
	DefaultCheckInterval = 300 * time.Millisecond
	// DefaultCheckTimeout limits one health check.
	DefaultCheckTimeout = time.Second
	// defaultFall is the number of failed health checks in a row after which a node is
	// down. defaultRise is the number of passed ones after which it is up again.
	defaultFall = 2
	defaultRise = 2
	// DefaultDrainTimeout is how long open connections may take to finish when the
	// balancer stops. A node drains for at most 70 s, and its replies must still arrive.
	DefaultDrainTimeout = 80 * time.Second
	// DefaultKeepAlive is the time before the first TCP keepalive probe to a silent peer
	// and between probes. After three unanswered probes the peer is dead.
	DefaultKeepAlive = 15 * time.Second
)

// ConfigFile has the values of a configuration to print. A zero field means the default in its
// comment.
type ConfigFile struct {
	// Listen is the address for clients, host:port; the host may be empty or *.
	// Default: DefaultListen.
	Listen string
	// Nodes are the addresses of the nodes, host:port: at least one, no duplicates.
	Nodes []string
	// ProxyProtocol makes the balancer send the client's address to nodes in a PROXY
	// protocol header, on health checks too. Nodes must then run with --proxy-protocol.
	// Default: no header.
	ProxyProtocol bool
	// NodeTLS makes health checks use TLS, for nodes that speak it. Clients' connections
	// pass unchanged. HAProxy only: Nginx has no health checks. Default: plain text.
	NodeTLS bool
	// NodeCA is a PEM file with the authorities that sign the nodes' certificates.
	// Default: the system's.
	NodeCA string
	// NodeCert is a PEM file with a certificate and its key, for nodes that ask for one.
	// Default: none.
	NodeCert string
	// MaxConnections limits the open client connections.
	// Default: DefaultMaxConnections.
	MaxConnections int
	// PidFile is the absolute path of the file to which the program writes its process id.
	// Default: none for HAProxy, /run/posta-nginx.pid for Nginx, which needs one.
	PidFile string
	// AdminSocket is the path of HAProxy's runtime socket. Operators drain nodes with it,
	// and a reload takes over the listeners with it. Nginx has no such socket. Default: none.
	AdminSocket string
	// Module is the path of Nginx's stream module (ngx_stream_module.so), for machines
	// where the distribution's list of modules does not load it.
	// Default: use that list.
	Module string
}

// defaultNginxPidFile differs from Nginx's own default, which belongs to the web server that
// may run on the same machine.
const defaultNginxPidFile = "/run/posta-nginx.pid"

// Nginx returns a configuration for Nginx 1.22 or later with the stream module. Start it
// with `nginx -c FILE`. Errors name the wrong value.
func Nginx(cfg ConfigFile) (string, error) {
	if cfg.AdminSocket != "" {
		return "", fmt.Errorf("admin socket: Nginx has none, only HAProxy does")
	}
	if cfg.NodeTLS {
		return "", fmt.Errorf("node TLS: Nginx has no health checks, and passes TLS on as it is")
	}
	if cfg.PidFile == "" {
		cfg.PidFile = defaultNginxPidFile
	}
	return render("nginx.conf.tmpl", cfg)
}

// HAProxy returns a configuration for HAProxy 2.6 or later. Start it with
// `haproxy -W -f FILE`. Errors name the wrong value.
func HAProxy(cfg ConfigFile) (string, error) {
	if cfg.Module != "" {
		return "", fmt.Errorf("module: HAProxy has none, only Nginx does")
	}
	return render("haproxy.cfg.tmpl", cfg)
}

//go:embed nginx.conf.tmpl haproxy.cfg.tmpl
var templates embed.FS

// descriptorsBesides is the number of descriptors that a balancer needs in addition to two
// per connection: for listeners, logs, checks and event queues.
const descriptorsBesides = 256

// render checks cfg and executes the named template with it.
func render(name string, cfg ConfigFile) (string, error) {
	if err := cfg.check(); err != nil {
		return "", fmt.Errorf("balancer: %w", err)
	}
	functions := template.FuncMap{
		"duration":    duration,
		"inc":         func(i int) int { return i + 1 },
		"descriptors": func(connections int) int { return 2*connections + descriptorsBesides },
	}
	page, err := template.New(name).Funcs(functions).ParseFS(templates, name)
	if err != nil {
		return "", fmt.Errorf("balancer: %w", err)
	}
	var text strings.Builder
	err = page.Execute(&text, map[string]any{
		"File":           cfg,
		"ConnectTimeout": DefaultConnectTimeout,
		"CheckInterval":  DefaultCheckInterval,
		"CheckTimeout":   DefaultCheckTimeout,
		"KeepAlive":      DefaultKeepAlive,
		"HardStop":       DefaultDrainTimeout,
		"Fall":           defaultFall,
		"Rise":           defaultRise,
	})
	if err != nil {
		return "", fmt.Errorf("balancer: %w", err)
	}
	return text.String(), nil
}

// filePath matches the paths that need no quoting in either program's configuration.
var filePath = regexp.MustCompile(`^/[A-Za-z0-9._/+-]+$`)

// maxConfigured is the largest MaxConnections that is accepted. A larger number is a mistake.
const maxConfigured = 1_000_000

// check sets the defaults and checks the values.
func (c *ConfigFile) check() error {
	if c.Listen == "" {
		c.Listen = DefaultListen
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = DefaultMaxConnections
	}
	var err error
	if c.Listen, err = listenAddress(c.Listen); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if c.Nodes, err = nodeAddresses(c.Listen, c.Nodes); err != nil {
		return err
	}
	if c.MaxConnections < 1 || c.MaxConnections > maxConfigured {
		return fmt.Errorf("max connections: %d is not between 1 and %d", c.MaxConnections, maxConfigured)
	}
	if !c.NodeTLS && (c.NodeCA != "" || c.NodeCert != "") {
		return fmt.Errorf("node CA, node certificate: they are for nodes that speak TLS")
	}
	paths := []struct{ name, value string }{
		{"pid file", c.PidFile}, {"admin socket", c.AdminSocket}, {"module", c.Module},
		{"node CA", c.NodeCA}, {"node certificate", c.NodeCert},
	}
	for _, path := range paths {
		if path.value != "" && !filePath.MatchString(path.value) {
			return fmt.Errorf("%s: %q is not an absolute path of letters, digits and . _ - + /", path.name, path.value)
		}
	}
	return nil
}

// duration formats d in the syntax of both programs.
func duration(d time.Duration) string {
	if d%time.Second == 0 {
		return fmt.Sprintf("%ds", d/time.Second)
	}
	return fmt.Sprintf("%dms", d/time.Millisecond)
}
