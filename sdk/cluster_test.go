package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/task"
)

// TestTasksOutliveNodesAndWorkers ends three nodes in turn, and workers in several languages, while they run tasks. Each task
// succeeds once. None needs a second attempt when nodes and workers drain.
func TestTasksOutliveNodesAndWorkers(t *testing.T) {
	t.Parallel()
	testenv.NeedServer(t, "python3", "node")
	nodes := startNodes(t, 3)
	workers := startWorkers(t, nodes)
	c, err := client.New(client.Config{Dial: nodes.dial, ConnectWait: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	load := load{client: c, tasks: map[string]int{}}

	for i := range nodes.addrs {
		load.enqueue(t)
		nodes.processes[i].Kill(t)
		nodes.start(t, i)
	}
	// A node that is killed between the claim of a task and its push has begun an attempt that nobody makes.
	load.check(t, "nodes are killed", true)
	for i := range nodes.addrs {
		load.enqueue(t)
		nodes.processes[i].Signal(syscall.SIGTERM)
		nodes.processes[i].Wait(t, time.Minute)
		nodes.start(t, i)
	}
	load.check(t, "nodes drain", false)
	for _, old := range workers {
		load.enqueue(t)
		old.Signal(syscall.SIGTERM)
		if code := old.Wait(t, time.Minute); code != 0 {
			t.Errorf("%v ended with code %d, want 0", old.Command(), code)
		}
	}
	workers = startWorkers(t, nodes)
	load.check(t, "workers drain", false)
	load.enqueue(t)
	for _, old := range workers {
		old.Kill(t)
	}
	startWorkers(t, nodes)
	load.check(t, "workers are killed", true)
}

// load is a stream of tasks.
type load struct {
	client *client.Client
	count  int
	tasks  map[string]int // the number in the payload by task, of those that were not yet checked
}

// enqueue enqueues tasks, and returns when the first of them run.
func (l *load) enqueue(t *testing.T) {
	t.Helper()
	for range 60 {
		l.count++
		for _, action := range []string{"python", "python_async", "javascript", "go"} {
			key := client.EnqueueOptions{Key: fmt.Sprintf("%s-%d", action, l.count)}
			accepted, err := l.client.Enqueue(t.Context(), action, map[string]int{"number": l.count}, key)
			if err != nil {
				t.Fatal(err)
			}
			l.tasks[accepted.Task] = l.count
		}
	}
	testenv.Eventually(t, time.Minute, func() error { return isRunning(t.Context(), l.client) })
}

// check waits for the tasks and looks at their results and histories.
func (l *load) check(t *testing.T, when string, mayRepeat bool) {
	t.Helper()
	repeated := 0
	for id, number := range l.tasks {
		record, err := l.client.Wait(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf(`{"ok":true,"data":%d}`, 2*number); record.Result.String() != want {
			t.Errorf("%s: task %s is %s with %s, want %s", when, id, record.State, record.Result, want)
		}
		if count := successes(t, l.client, id); count != 1 {
			t.Errorf("%s: the history of task %s has %d successes, want 1", when, id, count)
		}
		if record.Attempt > 1 {
			repeated++
		}
	}
	t.Logf("%s: %d of %d tasks needed more than one attempt", when, repeated, len(l.tasks))
	if repeated > 0 && !mayRepeat {
		t.Errorf("%s: tasks were repeated", when)
	}
	clear(l.tasks)
}

// nodes are processes that share a PostgreSQL.
type nodes struct {
	store     string
	addrs     []string
	processes []*testenv.Process
}

func startNodes(t *testing.T, count int) *nodes {
	t.Helper()
	n := &nodes{store: testenv.StartPostgres(t).URL(), processes: make([]*testenv.Process, count)}
	for i := range count {
		n.addrs = append(n.addrs, testenv.FreeAddr(t))
		n.start(t, i)
	}
	return n
}

// start starts a node again that was killed, or for the first time.
func (n *nodes) start(t *testing.T, i int) {
	t.Helper()
	n.processes[i] = testenv.Node(t, n.addrs[i], "--store", n.store, "--drain-delay", "0s")
}

// dial connects to a node that lives.
func (n *nodes) dial(ctx context.Context) (net.Conn, error) {
	var failures []error
	for _, addr := range n.addrs {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil {
			return conn, nil
		}
		failures = append(failures, err)
	}
	return nil, errors.Join(failures...)
}

// startWorkers starts a worker for each language.
func startWorkers(t *testing.T, n *nodes) (workers []*testenv.Process) {
	t.Helper()
	for _, command := range [][]string{
		{"python3", "-B", "testdata/worker.py"},
		{"node", "testdata/worker.mjs"},
		{testenv.Program(t, "./sdk/testdata/goworker")},
	} {
		cmd := exec.Command(command[0], command[1:]...)
		cmd.Env = append(os.Environ(), "POSTA_TO="+strings.Join(n.addrs, ","), "PYTHONPATH=python")
		workers = append(workers, testenv.StartCommand(t, cmd))
	}
	return workers
}

// isRunning returns an error while no task runs.
func isRunning(ctx context.Context, c *client.Client) error {
	page, err := c.List(ctx, client.Query{Filter: client.Filter{State: task.Running}, Limit: 1})
	if err == nil && len(page.Tasks) == 0 {
		err = errors.New("no task runs")
	}
	return err
}

// successes counts the entries done in the history of a finished task.
func successes(t *testing.T, c *client.Client, id string) (count int) {
	t.Helper()
	for event, err := range c.Watch(t.Context(), id, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if event.State == task.Done {
			count++
		}
	}
	return count
}
