package cluster_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/posta-tasks/posta/balancer"
	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/lab/build"
	"github.com/posta-tasks/posta/lab/chaos/history"
	"github.com/posta-tasks/posta/task"
)

// rollingRestarts is the variable that says how often every node is restarted; once.
const rollingRestarts = "POSTA_ROLLING_RESTARTS"

// rounds is how often a test does what takes long: once, unless a variable asks for more.
func rounds(t *testing.T, variable string) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return 1
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s is %q, want a number from 1 on", variable, text)
	}
	return n
}

// TestARollingRestartFailsNobody restarts three nodes under load, one after the other, behind
// HAProxy and Nginx at once. No request of the package client fails, and none of an HTTP client that
// repeats what is idempotent. No durable task is run twice: a task has to be run twice only when its
// node dies or cuts it off at the drain timeout, and here every task ends long before that. Runs
// are counted in a journal that the action itself keeps, so that it is runs which are counted, and
// not what the engine thinks of them.
func TestARollingRestartFailsNobody(t *testing.T) {
	t.Parallel()
	testenv.NeedTime(t, time.Minute)
	testenv.Need(t, "haproxy", "nginx", "rabbitmqctl")
	db, rabbit := testenv.StartPostgres(t), testenv.RabbitMQ(t)
	journal := filepath.Join(t.TempDir(), "journal")
	var nodes []*clusterNode
	var addrs []string
	for i := range 3 {
		n := newClusterNode(t, fmt.Sprintf("node-%d", i+1), "--slots", "8", "--drain-delay", "3s",
			"--store", db.URL(), "--broker", rabbit.URL)
		n.program, n.environ = build.ForTest(t), []string{"POSTA_CHAOS_JOURNAL=" + journal}
		n.start(t)
		nodes, addrs = append(nodes, n), append(addrs, n.addr)
	}
	var callers []caller
	var webs []*webClient
	for _, front := range []string{frontOf(t, addrs), nginxOf(t, addrs)} {
		c, web := clientOf(t, front), newWebClient(t, front)
		webs = append(webs, web)
		for i := range 3 {
			name := fmt.Sprintf("%s-%d-", front, i)
			callers = append(callers, libraryCaller(t, c, "line-"+name), web.caller("web-"+name))
		}
	}
	load := startCallers(t, callers)
	began := time.Now()
	for i := range rounds(t, rollingRestarts) * len(nodes) {
		n := nodes[i%len(nodes)]
		load.await(t, 200)
		n.process.Signal(syscall.SIGTERM)
		if code := n.process.Wait(t, clusterPatience); code != 0 {
			t.Errorf("%s ended with %d after SIGTERM", n.name, code)
		}
		n.start(t)
	}
	load.await(t, 200)
	load.end(t)
	for i, web := range webs {
		t.Logf("HTTP through %s: %d requests were repeated after 503, %d after a broken connection",
			[]string{"HAProxy", "Nginx"}[i], web.refused.Load(), web.broken.Load())
	}
	tasks, twice := runsIn(t, journal)
	t.Logf("%v; %d durable tasks, %d of them were run more than once", time.Since(began).Round(time.Second), tasks, len(twice))
	for id, runs := range twice {
		t.Errorf("task %s was run more than once, and did not have to be: %+v", id, runs)
	}
}

// nginxOf starts Nginx before nodes, and returns its address.
func nginxOf(t *testing.T, nodes []string) string {
	t.Helper()
	front := testenv.FreeAddr(t)
	config, err := balancer.Nginx(balancer.ConfigFile{
		Listen: front, Nodes: nodes, MaxConnections: 1000, PidFile: filepath.Join(t.TempDir(), "nginx.pid"),
	})
	if err != nil {
		t.Fatal(err)
	}
	testenv.Nginx(t, config, front)
	return front
}

// journalled is the action of which each run is noted, and its payload. Most take a moment; one of
// twenty runs for so long that a restart finds some of them running.
func journalled(nonce string, n int) (action string, payload history.Payload) {
	p := history.Payload{Nonce: nonce, MS: 2}
	if n%20 == 0 {
		p.MS = 2_000
	}
	return "chaos.sleep", p
}

// checkJournalled says what is wrong with the end of a journalled task.
func checkJournalled(nonce string, state task.State, result client.Result) error {
	var answer history.Result
	if state != task.Done {
		return fmt.Errorf("it is %q, want done", state)
	}
	if err := result.Data(&answer); err != nil {
		return err
	}
	if answer.Hash != history.Hash(nonce) {
		return fmt.Errorf("its result is %+v, want that of %q", answer, nonce)
	}
	return nil
}

// libraryCaller asks through the package client, durably and directly in turn.
func libraryCaller(t *testing.T, c *client.Client, name string) caller {
	return func(n int) error {
		text := name + strconv.Itoa(n)
		if n%2 == 1 {
			return upperDirectly(t, c, text)
		}
		action, payload := journalled(text, n)
		final, err := c.EnqueueWait(t.Context(), action, payload, client.EnqueueOptions{Key: text}, nil)
		if err != nil {
			return fmt.Errorf("durably: %w", err)
		}
		return checkJournalled(text, final.State, final.Result)
	}
}

// runsIn reads the journal: how many tasks were run, and which of them more than once.
func runsIn(t *testing.T, journal string) (tasks int, twice map[string][]history.Execution) {
	t.Helper()
	file, err := os.Open(journal)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	runs := map[string][]history.Execution{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var run history.Execution
		if err := json.Unmarshal(lines.Bytes(), &run); err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		if run.How == history.Start {
			runs[run.Task] = append(runs[run.Task], run)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	tasks = len(runs)
	for id, list := range runs {
		if len(list) < 2 {
			delete(runs, id)
		}
	}
	return tasks, runs
}
