package httpapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/httpapi"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/task"
)

// TestMain has the tests wait beside each other, which most of them do.
func TestMain(m *testing.M) {
	testenv.Overlap(16)
	os.Exit(m.Run())
}

// patience is how long a test waits for what must come; a working test never does.
const patience = 2 * time.Minute

// door is a Server on a port of its own, and what a test has to do with it.
type door struct {
	t      *testing.T
	addr   string
	reach  func() (socket, error) // opens a connection to it
	server *httpapi.Server
	client *http.Client
	began  chan string // the action "block" says here that it runs
	ended  chan error  // and here why it stopped
	free   chan bool   // closing it lets "block" succeed
	drain  func()      // ends the engine, where there is one
}

// socket is a connection as a client has it.
type socket interface {
	net.Conn
	CloseWrite() error
}

// listenTCP takes a port.
func (d *door) listenTCP() net.Listener {
	d.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		d.t.Fatal(err)
	}
	d.addr = listener.Addr().String()
	d.reach = func() (socket, error) {
		conn, err := net.Dial("tcp", d.addr)
		if err != nil {
			return nil, err
		}
		return conn.(*net.TCPConn), nil
	}
	return listener
}

// listenInMemory takes connections that work in a bubble.
func (d *door) listenInMemory() net.Listener {
	listener := testenv.NewListener()
	d.addr = listener.Addr().String()
	d.reach = func() (socket, error) { return listener.Dial() }
	return listener
}

// inBubble runs a test with a Server whose clock is the one of a bubble, where time passes
// only when everybody waits. change may alter its Config.
func inBubble(t *testing.T, test func(d *door), change ...func(*httpapi.Config, *executor.Config)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(openOn(t, (*door).listenInMemory, change...)) })
}

// open starts a Server. change may alter its Config, and the executor's.
func open(t *testing.T, change ...func(*httpapi.Config, *executor.Config)) *door {
	t.Helper()
	return openOn(t, (*door).listenTCP, change...)
}

func openOn(t *testing.T, listen func(*door) net.Listener, change ...func(*httpapi.Config, *executor.Config)) *door {
	t.Helper()
	d := &door{t: t, began: make(chan string, 16), ended: make(chan error, 16), free: make(chan bool)}
	registry, err := actions.NewRegistry(append(actions.Builtin(), actions.Action{Name: "block", Slow: true, Run: d.block})...)
	if err != nil {
		t.Fatal(err)
	}
	running := executor.Config{Registry: registry}
	config := httpapi.Config{Node: "n1", Version: "0.0.1"}
	for _, c := range change {
		c(&config, &running)
	}
	if config.Executor, err = executor.New(running); err != nil {
		t.Fatal(err)
	}
	if d.server, err = httpapi.New(config); err != nil {
		t.Fatal(err)
	}
	closeLast(t, config.Executor)
	d.serve(listen(d))
	return d
}

// closeLast closes an executor after what is started from now on.
func closeLast(t *testing.T, running *executor.Executor) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		running.Close(ctx)
	})
}

// serve serves what connects until the test ends, and makes the client.
func (d *door) serve(listener net.Listener) {
	go d.accept(listener)
	transport := &http.Transport{}
	if _, inMemory := listener.(*testenv.Listener); inMemory {
		transport.DialContext = func(context.Context, string, string) (net.Conn, error) { return d.reach() }
	}
	d.client = &http.Client{Transport: transport, Timeout: patience}
	d.t.Cleanup(func() {
		transport.CloseIdleConnections()
		listener.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		d.server.Close(ctx)
	})
}

func (d *door) accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go d.server.Serve(conn)
	}
}

// block runs until the test frees it or its context ends.
func (d *door) block(ctx context.Context, call *actions.Call) (any, error) {
	d.began <- string(call.Payload)
	select {
	case <-d.free:
		d.ended <- nil
		return "free", nil
	case <-ctx.Done():
		d.ended <- ctx.Err()
		return nil, ctx.Err()
	}
}

// answer is what a test looks at.
type answer struct {
	status int
	header http.Header
	body   string
	last   bool // the answer announces the end of the connection
}

// request makes a request with headers given as name, value, name, value.
func (d *door) request(method, path, body string, headers ...string) *http.Request {
	d.t.Helper()
	r, err := http.NewRequest(method, "http://"+d.addr+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		} else {
			r.Header.Add(headers[i], headers[i+1])
		}
	}
	return r
}

// do sends a request and reads the answer.
func (d *door) do(r *http.Request) answer {
	d.t.Helper()
	response, err := d.client.Do(r)
	if err != nil {
		d.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(body), response.Close}
}

// run posts a task as JSON.
func (d *door) run(body string, headers ...string) answer {
	d.t.Helper()
	return d.do(d.request("POST", "/v1/run", body, append([]string{"Content-Type", "application/json"}, headers...)...))
}

// dial opens a plain connection for a test that writes its own bytes.
func (d *door) dial() socket {
	d.t.Helper()
	conn, err := d.reach()
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// raw sends bytes and gives the first answer. When that announces the end of the connection, raw also
// gives what follows, and whether the server closed.
func (d *door) raw(text string) (answer, string, bool) {
	d.t.Helper()
	conn := d.dial()
	if _, err := conn.Write([]byte(text)); err != nil {
		d.t.Fatal(err)
	}
	return d.read(conn)
}

// rawToEnd sends bytes, the last of which ask for the end of the connection, and gives the first answer and
// what follows.
func (d *door) rawToEnd(text string) (answer, string) {
	d.t.Helper()
	conn := d.dial()
	if _, err := conn.Write([]byte(text)); err != nil {
		d.t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	first := d.readAnswer(reader)
	more, err := io.ReadAll(reader)
	if err != nil {
		d.t.Fatal(err)
	}
	return first, string(more)
}

// read reads one answer from a connection, and what follows when it announces the end.
func (d *door) read(conn net.Conn) (got answer, more string, closed bool) {
	d.t.Helper()
	reader := bufio.NewReader(conn)
	got = d.readAnswer(reader)
	if !got.last {
		return got, "", false
	}
	rest, err := io.ReadAll(reader)
	return got, string(rest), err == nil
}

func (d *door) readAnswer(reader *bufio.Reader) answer {
	d.t.Helper()
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(body), response.Close}
}

// problem is a problem document.
type problem struct {
	Type, Title, Detail, Field, Limit, Task string
	Status                                  int
	Code                                    task.Code
	RetryAfter                              float64 `json:"retry_after"`
}

// wantProblem checks that the answer is a whole problem document and returns it.
func wantProblem(t *testing.T, got answer, status int, code task.Code, part string) problem {
	t.Helper()
	var p problem
	decoder := json.NewDecoder(strings.NewReader(got.body))
	if err := decoder.Decode(&p); err != nil {
		t.Fatalf("status %d, no JSON (%v): %q", got.status, err, got.body)
	}
	if got.status != status || p.Status != status || p.Code != code || !strings.Contains(p.Detail, part) {
		t.Errorf("got status %d and %+v; want %d %s with %q", got.status, p, status, code, part)
	}
	if kind := got.header.Get("Content-Type"); kind != "application/problem+json" {
		t.Errorf("the content type is %q", kind)
	}
	if p.Type != "urn:posta:problem:"+string(code) || p.Title == "" {
		t.Errorf("the problem has type %q and title %q", p.Type, p.Title)
	}
	return p
}

// tokens makes a token file with one token.
func tokens(t *testing.T, token string) *auth.Tokens {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(path, []byte("ana "+token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	known, err := auth.LoadTokens(path)
	if err != nil {
		t.Fatal(err)
	}
	return known
}

// receive waits for a value with a deadline.
func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(patience):
		t.Fatalf("nothing came for %v", patience)
		panic("unreachable")
	}
}

// eventually polls until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	testenv.Eventually(t, patience, func() error {
		if !condition() {
			return errors.New("not true: " + what)
		}
		return nil
	})
}

// builtinExecutor returns an executor with the built-in actions, which is closed at the end of the test.
func builtinExecutor(t *testing.T) *executor.Executor {
	t.Helper()
	registry, err := actions.NewRegistry(actions.Builtin()...)
	if err != nil {
		t.Fatal(err)
	}
	e, err := executor.New(executor.Config{Registry: registry})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(context.Background()) })
	return e
}

func TestAServerThatCannotWorkIsNotMade(t *testing.T) {
	t.Parallel()
	e := builtinExecutor(t)
	tests := map[string]struct {
		config httpapi.Config
		want   string
	}{
		"no executor":    {httpapi.Config{}, "Executor is missing"},
		"negative limit": {httpapi.Config{Executor: e, Limits: task.Limits{Line: -1}}, "max-line"},
		"host with path": {httpapi.Config{Executor: e, AllowedHosts: []string{"http://tasks.example/"}}, "allowed host"},
		"empty host":     {httpapi.Config{Executor: e, AllowedHosts: []string{""}}, "allowed host"},
		"wildcard":       {httpapi.Config{Executor: e, AllowedHosts: []string{"*.example"}}, "allowed host"},
		"dots":           {httpapi.Config{Executor: e, AllowedHosts: []string{"..example"}}, "allowed host"},
		"a list":         {httpapi.Config{Executor: e, AllowedHosts: []string{"a,b"}}, "allowed host"},
	}
	for name, test := range tests {
		if _, err := httpapi.New(test.config); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, test.want)
		}
	}
}

// openReady starts a Server that is not ready, for the reason given.
func openReady(t *testing.T, reason error) *door {
	t.Helper()
	return open(t, func(config *httpapi.Config, _ *executor.Config) { config.Ready = func() error { return reason } })
}
