// Package examples_test runs the clients in the folders beside it against a node,
// as somebody who copies them would, and compares what they print.
package examples_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/store"
)

// patience bounds one example. The slowest takes about a second; on a busy machine more.
const patience = 2 * time.Minute

func TestEachClientPrintsItsReplies(t *testing.T) {
	t.Parallel()
	to := startNode(t)
	const (
		results = `fast {"ok":true,"data":"HOLA"}
slow {"ok":true,"slept":0.3}
`
		fast = `{"id":"fast","status":"done","result":{"ok":true,"data":"HOLA"}}
`
		slow = `{"id":"slow","status":"done","result":{"ok":true,"slept":0.3}}
`
		original = `{"id":1,"status":"done","result":{"ok":true,"data":"hola"}}
{"id":2,"status":"done","result":{"ok":true,"data":"TEXTO DE PRUEBA"}}
{"id":4,"status":"done","result":{"ok":true,"fib":75025}}
{"id":3,"status":"done","result":{"ok":true,"slept":0.5}}
`
	)
	cases := []struct {
		name    string
		needs   string
		command []string
		want    string
	}{
		{"python", "python3", []string{"python3", "python/tasks.py"}, results},
		{"node", "node", []string{"node", "node/tasks.js"}, results},
		{"nc", "nc", []string{"sh", "sh/nc.sh"}, fast + slow},
		{"curl", "curl", []string{"sh", "sh/curl.sh"}, slow + fast},
		{"original", "python3", []string{"python3", "original/client.py", to}, original},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			testenv.Need(t, c.needs)
			if got := output(t, to, c.command...); got != c.want {
				t.Errorf("printed\n%swant\n%s", got, c.want)
			}
		})
	}
}

func TestTheOriginalClientFindsItsArgumentsInTwoWords(t *testing.T) {
	t.Parallel()
	testenv.Need(t, "python3")
	host, port, err := net.SplitHostPort(startNode(t))
	if err != nil {
		t.Fatal(err)
	}
	got := output(t, "", "python3", "original/client.py", host, port)
	if n := strings.Count(got, `"status":"done"`); n != 4 {
		t.Errorf("printed %d replies with \"status\":\"done\", want 4:\n%s", n, got)
	}
}

func TestTheGoClientPrintsItsResults(t *testing.T) {
	t.Parallel()
	got := output(t, startNode(t), testenv.Program(t, "./examples/client"))
	want := "HOLA\n" +
		"fib 10 is 55\nfib 20 is 6765\nfib 100 is 354224848179261915075\n" +
		"unknown action nope\n"
	if got != want {
		t.Errorf("printed\n%swant\n%s", got, want)
	}
}

func TestTheGoClientPrintsWhatBecomesOfItsDurableTasks(t *testing.T) {
	t.Parallel()
	kept := durable.Config{Store: store.NewMemory(store.MemoryConfig{})}
	got := output(t, startNodeWith(t, node.Config{Durable: &kept}), testenv.Program(t, "./examples/enqueue"))
	want := `done {"ok":true,"data":"HOLA"}` + "\n1 scheduled\n2 cancelled\n1000 accepted\n"
	if got != want {
		t.Errorf("printed\n%swant\n%s", got, want)
	}
}

func TestAProgramWithItsOwnActionServesIt(t *testing.T) {
	t.Parallel()
	to := testenv.FreeAddr(t)
	p := testenv.Start(t, testenv.Program(t, "./examples/embed"), "node", "--listen", to)
	testenv.Eventually(t, patience, testenv.Accepts(to))
	t.Cleanup(func() {
		p.Signal(syscall.SIGTERM)
		if code := p.Wait(t, patience); code != 0 {
			t.Errorf("after SIGTERM it ended with %d:\n%s", code, p.Output())
		}
	})
	conn, err := net.DialTimeout("tcp", to, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	replies := bufio.NewReader(conn)
	for _, c := range []struct{ request, want string }{
		{`{"action":"greet","payload":{"name":"Ana"}}`, `{"id":null,"status":"done","result":{"ok":true,"data":"hello Ana"}}`},
		{`{"action":"greet","payload":{"nombre":"Ana"}}`, `{"id":null,"status":"done","result":{"ok":false,"error":"payload: unknown field \"nombre\""}}`},
		{`{"action":"echo","payload":[1]}`, `{"id":null,"status":"done","result":{"ok":false,"error":"unknown action echo"}}`},
	} {
		if _, err := conn.Write([]byte(c.request + "\n")); err != nil {
			t.Fatal(err)
		}
		got, err := replies.ReadString('\n')
		if err != nil {
			t.Fatalf("%s: %v", c.request, err)
		}
		if strings.TrimSpace(got) != c.want {
			t.Errorf("%s: got %s, want %s", c.request, got, c.want)
		}
	}
}

func TestAnEmbeddedNodeWithAStoreWorksDurableTasks(t *testing.T) {
	t.Parallel()
	c, err := client.New(client.Config{Addr: startEmbedded(t, "./examples/durable")})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	accepted, err := c.Enqueue(ctx, "count", []string{"a", "b"}, client.EnqueueOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	result := ""
	for event, err := range c.Watch(ctx, accepted.Task, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if event.Progress != nil {
			said = append(said, event.Progress.Message)
		}
		result = event.Result.String()
	}
	if result != `{"ok":true,"data":2}` || len(said) == 0 {
		t.Errorf("the result is %s, and it said %v", result, said)
	}
}

// startNode runs a node in this process and gives its address.
func startNode(t *testing.T) string {
	t.Helper()
	return startNodeWith(t, node.Config{})
}

func startNodeWith(t *testing.T, cfg node.Config) string {
	t.Helper()
	cfg.Listen = "127.0.0.1:0"
	n, err := node.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the node ended with %v", err)
		}
	})
	return n.Addr().String()
}

// startEmbedded builds and starts an embedding program, and gives the address
// that it prints.
func startEmbedded(t *testing.T, folder string) string {
	t.Helper()
	cmd := exec.Command(testenv.Program(t, folder))
	cmd.Env = append(os.Environ(), "POSTA_LISTEN=127.0.0.1:0", "POSTA_STORE="+filepath.Join(t.TempDir(), "posta.db"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		kill := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("after SIGTERM the embedding program ended with %v, want exit 0", err)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the embedding program printed no address: %v", err)
	}
	return strings.TrimSpace(strings.TrimPrefix(line, "listening on "))
}

// output runs a command to its end and gives what it printed.
func output(t *testing.T, to string, command ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "POSTA_TO="+to, "POSTA_PATIENCE=1")
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) || complaints.Len() > 0 {
		t.Fatalf("%v ended with %v and said:\n%s%s", command, err, out, complaints.Bytes())
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestActionsOfAFileAreServed runs examples/actions.toml.
func TestActionsOfAFileAreServed(t *testing.T) {
	t.Parallel()
	to := testenv.FreeAddr(t)
	p := testenv.Start(t, testenv.Program(t, "./cmd/posta"), "node", "--listen", to, "--actions", "actions.toml")
	testenv.Eventually(t, patience, testenv.Accepts(to))
	t.Cleanup(func() {
		p.Signal(syscall.SIGTERM)
		if code := p.Wait(t, patience); code != 0 {
			t.Errorf("after SIGTERM it ended with %d:\n%s", code, p.Output())
		}
	})
	c, err := client.New(client.Config{Addr: to})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, want := range []struct{ action, payload, data, failure string }{
		{"count", "four", `6`, ""}, // with its quotes
		{"greet", "Ana", `"hello \"Ana\""`, ""},
		{"greet", "", "", "exit status 64"},
		{"hook", "Ana", "", "no answer from 127.0.0.1:9080"},
		{"echo", "still there", `"still there"`, ""},
	} {
		var payload any = want.payload
		if want.payload == "" {
			payload = nil
		}
		result, err := c.Run(ctx, want.action, payload)
		got := fmt.Sprint(string(result.JSON()), err)
		if want.failure == "" && !strings.Contains(got, want.data) || !strings.Contains(got, want.failure) {
			t.Errorf("%s %s: %s, want %s%s", want.action, want.payload, got, want.data, want.failure)
		}
	}
}
