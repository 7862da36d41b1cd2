package cluster_test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/store/postgres"
	"github.com/posta-tasks/posta/task"
)

// nodeKills is the variable that says how often a node is killed; once. killedSeconds says how long the
// tasks take that are killed with it; a quarter of a second.
const (
	nodeKills     = "POSTA_NODE_KILLS"
	killedSeconds = "POSTA_NODE_KILLS_SECONDS"
)

// heldTasks is how many tasks a node runs when it is asked to end, or killed.
const heldTasks = 40

// recovery is nodes that share a database and a broker, and a look at the database's own history.
type recovery struct {
	servers []string // arguments of the nodes
	db      *testenv.Postgres
}

// TestTasksOfANodeThatEndsRunAgainSoon measures how soon: by the times in the tasks' history, which
// are the database's.
func TestTasksOfANodeThatEndsRunAgainSoon(t *testing.T) {
	t.Parallel()
	testenv.NeedTime(t, time.Minute)
	db, rabbit := testenv.StartPostgres(t), testenv.RabbitMQ(t)
	r := &recovery{db: db, servers: []string{"--store", db.URL(), "--broker", rabbit.URL, "--drain-delay", "0s", "--drain-timeout", "1s"}}
	t.Run("that are put back at the drain timeout", r.afterSIGTERM)
	t.Run("whose node was killed", r.afterSIGKILL)
}

// node starts a node with so many slots.
func (r *recovery) node(t *testing.T, name string, slots int) *clusterNode {
	t.Helper()
	n := newClusterNode(t, name, append([]string{"--slots", strconv.Itoa(slots)}, r.servers...)...)
	n.start(t)
	return n
}

// afterSIGTERM has a node end whose tasks take longer than its drain. It gives them back, and another
// node, which has room, starts them: within a second, says the promise; the log has the times.
func (r *recovery) afterSIGTERM(t *testing.T) {
	leaving := r.node(t, "leaving", heldTasks)
	ids := holdTasks(t, leaving, 600)
	staying := r.node(t, "staying", 2*heldTasks)
	c := clientOf(t, staying.addr)
	leaving.process.Signal(syscall.SIGTERM)
	awaitRunning(t, c, ids, staying.name)
	if code := leaving.process.Wait(t, clusterPatience); code != 0 {
		t.Errorf("%s ended with %d after SIGTERM", leaving.name, code)
	}
	var took []time.Duration
	for _, found := range r.histories(t, ids) {
		released, again := entryOf(t, &found, task.Queued, 1), entryOf(t, &found, task.Running, 2)
		took = append(took, again.At.Sub(released.At))
	}
	t.Logf("of %d tasks that were put back at the drain timeout, from the release to the next start: %s", len(ids), spread(took))
	if most := slices.Max(took); most > clusterPatience {
		t.Errorf("a task that was put back waited %v for its next start", most)
	}
	for _, id := range ids {
		if _, err := c.Cancel(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
}

// afterSIGKILL kills one of three nodes that are busy with many short tasks, and looks when those run
// again that ran on it. The promise is 18 s for 99 of 100: the lease of 15 s, and 3 s more.
func (r *recovery) afterSIGKILL(t *testing.T) {
	seconds := 0.25
	if text := os.Getenv(killedSeconds); text != "" {
		var err error
		if seconds, err = strconv.ParseFloat(text, 64); err != nil {
			t.Fatal(err)
		}
	}
	staying := r.node(t, "staying-1", heldTasks)
	r.node(t, "staying-2", heldTasks)
	c := clientOf(t, staying.addr)
	callers := make([]caller, 3*heldTasks)
	for i := range callers {
		callers[i] = func(int) error {
			final, err := c.EnqueueWait(t.Context(), "sleep", seconds, client.EnqueueOptions{}, nil)
			if err == nil && final.State != task.Done {
				err = fmt.Errorf("it ended as %+v", final)
			}
			return err
		}
	}
	load := startCallers(t, callers)
	dying := r.node(t, "dying", heldTasks)
	var took []time.Duration
	for range rounds(t, nodeKills) {
		took = append(took, r.killOnce(t, c, dying)...)
		dying.start(t)
	}
	load.end(t)
	t.Logf("of %d tasks of %v s whose node was killed, from the kill to the next start: %s", len(took), seconds, spread(took))
	if most := slices.Max(took); most > clusterPatience {
		t.Errorf("a task whose node was killed waited %v for its next start", most)
	}
}

// killOnce kills a node when it is busy, and returns after what time its tasks started again.
func (r *recovery) killOnce(t *testing.T, c *client.Client, dying *clusterNode) (took []time.Duration) {
	t.Helper()
	var held []string
	testenv.Eventually(t, clusterPatience, func() error {
		held = held[:0]
		dying.process.Signal(syscall.SIGSTOP) // so that none of them ends before the kill
		page, err := c.List(t.Context(), client.Query{Filter: client.Filter{State: task.Running}, Limit: 200})
		if err != nil {
			t.Fatal(err)
		}
		for i := range page.Tasks {
			if page.Tasks[i].Node == dying.name {
				held = append(held, page.Tasks[i].Task)
			}
		}
		if len(held) < heldTasks/2 {
			dying.process.Signal(syscall.SIGCONT)
			return fmt.Errorf("%s runs %d tasks", dying.name, len(held))
		}
		return nil
	})
	killed := time.Now()
	dying.process.Kill(t)
	for _, id := range held {
		if record, err := c.Wait(t.Context(), id); err != nil || record.State != task.Done {
			t.Fatalf("%+v, %v", record, err)
		}
	}
	for _, found := range r.histories(t, held) {
		if found.Attempt > 1 { // the others ended just before the kill
			took = append(took, entryOf(t, &found, task.Running, 2).At.Sub(killed))
		}
	}
	if len(took) == 0 {
		t.Fatalf("none of the %d tasks that ran on the killed node ran again", len(held))
	}
	return took
}

// holdTasks has a node, which must be the only one, run tasks in all of its slots.
func holdTasks(t *testing.T, n *clusterNode, seconds float64) (ids []string) {
	t.Helper()
	c := clientOf(t, n.addr)
	for range heldTasks {
		ids = append(ids, enqueued(t, c, "sleep", seconds, client.EnqueueOptions{Timeout: time.Hour}))
	}
	awaitRunning(t, c, ids, n.name)
	return ids
}

// awaitRunning waits until a node runs all of these.
func awaitRunning(t *testing.T, c *client.Client, ids []string, node string) {
	t.Helper()
	testenv.Eventually(t, clusterPatience, func() error {
		for _, id := range ids {
			if r := recordOf(t, c, id); r.State != task.Running || r.Node != node {
				return fmt.Errorf("%+v does not run on %s", r, node)
			}
		}
		return nil
	})
}

// histories reads tasks with their whole history from the database.
func (r *recovery) histories(t *testing.T, ids []string) []task.Task {
	t.Helper()
	s, err := postgres.Open(t.Context(), postgres.Config{URL: r.db.URL()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	found, err := s.Get(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// entryOf returns the first entry of a task's history with a state and an attempt.
func entryOf(t *testing.T, found *task.Task, state task.State, attempt int) task.Entry {
	t.Helper()
	for _, e := range found.History {
		if e.State == state && e.Attempt == attempt {
			return e
		}
	}
	t.Fatalf("the history of %s has no entry %q of attempt %d: %+v", found.ID, state, attempt, found.History)
	return task.Entry{}
}

// spread describes a distribution.
func spread(list []time.Duration) string {
	list = slices.Sorted(slices.Values(list))
	at := func(percent int) time.Duration { return list[(len(list)*percent-1)/100].Round(time.Millisecond) }
	return fmt.Sprintf("p50 %v, p99 %v, max %v", at(50), at(99), at(100))
}
