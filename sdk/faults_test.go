package sdk_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/task"
)

// scene is a node, a worker in Python that reaches it at another address, and a client.
type scene struct {
	*testing.T
	client *client.Client
	worker *testenv.Process
	file   string // ends the action "file"
}

// openScene starts a scene. through returns the address at which the worker reaches the node.
func openScene(t *testing.T, through func(node string) string) *scene {
	t.Helper()
	testenv.NeedServer(t, "python3")
	dir, addr := t.TempDir(), testenv.FreeAddr(t)
	testenv.Node(t, addr, "--name", "n", "--store", "sqlite://"+filepath.Join(dir, "posta.db"), "--drain-delay", "0s")
	c, err := client.New(client.Config{Addr: addr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	cmd := exec.Command("python3", "-B", "testdata/waiting.py")
	cmd.Env = append(os.Environ(), "POSTA_TO="+through(addr), "PYTHONPATH=python")
	return &scene{T: t, client: c, worker: testenv.StartCommand(t, cmd), file: filepath.Join(dir, "file")}
}

// begin enqueues a task and waits until the worker runs it.
func (s *scene) begin(action string, payload any, o client.EnqueueOptions) string {
	s.Helper()
	a, err := s.client.Enqueue(s.Context(), action, payload, o)
	if err != nil {
		s.Fatal(err)
	}
	testenv.Eventually(s, time.Minute, func() error { return s.runs(a.Task) })
	return a.Task
}

// runs returns an error unless the task is in its first attempt.
func (s *scene) runs(id string) error {
	r, err := s.client.Get(s.Context(), id)
	if err == nil && (r.State != task.Running || r.Attempt != 1) {
		err = fmt.Errorf("the task is %s, attempt %d; want its first attempt to run", r.State, r.Attempt)
	}
	return err
}

// end has the action "file" end, and wants the task to be done in its first attempt.
func (s *scene) end(id string) {
	s.Helper()
	if err := os.WriteFile(s.file, nil, 0o600); err != nil {
		s.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.Context(), 2*time.Minute)
	defer cancel()
	if r, err := s.client.Wait(ctx, id); err != nil || r.State != task.Done || r.Attempt != 1 {
		s.Errorf("the task is %s after %d attempts (%v), want done after one", r.State, r.Attempt, err)
	}
}

func TestAStoppedWorkerTimesOutInTimeAndNothingOfItRunsElsewhere(t *testing.T) {
	t.Parallel()
	s := openScene(t, func(node string) string { return node })
	long := s.begin("file", map[string]string{"path": s.file}, client.EnqueueOptions{})
	short := s.begin("cancel", nil, client.EnqueueOptions{Timeout: 2 * time.Second, MaxAttempts: 1})
	s.worker.Signal(syscall.SIGSTOP)
	r, err := s.client.Wait(t.Context(), short)
	if err != nil || r.Code != task.TimedOut || r.Attempt != 1 {
		t.Errorf("the task with a timeout is %s (%s) after %d attempts, %v", r.State, r.Code, r.Attempt, err)
	}
	if err := s.runs(long); err != nil {
		t.Error(err)
	}
	s.worker.Signal(syscall.SIGCONT)
	s.end(long)
}

// swallower forwards connections. Those that are open when it begins to swallow stay open, and nothing comes through.
type swallower struct {
	net.Listener
	to    string
	after atomic.Int64 // connections with a lower number are swallowed
	count atomic.Int64
}

func (s *swallower) serve() {
	for {
		from, err := s.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("tcp", s.to)
		if err != nil {
			_ = from.Close()
			continue
		}
		number := s.count.Add(1)
		go s.copy(to, from, number)
		go s.copy(from, to, number)
	}
}

func (s *swallower) copy(to io.WriteCloser, from io.Reader, number int64) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if number <= s.after.Load() {
			if err != nil {
				return // the other side does not learn that it has ended
			}
			continue
		}
		if _, failed := to.Write(buffer[:n]); failed != nil || err != nil {
			_ = to.Close()
			return
		}
	}
}

func TestATaskOutlivesAConnectionThatSwallowsEverything(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	proxy := &swallower{Listener: listener}
	s := openScene(t, func(node string) string {
		proxy.to = node
		go proxy.serve()
		return listener.Addr().String()
	})
	id := s.begin("file", map[string]string{"path": s.file}, client.EnqueueOptions{})
	proxy.after.Store(proxy.count.Load())
	s.end(id) // the outcome is swallowed; the worker notices the silence and names the lease on another connection
}
