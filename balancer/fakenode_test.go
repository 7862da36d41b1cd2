package balancer_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posta-tasks/posta/balancer"
	"github.com/posta-tasks/posta/internal/testenv"
)

// fakeNode is a node under the control of a test. It echoes lines with its name, and answers
// /readyz with the status that the test sets.
type fakeNode struct {
	name   string
	addr   string
	status atomic.Int64 // of /readyz; silent means no answer

	mu       sync.Mutex
	listener net.Listener          // guarded by mu; nil while down
	open     map[net.Conn]struct{} // guarded by mu
	serving  sync.WaitGroup
}

// silent is the status of a node that accepts connections and does not answer.
const silent = 0

// newFakeNode starts a node that is ready. The node stops with the test.
func newFakeNode(t *testing.T, name string) *fakeNode {
	t.Helper()
	n := &fakeNode{name: name, addr: testenv.FreeAddr(t), open: map[net.Conn]struct{}{}}
	n.status.Store(http.StatusOK)
	n.up(t)
	t.Cleanup(n.down)
	return n
}

// up opens the listener, for the first time or again.
func (n *fakeNode) up(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", n.addr)
	if err != nil {
		t.Fatal(err)
	}
	n.accept(listener)
}

// accept serves the connections of listener until down.
func (n *fakeNode) accept(listener net.Listener) {
	n.mu.Lock()
	n.listener = listener
	n.mu.Unlock()
	n.serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			n.mu.Lock()
			n.open[conn] = struct{}{}
			n.mu.Unlock()
			n.serving.Go(func() { n.serve(conn) })
		}
	})
}

// down closes the listener and all connections, and waits for its goroutines.
func (n *fakeNode) down() {
	n.mu.Lock()
	if n.listener != nil {
		n.listener.Close()
		n.listener = nil
	}
	for conn := range n.open {
		conn.Close()
	}
	n.mu.Unlock()
	n.serving.Wait()
}

func (n *fakeNode) serve(conn net.Conn) {
	defer func() {
		conn.Close()
		n.mu.Lock()
		delete(n.open, conn)
		n.mu.Unlock()
	}()
	lines := bufio.NewReader(conn)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		if !strings.HasPrefix(line, "GET ") {
			_, _ = fmt.Fprintf(conn, "%s: %s", n.name, line)
			continue
		}
		status := int(n.status.Load())
		if status == silent {
			_, _ = io.Copy(io.Discard, conn)
			return
		}
		_, _ = fmt.Fprintf(conn, "HTTP/1.0 %d %s\r\n\r\n", status, http.StatusText(status))
		return
	}
}

// fastConfig returns a configuration with short intervals.
func fastConfig(nodes ...*fakeNode) balancer.Config {
	cfg := balancer.Config{
		CheckInterval: 20 * time.Millisecond,
		CheckTimeout:  patience,
		Wait:          50 * time.Millisecond,
		DrainTimeout:  patience,
	}
	for _, n := range nodes {
		cfg.Nodes = append(cfg.Nodes, n.addr)
	}
	return cfg
}

// awaitState waits until node i is in the state.
func (r *running) awaitState(t *testing.T, i int, want balancer.State) {
	t.Helper()
	testenv.Eventually(t, patience, func() error {
		if got := r.Stats().Nodes[i]; got.State != want {
			return fmt.Errorf("node %d is %s, want %s", i, got.State, want)
		}
		return nil
	})
}

// awaitOpen waits until the balancer has this many client connections.
func (r *running) awaitOpen(t *testing.T, want int) {
	t.Helper()
	testenv.Eventually(t, patience, func() error {
		if got := r.Stats().Open; got != want {
			return fmt.Errorf("%d connections are open, want %d", got, want)
		}
		return nil
	})
}

// echoedBy opens a connection and returns it with the name of its fake node.
func echoedBy(t *testing.T, addr string) (*line, string) {
	t.Helper()
	l := connect(t, addr)
	reply, err := l.ask("hola")
	if err != nil {
		t.Fatal(err)
	}
	name, _, _ := strings.Cut(reply, ":")
	return l, name
}
