package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/task"
)

// TestNoTaskIsLostOrRepeatedWhenNodesAreKilled kills three nodes in turn while workers in several languages run tasks. Each
// task succeeds once, whatever its worker held when the node died.
func TestNoTaskIsLostOrRepeatedWhenNodesAreKilled(t *testing.T) {
	t.Parallel()
	testenv.NeedServer(t, "python3", "node")
	nodes := startNodes(t, 3)
	startWorker(t, nodes, exec.Command("python3", "-B", "testdata/worker.py"))
	startWorker(t, nodes, exec.Command("node", "testdata/worker.mjs"))
	c, err := client.New(client.Config{Dial: nodes.dial, ConnectWait: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })

	const each = 80
	numbers := map[string]int{} // by task
	for round := range nodes.addrs {
		for i := range each {
			for _, action := range []string{"python", "python_async", "javascript"} {
				number := round*each + i
				key := client.EnqueueOptions{Key: fmt.Sprintf("%s-%d", action, number)}
				accepted, err := c.Enqueue(t.Context(), action, map[string]int{"number": number}, key)
				if err != nil {
					t.Fatal(err)
				}
				numbers[accepted.Task] = number
			}
		}
		testenv.Eventually(t, time.Minute, func() error { return isRunning(t.Context(), c) })
		nodes.processes[round].Kill(t)
		nodes.start(t, round)
	}

	repeated := 0
	for id, number := range numbers {
		record, err := c.Wait(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf(`{"ok":true,"data":%d}`, 2*number); record.Result.String() != want {
			t.Errorf("task %s is %s with %s, want %s", id, record.State, record.Result, want)
		}
		if successes(t, c, id) != 1 {
			t.Errorf("the history of task %s has more than one success", id)
		}
		if record.Attempt > 1 {
			repeated++
		}
	}
	t.Logf("%d tasks, of which %d needed more than one attempt", len(numbers), repeated)
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

// startWorker starts a program that connects to the nodes.
func startWorker(t *testing.T, n *nodes, cmd *exec.Cmd) {
	t.Helper()
	cmd.Env = append(os.Environ(), "POSTA_TO="+strings.Join(n.addrs, ","), "PYTHONPATH=python")
	testenv.StartCommand(t, cmd)
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
