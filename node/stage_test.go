package node_test

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/wire"
)

// TestMain runs many tests in parallel, since most of them wait most of the time.
func TestMain(m *testing.M) {
	testenv.Overlap(16)
	os.Exit(m.Run())
}

// patience limits the waits of visitors. A working test does not reach it.
const patience = 2 * time.Minute

// stage is a node on a free loopback port, for tests over the network.
type stage struct {
	addr string
	stop context.CancelFunc
}

// openStage starts a node and stops it at the end of the test. Timeouts that the test does not set are long enough for
// a busy machine.
func openStage(tb testing.TB, cfg node.Config) *stage {
	tb.Helper()
	cfg.Name, cfg.Version, cfg.Listen = cmp.Or(cfg.Name, "stage"), "test", "127.0.0.1:0"
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Limits.DrainTimeout = cmp.Or(cfg.Limits.DrainTimeout, 5*time.Second)
	cfg.Limits.LineTimeout = cmp.Or(cfg.Limits.LineTimeout, patience)
	cfg.Limits.WriteTimeout = cmp.Or(cfg.Limits.WriteTimeout, patience)
	n, err := node.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	tb.Cleanup(func() {
		stop()
		select {
		case err := <-ended:
			if err != nil {
				tb.Errorf("the node ends with %v", err)
			}
		case <-time.After(patience):
			tb.Errorf("the node does not stop")
		}
	})
	return &stage{addr: n.Addr().String(), stop: stop}
}

// stageTokens returns a token file with one token, correct-horse-battery, of the client web.
func stageTokens(tb testing.TB) *auth.Tokens {
	tb.Helper()
	return loadTokens(tb, "web correct-horse-battery\n")
}

// loadTokens loads a token file with the given text.
func loadTokens(tb testing.TB, text string) *auth.Tokens {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "tokens")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	tokens, err := auth.LoadTokens(path)
	if err != nil {
		tb.Fatal(err)
	}
	return tokens
}

// visitor is a client with a plain socket, which can misbehave.
type visitor struct {
	tb   testing.TB
	conn *net.TCPConn
	in   *bufio.Reader
	kept []line // read, and not returned by read yet
}

// visit opens a connection, which is closed at the end of the test.
func visit(tb testing.TB, addr string) *visitor {
	tb.Helper()
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	v := &visitor{tb: tb, conn: conn.(*net.TCPConn), in: bufio.NewReader(conn)}
	v.wait()
	return v
}

// wait sets the deadline of the connection to patience from now.
func (v *visitor) wait() {
	v.tb.Helper()
	if err := v.conn.SetDeadline(time.Now().Add(patience)); err != nil && !errors.Is(err, net.ErrClosed) {
		v.tb.Fatal(err)
	}
}

// send writes bytes unchanged.
func (v *visitor) send(text string) {
	v.tb.Helper()
	v.wait()
	if _, err := io.WriteString(v.conn, text); err != nil {
		v.tb.Fatalf("sending %s: %v", short(text), err)
	}
}

// finish closes the write side.
func (v *visitor) finish() {
	v.tb.Helper()
	if err := v.conn.CloseWrite(); err != nil {
		v.tb.Fatal(err)
	}
}

// reset ends the connection with a reset.
func (v *visitor) reset() {
	_ = v.conn.SetLinger(0)
	v.conn.Close()
}

// next reads a reply line and checks that it is strict JSON. It returns io.EOF when the server
// has ended the connection.
func (v *visitor) next() (string, error) {
	v.tb.Helper()
	v.wait()
	line, err := v.in.ReadString('\n')
	if err != nil {
		if line != "" {
			v.tb.Errorf("the connection ends within a reply: %s", short(line))
		}
		return "", err
	}
	line = strings.TrimSuffix(line, "\n")
	var reply wire.Reply
	if err := reply.Parse([]byte(line)); err != nil {
		v.tb.Errorf("a client cannot read the reply %s: %v", short(line), err)
	}
	return line, nil
}

// expect reads a reply line and compares it with a pattern.
func (v *visitor) expect(pattern string) {
	v.tb.Helper()
	line, err := v.next()
	if err != nil {
		v.tb.Fatalf("got %v instead of the reply %s", err, short(pattern))
	}
	if !looksLike(line, pattern) {
		v.tb.Fatalf("got the reply\n%s, want\n%s", short(line), short(pattern))
	}
}

// expectEnd expects the server to close the connection without a reset and without another line.
func (v *visitor) expectEnd() {
	v.tb.Helper()
	if line, err := v.next(); err == nil {
		v.tb.Fatalf("got the reply %s, want the end of the connection", short(line))
	} else if !errors.Is(err, io.EOF) {
		v.tb.Fatalf("got %v, want the end of the connection", err)
	}
}

// expectPong checks that the connection is still served.
func (v *visitor) expectPong() {
	v.tb.Helper()
	v.send(`{"id":"still here","op":"ping"}` + "\n")
	v.expect(`{"id":"still here","status":"done","result":{"ok":true,"data":"pong"}}`)
}

// looksLike reports whether a reply matches a pattern, in which … stands for any text.
func looksLike(line, pattern string) bool {
	return testenv.Like(line, pattern)
}

// short shortens a long line for messages.
func short(line string) string {
	const most = 300
	if len(line) > most {
		return line[:most] + "…"
	}
	return line
}
