package balancer_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/posta-tasks/posta/balancer"
	"github.com/posta-tasks/posta/internal/testenv"
)

// patience bounds everything that should happen soon.
const patience = 20 * time.Second

// TestMain has the tests wait beside each other: most of their time is other processes'.
func TestMain(m *testing.M) {
	testenv.Overlap(8)
	os.Exit(m.Run())
}

// contender is one of the three balancers that the suite is run against.
type contender struct {
	name    string
	program string // that it needs; empty: none but ours
	// start starts it in front of nodes and gives its address; it stops with the
	// test.
	start func(t *testing.T, nodes []string, proxyProtocol bool) string
}

func contenders() []contender {
	return []contender{
		{"Nginx", "nginx", startNginx},
		{"HAProxy", "haproxy", startHAProxy},
		{"built-in", "", startBuiltIn},
	}
}

// withEach runs a test against each balancer.
func withEach(t *testing.T, test func(t *testing.T, c contender)) {
	t.Helper()
	t.Parallel()
	for _, c := range contenders() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.program != "" {
				testenv.NeedServer(t, c.program)
			}
			test(t, c)
		})
	}
}

func startNginx(t *testing.T, nodes []string, proxyProtocol bool) string {
	t.Helper()
	addr := testenv.FreeAddr(t)
	config, err := balancer.Nginx(balancer.ConfigFile{
		Listen: addr, Nodes: nodes, ProxyProtocol: proxyProtocol,
		MaxConnections: 1000, PidFile: t.TempDir() + "/nginx.pid",
	})
	if err != nil {
		t.Fatal(err)
	}
	testenv.Nginx(t, config, addr)
	return addr
}

func startHAProxy(t *testing.T, nodes []string, proxyProtocol bool) string {
	t.Helper()
	addr := testenv.FreeAddr(t)
	config, err := balancer.HAProxy(balancer.ConfigFile{
		Listen: addr, Nodes: nodes, ProxyProtocol: proxyProtocol, MaxConnections: 1000,
	})
	if err != nil {
		t.Fatal(err)
	}
	testenv.HAProxy(t, config, addr)
	return addr
}

func startBuiltIn(t *testing.T, nodes []string, proxyProtocol bool) string {
	t.Helper()
	b := run(t, balancer.Config{Nodes: nodes, ProxyProtocol: proxyProtocol, DrainTimeout: time.Second})
	return b.Addr().String()
}

// running is a built-in balancer at work.
type running struct {
	*balancer.Balancer
	stop  context.CancelFunc
	ended chan error // gets what Run returned
}

// run starts the built-in balancer on a free port; it stops with the test.
func run(t *testing.T, cfg balancer.Config) *running {
	t.Helper()
	if cfg.Listener == nil {
		cfg.Listen = "127.0.0.1:0"
	}
	cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	b, err := balancer.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &running{Balancer: b, stop: stop, ended: make(chan error, 1)}
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		r.ended <- b.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-finished
	})
	return r
}

// fleet is three nodes, each a process of its own, which can be restarted on their
// ports.
type fleet struct {
	args  []string
	addrs []string
	nodes []*testenv.Process
}

// launch starts size nodes, called n1, n2 and so on.
func launch(t *testing.T, size int, args ...string) *fleet {
	t.Helper()
	f := &fleet{args: args}
	for range size {
		f.addrs = append(f.addrs, testenv.FreeAddr(t))
		f.nodes = append(f.nodes, nil)
	}
	for i := range f.nodes {
		f.start(t, i)
	}
	t.Cleanup(func() { // before each node's own, which would have it drain
		for _, node := range f.nodes {
			node.Kill(t)
		}
	})
	return f
}

// launchThree starts three nodes with a drain that fits a test.
func launchThree(t *testing.T, args ...string) *fleet {
	t.Helper()
	return launch(t, 3, append([]string{"--drain-delay", "1s", "--drain-timeout", "10s"}, args...)...)
}

func (f *fleet) name(i int) string { return fmt.Sprintf("n%d", i+1) }

// start starts node i on its port, again or for the first time.
func (f *fleet) start(t *testing.T, i int) {
	t.Helper()
	f.nodes[i] = testenv.Node(t, f.addrs[i], append([]string{"--name", f.name(i)}, f.args...)...)
}

// terminate has node i drain and waits for its end.
func (f *fleet) terminate(t *testing.T, i int) {
	t.Helper()
	f.nodes[i].Signal(syscall.SIGTERM)
	if code := f.nodes[i].Wait(t, patience); code != 0 {
		t.Errorf("%s ended with exit code %d after SIGTERM, want 0", f.name(i), code)
	}
}

// line is a connection that speaks the line protocol.
type line struct {
	*net.TCPConn
	replies *bufio.Reader
}

// connect opens a connection, which closes with the test.
func connect(t *testing.T, addr string) *line {
	t.Helper()
	l, err := dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// dial opens a connection on which everything must happen within patience.
func dial(addr string) (*line, error) {
	return dialWith(net.Dialer{Timeout: patience}, addr)
}

// connectFrom is connect from an address of this machine's own.
func connectFrom(t *testing.T, from, to string) *line {
	t.Helper()
	l, err := dialWith(net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}, to)
	if errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Skipf("this machine's loopback has no address %s", from)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func dialWith(dialer net.Dialer, addr string) (*line, error) {
	conn, err := dialer.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	return &line{TCPConn: conn.(*net.TCPConn), replies: bufio.NewReader(conn)}, nil
}

// ask sends one request and gives the next reply.
func (l *line) ask(request string) (string, error) {
	if _, err := l.Write([]byte(request + "\n")); err != nil {
		return "", err
	}
	return l.replies.ReadString('\n')
}

// must is ask for those who expect a certain reply.
func (l *line) must(t *testing.T, request, want string) {
	t.Helper()
	got, err := l.ask(request)
	if err != nil {
		t.Fatalf("%.60s: %v", request, err)
	}
	if got != want+"\n" {
		t.Errorf("%.60s is answered %.120s, want %.120s", request, got, want)
	}
}

// node asks the name of the node at the other end.
func (l *line) node() (string, error) {
	reply, err := l.ask(`{"id":1,"op":"info"}`)
	if err != nil {
		return "", err
	}
	var info struct {
		Result struct{ Node string }
	}
	if err := json.Unmarshal([]byte(reply), &info); err != nil || info.Result.Node == "" {
		return "", fmt.Errorf("info is answered %q", reply)
	}
	return info.Result.Node, nil
}

// visit opens a connection, runs a task on it, and says which node served it.
func visit(addr string) (node string, err error) {
	l, err := dial(addr)
	if err != nil {
		return "", err
	}
	defer l.Close()
	const want = `{"id":7,"status":"done","result":{"ok":true,"data":"HOLA"}}` + "\n"
	reply, err := l.ask(`{"id":7,"action":"upper","payload":"hola"}`)
	if err != nil {
		return "", err
	}
	if reply != want {
		return "", fmt.Errorf("answered %q", reply)
	}
	return l.node()
}

// awaitNode waits until a new connection is served by the named node.
func awaitNode(t *testing.T, addr, name string) {
	t.Helper()
	testenv.Eventually(t, patience, func() error {
		got, err := visit(addr)
		if err != nil {
			return err
		}
		if got != name {
			return fmt.Errorf("served by %s, not yet by %s", got, name)
		}
		return nil
	})
}

// blob gives bytes without a newline or anything that JSON would escape.
func blob(size int) []byte { return bytes.Repeat([]byte("posta-"), size/6+1)[:size] }
