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

// patience limits the waits of tests.
const patience = 2 * time.Minute

// TestMain runs many tests in parallel, since most of the time they wait for other processes.
func TestMain(m *testing.M) {
	testenv.Overlap(8)
	os.Exit(m.Run())
}

// implementation is one of the three balancers under test.
type implementation struct {
	name    string
	program string // the program that it needs; "": none
	// start starts the balancer in front of nodes and returns its address. The balancer
	// stops with the test.
	start func(t *testing.T, nodes []string, proxyProtocol bool) string
}

func implementations() []implementation {
	return []implementation{
		{"Nginx", "nginx", startNginx},
		{"HAProxy", "haproxy", startHAProxy},
		{"built-in", "", startBuiltIn},
	}
}

// forEachBalancer runs a test with each implementation.
func forEachBalancer(t *testing.T, test func(t *testing.T, c implementation)) {
	t.Helper()
	t.Parallel()
	for _, c := range implementations() {
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

// running is a built-in balancer that runs.
type running struct {
	*balancer.Balancer
	stop  context.CancelFunc
	ended chan error // receives the error of Run
}

// run starts the built-in balancer on a free port. The balancer stops with the test.
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

// fleet is a number of nodes. Each is a process of its own and can be restarted on its port.
type fleet struct {
	args  []string
	addrs []string
	nodes []*testenv.Process
}

// startNodes starts size nodes, named n1, n2 and so on.
func startNodes(t *testing.T, size int, args ...string) *fleet {
	t.Helper()
	f := &fleet{args: args}
	for range size {
		f.addrs = append(f.addrs, testenv.FreeAddr(t))
		f.nodes = append(f.nodes, nil)
	}
	for i := range f.nodes {
		f.start(t, i)
	}
	t.Cleanup(func() { // runs before the cleanup of each node, which would drain it
		for _, node := range f.nodes {
			node.Kill(t)
		}
	})
	return f
}

// startThreeNodes starts three nodes that drain quickly.
func startThreeNodes(t *testing.T, args ...string) *fleet {
	t.Helper()
	return startNodes(t, 3, append([]string{"--drain-delay", "1s", "--drain-timeout", "10s"}, args...)...)
}

func (f *fleet) name(i int) string { return fmt.Sprintf("n%d", i+1) }

// start starts or restarts node i on its port.
func (f *fleet) start(t *testing.T, i int) {
	t.Helper()
	f.nodes[i] = testenv.Node(t, f.addrs[i], append([]string{"--name", f.name(i)}, f.args...)...)
}

// terminate makes node i drain and waits until it ends.
func (f *fleet) terminate(t *testing.T, i int) {
	t.Helper()
	f.nodes[i].Signal(syscall.SIGTERM)
	if code := f.nodes[i].Wait(t, patience); code != 0 {
		t.Errorf("%s ended with exit code %d after SIGTERM, want 0", f.name(i), code)
	}
}

// line is a connection with the line protocol.
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

// dial opens a connection whose deadline is patience.
func dial(addr string) (*line, error) {
	return dialWith(net.Dialer{Timeout: patience}, addr)
}

// connectFrom opens a connection from another loopback address.
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

// ask sends one request and returns the next reply.
func (l *line) ask(request string) (string, error) {
	if _, err := l.Write([]byte(request + "\n")); err != nil {
		return "", err
	}
	return l.replies.ReadString('\n')
}

// wantReply sends one request and checks the next reply.
func (l *line) wantReply(t *testing.T, request, want string) {
	t.Helper()
	got, err := l.ask(request)
	if err != nil {
		t.Fatalf("%.60s: %v", request, err)
	}
	if got != want+"\n" {
		t.Errorf("the reply to %.60s is %.120s, want %.120s", request, got, want)
	}
}

// node returns the name of the node at the other end.
func (l *line) node() (string, error) {
	reply, err := l.ask(`{"id":1,"op":"info"}`)
	if err != nil {
		return "", err
	}
	var info struct {
		Result struct{ Node string }
	}
	if err := json.Unmarshal([]byte(reply), &info); err != nil || info.Result.Node == "" {
		return "", fmt.Errorf("the reply to info is %q", reply)
	}
	return info.Result.Node, nil
}

// runOn opens a connection, runs a task on it, and returns the name of the node.
func runOn(addr string) (node string, err error) {
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
		return "", fmt.Errorf("the reply is %q", reply)
	}
	return l.node()
}

// awaitNode waits until a new connection goes to the named node.
func awaitNode(t *testing.T, addr, name string) {
	t.Helper()
	testenv.Eventually(t, patience, func() error {
		got, err := runOn(addr)
		if err != nil {
			return err
		}
		if got != name {
			return fmt.Errorf("the connection goes to %s, want %s", got, name)
		}
		return nil
	})
}

// payloadOf returns size bytes that JSON does not escape.
func payloadOf(size int) []byte { return bytes.Repeat([]byte("posta-"), size/6+1)[:size] }
