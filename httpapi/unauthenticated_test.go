package httpapi_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/httpapi"
	"github.com/posta-tasks/posta/task"
)

// withTokenInBubble runs a test with a server that requires tokens, whose clients are pipes.
func withTokenInBubble(t *testing.T, token string, test func(t *testing.T, server *httpapi.Server)) {
	t.Helper()
	known := tokens(t, token)
	synctest.Test(t, func(t *testing.T) {
		registry, err := actions.NewRegistry(actions.Builtin()...)
		if err != nil {
			t.Fatal(err)
		}
		running, err := executor.New(executor.Config{Registry: registry})
		if err != nil {
			t.Fatal(err)
		}
		server, err := httpapi.New(httpapi.Config{Executor: running, Tokens: known})
		if err != nil {
			t.Fatal(err)
		}
		test(t, server)
		if err := server.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if err := running.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestAConnectionThatSendsNoTokenIsClosedInTime(t *testing.T) {
	t.Parallel()
	withTokenInBubble(t, "0123456789abcdef", func(t *testing.T, server *httpapi.Server) {
		briefly := func(conn net.Conn) { server.ServeBriefly(conn, task.Refuse(task.Overloaded, "full"), func() {}) }
		for _, c := range []struct {
			sent   string
			within time.Duration
			serve  func(net.Conn)
		}{
			{"G", task.UnauthenticatedTimeout, server.Serve},
			{"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ", task.UnauthenticatedTimeout, server.Serve},
			{"POST /v1/run HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n", task.UnauthenticatedTimeout, server.Serve},
			{"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 0, server.Serve}, // its answer ends the connection
			{"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n", 0, server.Serve},
			{"G", time.Second, briefly},
			{"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n", 0, briefly},
		} {
			near, far := net.Pipe()
			go c.serve(far)
			begun := time.Now()
			go io.WriteString(near, c.sent)
			if _, err := io.ReadAll(near); err != nil {
				t.Error(err)
			}
			if took := time.Since(begun); took > c.within+time.Second { // net/http lingers a moment
				t.Errorf("%q: it stays open for %s, want at most %s", c.sent, took, c.within)
			}
			near.Close()
		}
	})
}

func TestAConnectionThatHasSentATokenStaysOpen(t *testing.T) {
	t.Parallel()
	const token = "0123456789abcdef"
	withTokenInBubble(t, token, func(t *testing.T, server *httpapi.Server) {
		near, far := net.Pipe()
		go server.Serve(far)
		const body = `{"action":"sleep","payload":30}`
		replies := make(chan string, 10)
		go func() {
			text := make([]byte, 64<<10)
			for {
				n, err := near.Read(text)
				if err != nil {
					close(replies)
					return
				}
				replies <- string(text[:n])
			}
		}()
		head := fmt.Sprintf("POST /v1/run HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", token, len(body))
		for range 2 {
			io.WriteString(near, head)
			<-time.After(5 * time.Second) // as long as a body may take
			io.WriteString(near, body)
			if reply, open := <-replies; !open || !strings.Contains(reply, `"slept":30`) {
				t.Fatalf("answered %q", reply)
			}
			<-time.After(time.Minute) // idle
		}
		near.Close()
	})
}
