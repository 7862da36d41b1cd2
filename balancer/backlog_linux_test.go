package balancer_test

import (
	"errors"
	"net"
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/testenv"
)

// TestAConnectionIsTriedAgainAtANodeThatStaysUp has a node that is too busy to accept, so that a
// connect takes too long, and that is nevertheless never found down.
func TestAConnectionIsTriedAgainAtANodeThatStaysUp(t *testing.T) {
	t.Parallel()
	listener := fullListener(t)
	a := &fakeNode{name: "a", addr: listener.Addr().String(), open: map[net.Conn]struct{}{}}
	a.status.Store(http.StatusOK)
	t.Cleanup(a.down)

	cfg := fastConfig(a)
	cfg.ConnectTimeout, cfg.Fall, cfg.Wait = 50*time.Millisecond, 1<<30, patience
	r := run(t, cfg)
	l := connect(t, r.Addr().String())
	testenv.Eventually(t, patience, func() error {
		if r.Stats().Nodes[0].Failures == 0 {
			return errors.New("the connection was not offered yet")
		}
		return nil
	})
	a.accept(listener)
	l.wantReply(t, "hola", "a: hola")
}

// fullListener returns a listener whose backlog is full: until somebody accepts, a connect gets no
// answer.
func fullListener(t *testing.T) net.Listener {
	t.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(socket), "listener")
	defer file.Close()
	if err := errors.Join(
		syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}),
		syscall.Listen(socket, 0),
	); err != nil {
		t.Fatal(err)
	}
	listener, err := net.FileListener(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	for range 8 {
		conn, err := net.DialTimeout("tcp", listener.Addr().String(), 200*time.Millisecond)
		if err != nil {
			return listener
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Fatal("the backlog does not become full")
	return nil
}
