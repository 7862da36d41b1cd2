package cluster_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/task"
)

// firstOfTheCluster is the subject of the first commit whose nodes shared a database and a broker. What it
// wrote and said must be understood for as long as one release runs beside the next one.
const firstOfTheCluster = "posta node --broker amqp://: ids and events travel over RabbitMQ"

// sideBySide is two nodes of an early version and two of this tree, on the same servers. Who works which
// queue makes sure that a task comes to the version that it shall come to.
type sideBySide struct {
	rabbit *testenv.RabbitMQServer
	nodes  map[string]*clusterNode
	common []string // arguments
	early  string   // the program
}

// TestTwoVersionsWorkSideBySide upgrades a cluster, whose nodes were built from the first commit that could
// be one, and goes back: each version works what the other one has accepted, is heard and stopped across
// nodes, and takes over what ran on a node of the other one that was killed.
func TestTwoVersionsWorkSideBySide(t *testing.T) {
	t.Parallel()
	testenv.NeedTime(t, time.Minute)
	testenv.Need(t, "rabbitmqctl")
	early := testenv.PostaOf(t, firstOfTheCluster)
	db, rabbit := testenv.StartPostgres(t), testenv.RabbitMQ(t)
	v := &sideBySide{rabbit: rabbit, early: early, nodes: map[string]*clusterNode{}, common: []string{
		"--slots", "8", "--drain-delay", "0s", "--store", db.URL(), "--broker", rabbit.URL, "--blobs", "file://" + t.TempDir(),
	}}
	v.start(t, "early-1", early, "to-early;from-early")
	v.start(t, "early-2", early, "to-early;from-new")
	waiting := v.acceptBefore(t)
	v.start(t, "new-1", "", "to-new;from-new")
	v.start(t, "new-2", "", "to-new;from-early")
	for name, queue := range map[string]string{"early-1": "to-new", "new-1": "to-early"} {
		c := clientOf(t, v.nodes[name].addr)
		v.notifyAcross(t, c, name, queue)
		v.stopAcross(t, c, name, queue)
	}
	v.finish(t, waiting)
	v.agree(t)
	v.killOneOfEach(t)
	v.leaveQuietly(t)
}

// start starts a node that works some queues.
func (v *sideBySide) start(t *testing.T, name, program, queues string) {
	t.Helper()
	n := newClusterNode(t, name, append([]string{"--queues", queues}, v.common...)...)
	n.program = program
	v.nodes[name] = n
	n.start(t)
}

// isOf reports whether a node is of the version that a queue is for.
func isOf(queue, node string) bool {
	version, _, _ := strings.Cut(node, "-")
	return strings.HasSuffix(queue, version)
}

// acceptBefore has the early version accept tasks that nobody works yet: they are stored in its way, and
// wait when a node of this tree starts, and migrates.
func (v *sideBySide) acceptBefore(t *testing.T) (ids []string) {
	t.Helper()
	c := clientOf(t, v.nodes["early-1"].addr)
	for i := range 20 {
		o := client.EnqueueOptions{Queue: "to-new", Priority: []string{"low", "normal", "high"}[i%3], Meta: map[string]string{"n": fmt.Sprint(i)}}
		if i%2 == 0 {
			o.Delay = time.Second
		}
		ids = append(ids, enqueued(t, c, "upper", "before", o))
	}
	return append(ids, enqueued(t, c, "sleep", 1, client.EnqueueOptions{Queue: "to-early"}))
}

// finish waits at a node of each version until tasks are done.
func (v *sideBySide) finish(t *testing.T, ids []string) {
	t.Helper()
	for _, name := range []string{"early-1", "new-1"} {
		c := clientOf(t, v.nodes[name].addr)
		for _, id := range ids {
			record, err := c.Wait(t.Context(), id)
			if err != nil || record.State != task.Done || !isOf(record.Queue, record.Node) {
				t.Fatalf("at %s: %+v, %v", name, record, err)
			}
		}
	}
}

// notifyAcross has tasks done by the other version, small ones and one with a large body, and is notified.
func (v *sideBySide) notifyAcross(t *testing.T, c *client.Client, name, queue string) {
	t.Helper()
	var took []time.Duration
	for i := range 20 {
		text := fmt.Sprintf("%s-%d", name, i)
		if i == 0 {
			text = strings.Repeat("x", 100_000)
		}
		asked := time.Now()
		final, err := c.EnqueueWait(t.Context(), "upper", text, client.EnqueueOptions{Queue: queue, Key: fmt.Sprintf("%s-%d", name, i)}, nil)
		if err != nil || final.State != task.Done {
			t.Fatalf("a task from %s for %s: %+v, %v", name, queue, final, err)
		}
		took = append(took, time.Since(asked))
		if err := isUpper(text, final.Result); err != nil {
			t.Error(err)
		}
		if record := recordOf(t, c, final.Task); !isOf(queue, record.Node) || record.Attempt != 1 {
			t.Errorf("a task from %s for %s: %+v", name, queue, record)
		}
	}
	t.Logf("asked at %s, done by the other version and notified: %s", name, spread(took))
}

// stopAcross watches a task that the other version runs, and cancels it.
func (v *sideBySide) stopAcross(t *testing.T, c *client.Client, name, queue string) {
	t.Helper()
	id := enqueued(t, c, "sleep", 600, client.EnqueueOptions{Queue: queue, Timeout: time.Hour})
	var seen []task.State
	for event, err := range c.Watch(t.Context(), id, 0) {
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, event.State)
		if event.State == task.Running && len(seen) <= 2 {
			if cancelling, err := c.Cancel(t.Context(), id); err != nil || !cancelling {
				t.Fatalf("cancel at %s of what runs elsewhere: %v, %v", name, cancelling, err)
			}
		}
	}
	if record := recordOf(t, c, id); record.State != task.Cancelled || !isOf(queue, record.Node) {
		t.Errorf("cancelled at %s: %+v, seen %v", name, record, seen)
	}
}

// agree compares what both versions say of keys, of pauses and of each other.
func (v *sideBySide) agree(t *testing.T) {
	t.Helper()
	early, fresh := clientOf(t, v.nodes["early-1"].addr), clientOf(t, v.nodes["new-1"].addr)
	o := client.EnqueueOptions{Queue: "to-new", Key: "early-1-3"}
	first, err := early.Enqueue(t.Context(), "upper", "early-1-3", o)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := fresh.Enqueue(t.Context(), "upper", "early-1-3", o); err != nil || !second.Duplicate || second.Task != first.Task {
		t.Errorf("the key of %+v at the other version: %+v, %v", first, second, err)
	}
	for _, end := range []struct {
		here, there *client.Client
		queue       string
	}{{early, fresh, "to-new"}, {fresh, early, "to-early"}} {
		if err := end.here.Pause(t.Context(), end.queue); err != nil {
			t.Fatal(err)
		}
		id := enqueued(t, end.there, "upper", "x", client.EnqueueOptions{Queue: end.queue})
		if record := recordOf(t, end.here, id); record.State != task.Queued {
			t.Errorf("in a paused queue: %+v", record)
		}
		if err := end.there.Resume(t.Context(), end.queue); err != nil {
			t.Fatal(err)
		}
		if record, err := end.here.Wait(t.Context(), id); err != nil || record.State != task.Done {
			t.Errorf("after the pause: %+v, %v", record, err)
		}
	}
	testenv.Eventually(t, clusterPatience, func() error { // the server counts them now and then
		queues := v.rabbit.Control(t, "-q", "list_queues", "name", "consumers")
		for _, queue := range []string{"to-early", "to-new"} {
			if lane := "posta.ids." + queue + ".normal.upper"; !hasLine(queues, lane, "2") {
				return fmt.Errorf("the lane %s has not two consumers:\n%s", lane, queues)
			}
		}
		return nil
	})
}

// hasLine reports whether a table has a line of these fields.
func hasLine(table string, fields ...string) bool {
	for line := range strings.Lines(table) {
		if strings.Join(strings.Fields(line), " ") == strings.Join(fields, " ") {
			return true
		}
	}
	return false
}

// killOneOfEach kills a node of each version, and has a node of the other one take over what it ran.
func (v *sideBySide) killOneOfEach(t *testing.T) {
	t.Helper()
	held := map[string]string{}
	for queue, name := range map[string]string{"from-early": "early-1", "from-new": "new-1"} {
		other := map[string]string{"early-1": "new-2", "new-1": "early-2"}[name]
		c := clientOf(t, v.nodes[other].addr)
		// The other one would take it as well. It is there, and has had its chance when it is back.
		v.nodes[other].process.Signal(syscall.SIGSTOP)
		id := enqueued(t, clientOf(t, v.nodes[name].addr), "sleep", 10, client.EnqueueOptions{Queue: queue})
		awaitRunning(t, clientOf(t, v.nodes[name].addr), []string{id}, name)
		v.nodes[name].process.Kill(t)
		v.nodes[other].process.Signal(syscall.SIGCONT)
		held[id] = other
		if record, err := c.Get(t.Context(), id); err != nil || record.Node != name {
			t.Errorf("what %s has begun is %+v, %v", name, record, err)
		}
	}
	for id, other := range held {
		record, err := clientOf(t, v.nodes[other].addr).Wait(t.Context(), id)
		if err != nil || record.State != task.Done || record.Node != other || record.Attempt != 2 {
			t.Errorf("what a killed node ran, at %s: %+v, %v", other, record, err)
		}
	}
	v.start(t, "early-1", v.early, "to-early;from-early") // it starts in a schema that this tree has migrated
	c := clientOf(t, v.nodes["early-1"].addr)
	if record, err := c.Wait(t.Context(), enqueued(t, c, "upper", "x", client.EnqueueOptions{Queue: "to-early"})); err != nil || record.State != task.Done {
		t.Errorf("after the way back: %+v, %v", record, err)
	}
}

// leaveQuietly ends the nodes, which shall have understood each other.
func (v *sideBySide) leaveQuietly(t *testing.T) {
	t.Helper()
	for _, name := range []string{"early-1", "early-2", "new-2"} {
		n := v.nodes[name]
		n.process.Signal(syscall.SIGTERM)
		if code := n.process.Wait(t, clusterPatience); code != 0 {
			t.Errorf("%s ended with %d after SIGTERM", name, code)
		}
		if strings.Contains(n.process.Output(), "is dropped") {
			t.Errorf("%s did not understand a message of the others", name)
		}
	}
}
