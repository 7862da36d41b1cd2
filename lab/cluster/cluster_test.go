package cluster_test

import (
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/posta-tasks/posta/balancer"
	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/task"
)

// clusterPatience bounds what should happen within seconds, on a machine that is ten times slower.
const clusterPatience = 2 * time.Minute

// cluster is three nodes that share real servers, behind HAProxy.
type cluster struct {
	life   *testing.T // what is started by a step outlives it
	db     *testenv.Postgres
	rabbit *testenv.RabbitMQServer
	s3     *testenv.S3Server
	nodes  [3]*clusterNode
	client *client.Client // through the balancer
}

// clusterNode is a process that comes back on its address.
type clusterNode struct {
	name    string
	addr    string
	program string   // "": posta, built from this tree
	command []string // after the name of the program
	environ []string
	process *testenv.Process
}

// newClusterNode returns a node that is not started yet, with arguments of its own.
func newClusterNode(t *testing.T, name string, args ...string) *clusterNode {
	n := &clusterNode{name: name, addr: testenv.FreeAddr(t)}
	n.command = append([]string{"node", "--listen", n.addr, "--name", name, "--log-level", "warn"}, args...)
	return n
}

// start starts the process and waits until it is ready.
func (n *clusterNode) start(t *testing.T) {
	t.Helper()
	program := n.program
	if program == "" {
		program = testenv.Posta(t)
	}
	command := exec.Command(program, n.command...)
	command.Env = append(command.Environ(), n.environ...)
	n.process = testenv.StartCommand(t, command)
	testenv.Eventually(t, clusterPatience, n.ready)
}

// ready is an Eventually check: /readyz says 200.
func (n *clusterNode) ready() error {
	asking := http.Client{Timeout: 10 * time.Second}
	reply, err := asking.Get("http://" + n.addr + "/readyz")
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusOK {
		return fmt.Errorf("/readyz of %s: %s", n.name, reply.Status)
	}
	return nil
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{life: t, db: testenv.StartPostgres(t), rabbit: testenv.RabbitMQ(t), s3: testenv.S3(t)}
	c.s3.Bucket(t, "bodies")
	var addrs []string
	for i := range c.nodes {
		n := newClusterNode(t, fmt.Sprintf("node-%d", i+1), "--slots", "8", "--drain-delay", "3s",
			"--store", c.db.URL(), "--broker", c.rabbit.URL, "--blobs", "s3://bodies?endpoint="+c.s3.Endpoint)
		n.environ = []string{"AWS_ACCESS_KEY_ID=" + c.s3.Access, "AWS_SECRET_ACCESS_KEY=" + c.s3.Secret}
		c.nodes[i] = n
		addrs = append(addrs, n.addr)
		n.start(t)
	}
	c.client = clientOf(t, frontOf(t, addrs))
	return c
}

// frontOf starts HAProxy before nodes, and returns its address.
func frontOf(t *testing.T, nodes []string) string {
	t.Helper()
	front := testenv.FreeAddr(t)
	config, err := balancer.HAProxy(balancer.ConfigFile{Listen: front, Nodes: nodes, MaxConnections: 1000})
	if err != nil {
		t.Fatal(err)
	}
	testenv.HAProxy(t, config, front)
	return front
}

func clientOf(t *testing.T, addr string) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Addr: addr, ConnectWait: clusterPatience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestThreeNodesShareRealServers takes the servers of a cluster away, one after the other, and its
// nodes too, and looks at what is promised of each: docs/operations.md.
func TestThreeNodesShareRealServers(t *testing.T) {
	t.Parallel()
	testenv.NeedTime(t, time.Minute)
	testenv.Need(t, "haproxy", "versitygw", "rabbitmqctl")
	c := startCluster(t)
	for _, step := range []struct {
		name string
		test func(*testing.T, *cluster)
	}{
		{"tasks of one node run on all, and waiters on another node are notified", runEverywhere},
		{"the tasks of a killed node run again", loseANode},
		{"RabbitMQ is killed and wiped", loseTheBroker},
		{"RabbitMQ does not answer, or takes nothing for want of memory", blockTheBroker},
		{"PostgreSQL is killed", loseTheStore},
		{"PostgreSQL does not answer", blockTheStore},
		{"S3 is away", loseTheBlobs},
	} {
		began := time.Now()
		if !t.Run(step.name, func(t *testing.T) { step.test(t, c) }) {
			return // what follows would begin in a cluster that is not whole
		}
		t.Logf("%v: %s", time.Since(began).Round(10*time.Millisecond), step.name)
	}
}

func runEverywhere(t *testing.T, c *cluster) {
	first := clientOf(t, c.nodes[0].addr)
	ran := map[string]int{}
	testenv.Eventually(t, clusterPatience, func() error {
		var ids []string
		for range 48 {
			ids = append(ids, enqueued(t, first, "sleep", 0.05, client.EnqueueOptions{}))
		}
		for _, id := range ids {
			record, err := first.Wait(t.Context(), id)
			if err != nil || record.State != task.Done {
				t.Fatalf("%+v, %v", record, err)
			}
			ran[record.Node]++
		}
		if len(ran) < len(c.nodes) {
			return fmt.Errorf("tasks ran on %v only", ran)
		}
		return nil
	})
	t.Logf("tasks that were enqueued on node-1 and ran on: %v", ran)
}

func loseANode(t *testing.T, c *cluster) {
	dying, first := c.nodes[2], clientOf(t, c.nodes[0].addr)
	var ids, held []string
	testenv.Eventually(t, clusterPatience, func() error {
		for range 40 {
			ids = append(ids, enqueued(t, first, "sleep", 1, client.EnqueueOptions{}))
		}
		dying.process.Signal(syscall.SIGSTOP) // so that none of them ends before the kill
		for _, id := range ids {
			if r := recordOf(t, first, id); r.State == task.Running && r.Node == dying.name {
				held = append(held, id)
			}
		}
		if len(held) < 2 {
			held = nil
			dying.process.Signal(syscall.SIGCONT)
			return fmt.Errorf("nothing runs on %s yet", dying.name)
		}
		return nil
	})
	dying.process.Kill(t)
	killed := time.Now()
	var again []time.Duration
	for _, id := range held {
		record, err := c.client.Wait(t.Context(), id)
		if err != nil || record.State != task.Done {
			t.Fatalf("%+v, %v", record, err)
		}
		if record.Attempt > 1 {
			again = append(again, record.StartedAt.Sub(killed).Round(time.Millisecond))
		}
	}
	slices.Sort(again)
	if len(again) == 0 {
		t.Errorf("none of the %d tasks that ran on the killed node ran again", len(held))
	}
	t.Logf("%d tasks ran on the killed node; they ran again after %v", len(held), again)
	dying.start(c.life)
	for _, id := range ids {
		if record, err := c.client.Wait(t.Context(), id); err != nil || record.State != task.Done {
			t.Fatalf("%+v, %v", record, err)
		}
	}
}

func loseTheBroker(t *testing.T, c *cluster) {
	load := startLoad(t, c.client)
	load.await(t, 100)
	c.rabbit.Kill(t)
	gone := time.Now()
	load.await(t, 500)
	t.Logf("without RabbitMQ: 500 accepted, run and notified in %v", time.Since(gone).Round(time.Millisecond))
	for _, n := range c.nodes {
		if err := n.ready(); err != nil {
			t.Error(err)
		}
	}
	c.rabbit.Wipe(t)
	c.rabbit.Again(c.life)
	back := time.Now()
	testenv.Eventually(t, clusterPatience, func() error {
		if queues := c.rabbit.Control(t, "-q", "list_queues", "consumers"); !consumed(queues) {
			return fmt.Errorf("nobody consumes: %q", queues)
		}
		return nil
	})
	t.Logf("RabbitMQ is in use again after %v", time.Since(back).Round(time.Millisecond))
	load.await(t, 500)
	load.end(t)
}

func blockTheBroker(t *testing.T, c *cluster) {
	load := startLoad(t, c.client)
	load.await(t, 100)
	resume := c.rabbit.Pause()
	paused := time.Now()
	load.await(t, 500)
	t.Logf("RabbitMQ is paused: 500 accepted, run and notified in %v", time.Since(paused).Round(time.Millisecond))
	resume()
	c.rabbit.Control(t, "-q", "set_vm_memory_high_watermark", "0.0000001")
	alarmed := time.Now()
	load.await(t, 500)
	t.Logf("RabbitMQ has a memory alarm: 500 accepted, run and notified in %v", time.Since(alarmed).Round(time.Millisecond))
	c.rabbit.Control(t, "-q", "set_vm_memory_high_watermark", "0.4")
	load.await(t, 500)
	load.end(t)
}

func loseTheStore(t *testing.T, c *cluster) {
	running := enqueued(t, c.client, "sleep", 2, client.EnqueueOptions{})
	testenv.Eventually(t, clusterPatience, func() error {
		if r := recordOf(t, c.client, running); r.State != task.Running {
			return fmt.Errorf("%+v does not run", r)
		}
		return nil
	})
	gone := time.Now()
	c.db.Kill()
	c.refuses(t, task.Unavailable, task.UnknownOutcome) // a connection that was open gave no answer
	c.refuses(t, task.Unavailable)
	if r, err := c.client.Run(t.Context(), "upper", "hola"); err != nil {
		t.Errorf("the direct path, while PostgreSQL is away: %v, %v", r, err)
	}
	c.db.Start()
	back := time.Now()
	var id string
	testenv.Eventually(t, clusterPatience, func() error {
		accepted, err := c.client.Enqueue(t.Context(), "upper", "x", client.EnqueueOptions{Key: "while-away"})
		id = accepted.Task
		return err
	})
	taken := time.Since(back)
	for _, id := range []string{id, running} {
		if record, err := c.client.Wait(t.Context(), id); err != nil || record.State != task.Done {
			t.Errorf("%+v, %v", record, err)
		}
	}
	t.Logf("PostgreSQL is back: accepted after %v, all done after %v", taken.Round(time.Millisecond), time.Since(back).Round(time.Millisecond))
	if r := recordOf(t, c.client, running); r.Attempt != 1 && taken+back.Sub(gone) < task.LeaseTime {
		t.Errorf("the task that ran when PostgreSQL was killed needed %d attempts", r.Attempt)
	}
}

func blockTheStore(t *testing.T, c *cluster) {
	c.db.Pause()
	for range 3 {
		c.refuses(t, task.Unavailable, task.UnknownOutcome)
	}
	c.db.Resume()
	back := time.Now()
	testenv.Eventually(t, clusterPatience, func() error {
		_, err := c.client.Enqueue(t.Context(), "upper", "x", client.EnqueueOptions{Key: "while-away"})
		return err
	})
	t.Logf("PostgreSQL answers again: accepted after %v", time.Since(back).Round(time.Millisecond))
}

// refuses asks for a task while PostgreSQL is away, and wants one of these codes.
func (c *cluster) refuses(t *testing.T, codes ...task.Code) {
	t.Helper()
	asked := time.Now()
	_, err := c.client.Enqueue(t.Context(), "upper", "x", client.EnqueueOptions{Key: "while-away"})
	t.Logf("PostgreSQL is away: refused after %v: %v", time.Since(asked).Round(time.Millisecond), err)
	if !slices.Contains(codes, task.CodeOf(err)) {
		t.Errorf("an accept while PostgreSQL is away: %v, want %v", err, codes)
	}
}

func loseTheBlobs(t *testing.T, c *cluster) {
	large := fmt.Sprintf("%0100000d", 7)
	if got := ranOf(t, c.client, large); got != large {
		t.Errorf("a large body came back as %d bytes", len(got))
	}
	c.s3.Kill(t)
	asked := time.Now()
	if got := ranOf(t, c.client, "hola"); got != "HOLA" {
		t.Errorf("a small task while S3 is away: %q", got)
	}
	t.Logf("S3 is away: a small task is done after %v", time.Since(asked).Round(time.Millisecond))
	asked = time.Now()
	_, err := c.client.Enqueue(t.Context(), "upper", large, client.EnqueueOptions{})
	if task.CodeOf(err) != task.Unavailable {
		t.Errorf("a large task while S3 is away: %v, want unavailable", err)
	}
	t.Logf("S3 is away: a large task is refused after %v", time.Since(asked).Round(time.Millisecond))
	c.s3.Again(c.life)
	var id string
	testenv.Eventually(t, clusterPatience, func() error {
		accepted, err := c.client.Enqueue(t.Context(), "upper", large, client.EnqueueOptions{})
		id = accepted.Task
		return err
	})
	// The server ends before the nodes, which could not keep a large result then.
	if record, err := c.client.Wait(t.Context(), id); err != nil || record.State != task.Done {
		t.Errorf("a large task, when S3 is back: %+v, %v", record, err)
	}
}

// consumed says whether a list of queues has one with a consumer.
func consumed(list string) bool {
	for _, c := range list {
		if c >= '1' && c <= '9' {
			return true
		}
	}
	return false
}

func enqueued(t *testing.T, c *client.Client, action string, payload any, o client.EnqueueOptions) string {
	t.Helper()
	accepted, err := c.Enqueue(t.Context(), action, payload, o)
	if err != nil {
		t.Fatal(err)
	}
	return accepted.Task
}

func recordOf(t *testing.T, c *client.Client, id string) client.Record {
	t.Helper()
	record, err := c.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return record
}

// ranOf has a text made upper case by a durable task.
func ranOf(t *testing.T, c *client.Client, text string) (upper string) {
	t.Helper()
	record, err := c.Wait(t.Context(), enqueued(t, c, "upper", text, client.EnqueueOptions{}))
	if err == nil {
		err = record.Result.Data(&upper)
	}
	if err != nil {
		t.Fatal(err)
	}
	return upper
}
