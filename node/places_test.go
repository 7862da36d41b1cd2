package node

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/task"
)

// halfHead is an incomplete request head.
const halfHead = "GET /readyz HTTP/1.1\r\nHost: localhost\r\n"

// newQuietNode returns a node that does not run, so that a test can pass connections to its port one by one.
func newQuietNode(t *testing.T, limits task.Limits) *Node {
	t.Helper()
	n, err := New(Config{Name: "n1", Listen: "127.0.0.1:0", Limits: limits, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.port.close()
		_ = n.port.accept()
		n.stop(func(ctx context.Context) {})
	})
	return n
}

// exchange lets the node serve a connection on which the client sends a text, and returns everything that the client receives.
func exchange(t *testing.T, n *Node, text string) string {
	t.Helper()
	client, server := testenv.TCPPair(t)
	n.port.serving.Go(func() { n.port.admit(server) })
	if _, err := io.WriteString(client, text); err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(client)
	return string(answer)
}

// takeOrdinary takes all places except those reserved for health checks.
func takeOrdinary(t *testing.T, n *Node) {
	t.Helper()
	for range n.config.Limits.Connections - n.config.Limits.HealthConnections {
		if _, refusal := n.port.enter(nil, netip.Addr{}); refusal != nil {
			t.Fatal(refusal)
		}
	}
}

func TestIncompleteRequestsAreEvictedForHealthChecks(t *testing.T) {
	t.Parallel()
	n := newQuietNode(t, task.Limits{Connections: 5, HealthConnections: 2})
	takeOrdinary(t, n)
	var halves []net.Conn
	for range 6 {
		client, server := testenv.TCPPair(t)
		place, refusal := n.port.enter(server, netip.Addr{})
		if refusal != nil {
			t.Fatalf("refused: %v", refusal)
		}
		n.port.serving.Go(func() { n.port.choose(server, place) })
		if _, err := io.WriteString(client, halfHead); err != nil {
			t.Fatal(err)
		}
		halves = append(halves, client)
	}
	for i, client := range halves[:4] { // the newest two keep their places
		if answer, err := io.ReadAll(client); len(answer) > 0 {
			t.Errorf("incomplete request %d: got %q, %v; want the end of the connection", i, answer, err)
		}
	}
	if answer := exchange(t, n, halfHead+"\r\n"); !strings.HasPrefix(answer, "HTTP/1.1 200 ") {
		t.Errorf("the response to the health check is %q", answer)
	}
}

func TestCompleteRequestsKeepTheirPlaces(t *testing.T) {
	t.Parallel()
	n := newQuietNode(t, task.Limits{Connections: 5, HealthConnections: 2})
	takeOrdinary(t, n)
	for range 2 {
		place, refusal := n.port.enter(nil, netip.Addr{})
		if refusal != nil {
			t.Fatal(refusal)
		}
		place.hold()
		defer place.leave()
	}
	if _, refusal := n.port.enter(nil, netip.Addr{}); refusal == nil || refusal.Code != task.Overloaded {
		t.Errorf("a connection beyond the limit: %v, want overloaded", refusal)
	}
}

func TestReservedPlacesServeOnlyHealthChecks(t *testing.T) {
	t.Parallel()
	n := newQuietNode(t, task.Limits{Connections: 5, HealthConnections: 2})
	takeOrdinary(t, n)
	for _, c := range []struct {
		head   string
		status string
	}{
		{"GET /healthz", "200"},
		{"HEAD /readyz", "200"},
		{"GET /metrics", "200"},
		{"GET /", "503"},
		{"GET /v1/tasks", "503"},
		{"GET /nowhere", "503"},
		{"GET /v1/socket", "503"},
		{"GET //readyz", "503"},
	} {
		answer := exchange(t, n, c.head+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if !strings.HasPrefix(answer, "HTTP/1.1 "+c.status) || !strings.Contains(answer, "\r\nConnection: close\r\n") {
			t.Errorf("%s: got %q, want %s and the end of the connection", c.head, answer, c.status)
		}
		if c.status == "503" && !strings.Contains(answer, `"code":"overloaded"`) {
			t.Errorf("%s: got %q, want overloaded", c.head, answer)
		}
	}
}

func TestTheDrainDelayIsSkippedWithoutClientsAndHealthChecks(t *testing.T) {
	t.Parallel()
	const delay = time.Hour
	long := time.Now().Add(-2 * quietTime).UnixNano()
	for _, c := range []struct {
		name, sent string
		want       time.Duration
	}{
		{"GET /healthz", "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", delay},
		{"GET /readyz", "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", delay},
		{"another request", "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 0},
		{"a ping", `{"op":"ping"}` + "\n", delay},
		{"another line", `{"action":"echo"}` + "\n", 0},
		{"nothing", "", delay},
	} {
		n := newQuietNode(t, task.Limits{DrainDelay: delay})
		if got := n.drainDelay(); got != 0 {
			t.Errorf("without any connection the delay is %s", got)
		}
		client, server := testenv.TCPPair(t)
		if _, err := io.WriteString(client, c.sent); err != nil {
			t.Fatal(err)
		}
		if err := client.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		n.port.admit(server) // until the connection is over
		n.port.newest.Store(time.Now().Add(time.Hour).UnixNano())
		if got := n.drainDelay(); got != delay {
			t.Errorf("%s, lately: the delay is %s, want %s", c.name, got, delay)
		}
		n.port.newest.Store(long)
		if got := n.drainDelay(); got != c.want {
			t.Errorf("%s, long ago: the delay is %s, want %s", c.name, got, c.want)
		}
	}
}
