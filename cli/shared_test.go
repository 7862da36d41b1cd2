package cli

import (
	"fmt"
	"testing"

	"github.com/posta-tasks/posta/internal/testenv"
)

// TestNodesShareADatabase has two nodes on one PostgreSQL. One is killed under load, and the other
// one ends what both have acknowledged: what ran on the dead node when its leases have run out.
func TestNodesShareADatabase(t *testing.T) {
	t.Parallel()
	db := testenv.StartPostgres(t)
	args := []string{"--store", db.URL(), "--log-level", "error", "--drain-delay", "0"}
	dying, living := testenv.FreeAddr(t), testenv.FreeAddr(t)
	first := testenv.Node(t, dying, args...)
	testenv.Node(t, living, args...)

	c := dialSaid(t, living)
	sleeper := dialSaid(t, dying).ask(t, `{"op":"enqueue","action":"sleep","payload":2}`).Task
	results, dyings, livings := make(chan map[string]int), newAcks(), newAcks()
	go func() { results <- enqueueUntilCut(dying, 1_000_000, dyings) }()
	go func() { results <- enqueueUntilCut(living, 2_000_000, livings) }()
	dyings.await(t, 200)
	livings.await(t, 200)
	first.Kill(t)
	acknowledged := map[string]int{}
	for range 2 {
		for id, number := range <-results {
			acknowledged[id] = number
		}
	}
	testenv.Eventually(t, patience, func() error {
		queues := c.ask(t, `{"op":"queues"}`).Result.Queues
		if len(queues) == 1 && queues[0].Scheduled+queues[0].Queued+queues[0].Running > 0 {
			return fmt.Errorf("not drained: %+v", queues)
		}
		return nil
	})
	for id, number := range acknowledged {
		task := c.ask(t, `{"op":"get","task":"`+id+`"}`)
		if task.Status != "done" || task.Result.Data != fmt.Sprintf("X%d", number) || !c.endedOnce(t, id) {
			t.Fatalf("task %s of %d: %+v", id, number, task)
		}
	}
	if slept := c.ask(t, `{"op":"get","task":"`+sleeper+`"}`); slept.Status != "done" {
		t.Errorf("the task that ran when its node died: %+v", slept)
	}
	t.Logf("%d acknowledged", len(acknowledged))
}

// TestAWaitOnAnotherNodeGetsTheResultOfATaskThatIsHardlyKept waits where the task does not run.
func TestAWaitOnAnotherNodeGetsTheResultOfATaskThatIsHardlyKept(t *testing.T) {
	t.Parallel()
	db := testenv.StartPostgres(t)
	args := []string{"--store", db.URL(), "--log-level", "error", "--drain-delay", "0"}
	works, waits := testenv.FreeAddr(t), testenv.FreeAddr(t)
	testenv.Node(t, works, append([]string{"--queues", "work"}, args...)...)
	testenv.Node(t, waits, append([]string{"--queues", "other"}, args...)...)
	c := dialSaid(t, waits)
	for range 5 {
		id := c.ask(t, `{"op":"enqueue","action":"upper","payload":"hola","queue":"work","keep":0.05}`).Task
		if got := c.ask(t, `{"op":"wait","task":"`+id+`"}`); got.Status != "done" || got.Result.Data != "HOLA" {
			t.Errorf("%+v", got)
		}
	}
}
