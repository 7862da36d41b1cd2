package balancer

import (
	"embed"
	"fmt"
	"regexp"
	"strings"
	"text/template"
	"time"
)

// Figures that the printed configurations and the built-in balancer share.
const (
	// DefaultListen is where clients connect.
	DefaultListen = "127.0.0.1:9000"
	// DefaultMaxConnections bounds the open client connections; it equals a
	// node's own limit, so that one node left alone is not drowned.
	DefaultMaxConnections = 15_000
	// DefaultConnectTimeout bounds one attempt to connect to a node, after which
	// the next node is tried.
	DefaultConnectTimeout = 500 * time.Millisecond
	// DefaultCheckInterval is the time between two health checks of a node.
	DefaultCheckInterval = 300 * time.Millisecond
	// DefaultCheckTimeout bounds one health check.
	DefaultCheckTimeout = time.Second
	// defaultFall is the number of health checks in a row that a node fails before
	// it is down, defaultRise the number it passes before it is up again.
	defaultFall = 2
	defaultRise = 2
	// DefaultDrainTimeout is the time that open connections have to finish when
	// the balancer stops. A node's drain takes at most 70 s, and what the nodes
	// still answer must get through.
	DefaultDrainTimeout = 80 * time.Second
	// DefaultKeepAlive is the time after which a silent peer is asked whether it
	// still lives, and the time between the questions; three go unanswered.
	DefaultKeepAlive = 15 * time.Second
)

// ConfigFile says what a printed configuration is for. A zero field means the
// default named beside it.
type ConfigFile struct {
	// Listen is the address for clients, host:port; the host may be empty or *.
	// Default: DefaultListen.
	Listen string
	// Nodes are the nodes' addresses, host:port, each once. At least one.
	Nodes []string
	// ProxyProtocol makes the balancer tell nodes the client's address in a
	// PROXY protocol header, on health checks too. Nodes must run with
	// --proxy-protocol then. Default: no header.
	ProxyProtocol bool
	// NodeTLS makes health checks speak TLS, for nodes that do; clients' connections are
	// passed on as they are. HAProxy only: Nginx has no health checks. Default: plain text.
	NodeTLS bool
	// NodeCA is a file with the authorities of the nodes' certificates, in PEM.
	// Default: the system's.
	NodeCA string
	// NodeCert is a file with a certificate and its key, in PEM, for nodes that ask for one.
	// Default: none.
	NodeCert string
	// MaxConnections bounds the open client connections.
	// Default: DefaultMaxConnections.
	MaxConnections int
	// PidFile is where the program writes its process id, an absolute path.
	// Default: none for HAProxy, /run/posta-nginx.pid for Nginx, which needs one.
	PidFile string
	// AdminSocket is the path of HAProxy's runtime socket, through which nodes
	// can be drained by hand and a reload takes over the listeners. Nginx has
	// none. Default: none.
	AdminSocket string
	// Module is the path of Nginx's stream module (ngx_stream_module.so), for
	// machines where the distribution's own list of modules does not load it.
	// Default: the distribution's list.
	Module string
}

// defaultNginxPidFile is not Nginx's own, which belongs to the web server that
// may run on the same machine.
const defaultNginxPidFile = "/run/posta-nginx.pid"

// Nginx prints a configuration for Nginx 1.22 or later with the stream module,
// to be started with `nginx -c FILE`. Errors name the value that is wrong.
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

// HAProxy prints a configuration for HAProxy 2.6 or later, to be started with
// `haproxy -W -f FILE`. Errors name the value that is wrong.
func HAProxy(cfg ConfigFile) (string, error) {
	if cfg.Module != "" {
		return "", fmt.Errorf("module: HAProxy has none, only Nginx does")
	}
	return render("haproxy.cfg.tmpl", cfg)
}

//go:embed nginx.conf.tmpl haproxy.cfg.tmpl
var templates embed.FS

// descriptorsBesides is what the real programs need of descriptors beyond two a
// connection: listeners, logs, checks, event queues.
const descriptorsBesides = 256

// render fills the named template with the checked cfg.
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

// filePath matches the paths that need no quoting in either program's language.
var filePath = regexp.MustCompile(`^/[A-Za-z0-9._/+-]+$`)

// maxConfigured is the most connections that may be asked for: more than the
// ports one address has would be a slip of the keyboard.
const maxConfigured = 1_000_000

// check completes the defaults and refuses what is wrong.
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

// duration spells d as both programs read it.
func duration(d time.Duration) string {
	if d%time.Second == 0 {
		return fmt.Sprintf("%ds", d/time.Second)
	}
	return fmt.Sprintf("%dms", d/time.Millisecond)
}
