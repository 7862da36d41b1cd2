package node_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/task"
)

// hostileNodeEnv is the environment variable that makes the test binary the node of the hostile tests.
const hostileNodeEnv = "POSTA_TEST_HOSTILE_NODE"

// The limits of the node of the hostile tests.
const (
	hostileConnections = 400
	hostileSlots       = 8
)

// nodeProcess is a node in a process of its own, so that a test can check that it lives and
// measure its memory.
type nodeProcess struct {
	addr string
	cmd  *exec.Cmd
}

// shortWrite is the write timeout in tests about it. It is short, so that the tests are short, but long enough for a
// client that reads on a busy machine.
const shortWrite = 10 * time.Second

// hostileNode starts the node of the hostile tests, and checks that it stops cleanly at the end
// of the test.
func hostileNode(t *testing.T) *nodeProcess {
	t.Helper()
	return startNode(t, "hostile")
}

// shortWriteNode is hostileNode with a short write timeout.
func shortWriteNode(t *testing.T) *nodeProcess {
	t.Helper()
	return startNode(t, "short write")
}

// startNode starts one of the nodes of TestTheNodeOfTheHostileTests in a process of its own.
func startNode(t *testing.T, name string) *nodeProcess {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestTheNodeOfTheHostileTests$", "-test.v=false")
	cmd.Env = append(os.Environ(), hostileNodeEnv+"="+name)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReader(stdout)
	addr, err := out.ReadString('\n')
	t.Cleanup(func() {
		stdin.Close() // stops the node
		timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
		rest, _ := io.ReadAll(out)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the node of the hostile tests ended with %v\n%s", err, rest)
		}
	})
	if err != nil {
		t.Fatalf("the node of the hostile tests does not start: %v", err)
	}
	return &nodeProcess{addr: strings.TrimSpace(addr), cmd: cmd}
}

// TestTheNodeOfTheHostileTests is the process that hostileNode starts. Otherwise it does nothing.
func TestTheNodeOfTheHostileTests(t *testing.T) {
	var config node.Config
	switch name := os.Getenv(hostileNodeEnv); name {
	case "hostile", "short write":
		config = node.Config{
			Actions: append(actions.Builtin(), hostileActions()...),
			Limits: task.Limits{
				LineTimeout: patience, WriteTimeout: patience, Connections: hostileConnections,
				Slots: hostileSlots, StuckSlots: hostileSlots, DrainTimeout: 5 * time.Second,
			},
		}
		if name == "short write" {
			config.Limits.WriteTimeout = shortWrite
		}
	case "budget":
		config = budgetNode()
	default:
		return
	}
	server := openStage(t, config)
	fmt.Println(server.addr)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// badError is an error whose text panics.
type badError struct{}

func (badError) Error() string { panic("no words") }

// badValue is a result that cannot be marshalled.
type badValue struct{}

func (badValue) MarshalJSON() ([]byte, error) { panic("no JSON") }

// hostileActions returns actions that misbehave.
func hostileActions() []actions.Action {
	write := func(name, members string) actions.Action {
		return actions.Action{Name: name, Append: func(_ context.Context, _ *actions.Call, dst []byte) ([]byte, error) {
			return append(dst, members...), nil
		}}
	}
	fail := func(name string, err error) actions.Action {
		return actions.New(name, func(context.Context, *actions.Call) (any, error) { return nil, err })
	}
	give := func(name string, value any) actions.Action {
		return actions.New(name, func(context.Context, *actions.Call) (any, error) { return value, nil })
	}
	throw := func(name string, value any) actions.Action {
		return actions.New(name, func(context.Context, *actions.Call) (any, error) { panic(value) })
	}
	return []actions.Action{
		throw("panics", "boom \"quoted\"\nand more"), throw("panics with nil", nil), throw("panics with an error", errors.New("oops")),
		throw("panics with a bad error", badError{}), throw("panics with bytes", "\xff\x00"),
		actions.New("ends its goroutine", func(context.Context, *actions.Call) (any, error) { runtime.Goexit(); return nil, nil }),
		fail("fails", errors.New("it \"failed\"\nbadly \x00\xff")), fail("fails badly", badError{}), fail("fails without words", errors.New("")),
		give("gives a channel", make(chan int)), give("gives a bad value", badValue{}), give("gives nothing", nil),
		give("gives too much", strings.Repeat("x", 2<<20)), write("writes too much", `"data":"`+strings.Repeat("x", 2<<20)+`"`),
		actions.New("ignores its context", func(context.Context, *actions.Call) (any, error) { <-time.After(2 * time.Second); return nil, nil }),
		actions.New("writes after it has failed", func(context.Context, *actions.Call) (any, error) { return "data", errors.New("failed") }),
	}
}

// expectAlive checks that the process runs and serves the next client.
func (p *nodeProcess) expectAlive(t *testing.T) {
	t.Helper()
	if p.cmd.ProcessState != nil {
		t.Fatalf("the node has ended: %v", p.cmd.ProcessState)
	}
	v := visit(t, p.addr)
	v.send(echo(`"next, please"`) + "\n")
	v.expect(echoed(`"next, please"`))
	v.finish()
	v.expectEnd()
}

// resident returns the resident memory of the process in MiB.
func (p *nodeProcess) resident(t *testing.T) int {
	t.Helper()
	return p.memory(t, "VmRSS:")
}

// peak returns the peak resident memory of the process in MiB.
func (p *nodeProcess) peak(t *testing.T) int {
	t.Helper()
	return p.memory(t, "VmHWM:")
}

// memory returns a value of /proc/PID/status in MiB.
func (p *nodeProcess) memory(t *testing.T, name string) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), name)
	kib, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib >> 10
}
