package balancer_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
	"go.uber.org/goleak"

	"github.com/posta-tasks/posta/balancer"
	"github.com/posta-tasks/posta/internal/testenv"
)

// The tests of this file use only the built-in balancer, with fake nodes.

func TestADrainingNodeKeepsItsConnectionsAndGetsNoNewOnes(t *testing.T) {
	t.Parallel()
	a, b := newFakeNode(t, "a"), newFakeNode(t, "b")
	r := run(t, fastConfig(a, b))
	addr := r.Addr().String()
	old, name := echoedBy(t, addr)
	for name != "a" {
		old, name = echoedBy(t, addr)
	}
	a.status.Store(http.StatusServiceUnavailable)
	r.awaitState(t, 0, balancer.Draining)
	for range 10 {
		if _, name := echoedBy(t, addr); name != "b" {
			t.Fatalf("a new connection went to %s", name)
		}
	}
	old.wantReply(t, "still here", "a: still here")
	a.status.Store(http.StatusOK)
	r.awaitState(t, 0, balancer.Up)
}

func TestANodeThatFailsItsChecksIsDownAlthoughItAcceptsConnections(t *testing.T) {
	t.Parallel()
	a, b := newFakeNode(t, "a"), newFakeNode(t, "b")
	cfg := fastConfig(a, b)
	cfg.CheckTimeout = 3 * time.Second // short, since it passes for a, but long enough for b
	r := run(t, cfg)
	a.status.Store(silent)
	r.awaitState(t, 0, balancer.Down)
	if _, name := echoedBy(t, r.Addr().String()); name != "b" {
		t.Errorf("a connection went to %s", name)
	}
	a.status.Store(http.StatusOK)
	r.awaitState(t, 0, balancer.Up)
	a.status.Store(http.StatusInternalServerError)
	r.awaitState(t, 0, balancer.Down)
}

func TestAConnectionThatANodeRefusesGoesToTheNext(t *testing.T) {
	t.Parallel()
	a, b := newFakeNode(t, "a"), newFakeNode(t, "b")
	cfg := fastConfig(a, b)
	cfg.CheckInterval = time.Hour // only connections detect the dead node
	r := run(t, cfg)
	a.down()
	for range 10 {
		if _, name := echoedBy(t, r.Addr().String()); name != "b" {
			t.Fatalf("a connection went to %s", name)
		}
	}
	stats := r.Stats()
	if got := stats.Nodes[0]; got.State != balancer.Down || got.Total != 0 || got.Open != 0 {
		t.Errorf("the dead node has %+v", got)
	}
	if got := stats.Nodes[1]; got.Total != 10 || got.Open != 10 || got.Failures != 0 {
		t.Errorf("the live node has %+v, want 10 connections", got)
	}
	if stats.Open != 10 || stats.Refused != 0 {
		t.Errorf("%d open, %d refused, want 10 and 0", stats.Open, stats.Refused)
	}
}

func TestANewConnectionGoesToTheNodeWithTheFewestConnections(t *testing.T) {
	t.Parallel()
	a, b := newFakeNode(t, "a"), newFakeNode(t, "b")
	r := run(t, fastConfig(a, b))
	addr := r.Addr().String()
	var onA []*line
	for range 20 {
		if l, name := echoedBy(t, addr); name == "a" {
			onA = append(onA, l)
		}
	}
	if len(onA) != 10 {
		t.Fatalf("%d of 20 connections are on node a, want 10", len(onA))
	}
	for _, l := range onA {
		l.Close()
	}
	r.awaitOpen(t, 10)
	for range 10 {
		if _, name := echoedBy(t, addr); name != "a" {
			t.Errorf("a connection went to the node with more connections")
		}
	}
}

func TestAConnectionWaitsUntilANodeIsUp(t *testing.T) {
	t.Parallel()
	a := newFakeNode(t, "a")
	cfg := fastConfig(a)
	cfg.Wait = patience
	r := run(t, cfg)
	a.down()
	r.awaitState(t, 0, balancer.Down)
	l := connect(t, r.Addr().String())
	r.awaitOpen(t, 1)
	a.up(t)
	l.wantReply(t, "hola", "a: hola")
}

func TestWithoutANodeAConnectionIsRefusedInItsProtocol(t *testing.T) {
	t.Parallel()
	a := newFakeNode(t, "a")
	r := run(t, fastConfig(a))
	a.down()
	const text = `{"id":null,"status":"error","code":"unavailable","error":"no node can be reached","retry_after":1}`
	l := connect(t, r.Addr().String())
	l.wantReply(t, `{"id":1,"action":"upper","payload":"hola"}`, text)
	if _, err := l.replies.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("after the refusal: %v, want the end of the stream", err)
	}
	if reply, err := connect(t, r.Addr().String()).replies.ReadString('\n'); err != nil || reply != text+"\n" {
		t.Errorf("a silent client got %q, %v", reply, err)
	}
	response, err := http.Get("http://" + r.Addr().String() + "/v1/run")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") != "1" ||
		response.Header.Get("Content-Type") != "application/problem+json" || !strings.Contains(string(body), `"code":"unavailable"`) {
		t.Errorf("over HTTP: %s %v\n%s", response.Status, response.Header, body)
	}
	if got := r.Stats().Refused; got != 3 {
		t.Errorf("%d connections refused, want 3", got)
	}
}

func TestConnectionsBeyondTheLimitAreRefused(t *testing.T) {
	t.Parallel()
	a := newFakeNode(t, "a")
	cfg := fastConfig(a)
	cfg.MaxConnections = 2
	r := run(t, cfg)
	addr := r.Addr().String()
	first, _ := echoedBy(t, addr)
	echoedBy(t, addr)
	connect(t, addr).wantReply(t, "hola",
		`{"id":null,"status":"error","code":"overloaded","error":"too many connections","limit":"2 connections","retry_after":1}`)
	first.Close()
	r.awaitOpen(t, 1)
	echoedBy(t, addr)
}

func TestADrainServesTheBacklogLetsConnectionsFinishAndAcceptsNoNewOnes(t *testing.T) {
	t.Parallel()
	a := newFakeNode(t, "a")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := fastConfig(a)
	cfg.Listener = listener
	b, err := balancer.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	addr := b.Addr().String()
	// These connections wait in the backlog when Run begins. Since its context has
	// already ended, Run begins with the drain.
	waiting := []*line{connect(t, addr), connect(t, addr), connect(t, addr)}
	ended := make(chan error, 1)
	ctx, stop := context.WithCancel(context.Background())
	stop()
	go func() { ended <- b.Run(ctx) }()
	for _, l := range waiting {
		l.wantReply(t, "hola", "a: hola")
	}
	testenv.Eventually(t, patience, func() error {
		if l, err := dial(addr); err == nil {
			l.Close()
			return errors.New("new connections are still accepted")
		} else if !errors.Is(err, syscall.ECONNREFUSED) {
			return err
		}
		return nil
	})
	for _, l := range waiting {
		l.wantReply(t, "last words", "a: last words")
		l.Close()
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("Run returned %v, want nil", err)
		}
	case <-time.After(patience):
		t.Error("Run did not return")
	}
}

func TestADrainClosesTheOpenConnectionsAtItsEnd(t *testing.T) {
	t.Parallel()
	a := newFakeNode(t, "a")
	cfg := fastConfig(a)
	cfg.DrainTimeout = 100 * time.Millisecond
	r := run(t, cfg)
	l, _ := echoedBy(t, r.Addr().String())
	r.stop()
	if err := <-r.ended; err != nil {
		t.Errorf("Run returned %v, want nil", err)
	}
	if _, err := l.replies.ReadByte(); err == nil {
		t.Error("the connection is still open")
	}
}

func TestRunReturnsAfterAllItsGoroutines(t *testing.T) {
	before := goleak.IgnoreCurrent()
	a, dead := newFakeNode(t, "a"), newFakeNode(t, "dead")
	dead.down()
	cfg := fastConfig(a, dead)
	cfg.DrainTimeout = 50 * time.Millisecond
	r := run(t, cfg)
	for range 20 {
		echoedBy(t, r.Addr().String())
	}
	r.stop()
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
	a.down()
	goleak.VerifyNone(t, before)
}

func TestAListenerThatFailsEndsRun(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := fastConfig(newFakeNode(t, "a"))
	cfg.Listener = listener
	b, err := balancer.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	if err := b.Run(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Run returned %v", err)
	}
}

func TestTheProxyHeaderHasTheClientsAddressAndIsLocalForChecks(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"127.0.0.1", "::1"} {
		node, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer node.Close()
		listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Skipf("this machine has no %s: %v", host, err)
		}
		headers := make(chan *proxyproto.Header, 16)
		go readHeaders(node, headers)
		r := run(t, balancer.Config{Listener: listener, Nodes: []string{node.Addr().String()}, ProxyProtocol: true})
		if header := <-headers; header == nil || !header.Command.IsLocal() {
			t.Fatalf("the header of a check is %+v, want the command LOCAL", header)
		}
		l := connect(t, r.Addr().String())
		header := <-headers
		for header != nil && header.Command.IsLocal() { // further checks
			header = <-headers
		}
		if header == nil || header.SourceAddr.String() != l.LocalAddr().String() || header.DestinationAddr.String() != l.RemoteAddr().String() {
			t.Errorf("on %s the node reads %+v, want %v → %v", host, header, l.LocalAddr(), l.RemoteAddr())
		}
		l.Close()
	}
}

// readHeaders accepts connections and sends the PROXY header of each, or nil for a connection
// without one.
func readHeaders(listener net.Listener, headers chan<- *proxyproto.Header) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		header, _ := proxyproto.Read(bufio.NewReader(conn))
		headers <- header
		conn.Close()
	}
}

func TestNewReturnsAnErrorThatNamesTheWrongValue(t *testing.T) {
	t.Parallel()
	unix, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close()
	taken := newFakeNode(t, "taken")
	for want, cfg := range map[string]balancer.Config{
		"at least one node":               {Listen: "127.0.0.1:0"},
		`"nowhere" is not host:port`:      {Listen: "127.0.0.1:0", Nodes: []string{"nowhere"}},
		"given twice":                     {Listen: "127.0.0.1:0", Nodes: []string{"127.0.0.1:9001", "127.0.0.1:9001"}},
		`address "9000"`:                  {Listen: "9000", Nodes: threeNodes},
		"address already in use":          {Listen: taken.addr, Nodes: threeNodes},
		"not a *net.TCPListener":          {Listener: unix, Nodes: threeNodes},
		"check interval: -1s is negative": {Nodes: threeNodes, CheckInterval: -time.Second},
		"max connections: -1 is negative": {Nodes: threeNodes, MaxConnections: -1},
		"own address":                     ownAddress(t),
	} {
		b, err := balancer.New(cfg)
		if err == nil {
			t.Errorf("want an error that contains %q, got a balancer on %v", want, b.Addr())
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("the error %q does not contain %q", err, want)
		}
	}
}

func ownAddress(t *testing.T) balancer.Config {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return balancer.Config{Listener: listener, Nodes: []string{listener.Addr().String()}}
}
