package cluster_test

import (
	"errors"
	"os/exec"
	"testing"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/internal/pgproxy"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/task"
)

// TestATaskWhoseAcceptLostItsAnswerIsThereOnce cuts a node's connection to PostgreSQL when tasks have
// been stored, before the node has the answer: once, and then again when it asks what became of it. A task that the
// same statement started runs when that lease has ended.
func TestATaskWhoseAcceptLostItsAnswerIsThereOnce(t *testing.T) {
	t.Parallel()
	db := testenv.StartPostgres(t)
	proxy, addr := pgproxy.New(t, db.Addr()), testenv.FreeAddr(t)
	command := exec.Command(testenv.Posta(t), "node", "--listen", addr, "--drain-delay", "0s", "--log-level", "warn")
	command.Env = append(command.Environ(), "POSTA_STORE="+proxy.Through(db.URL()))
	testenv.StartCommand(t, command)
	testenv.Eventually(t, clusterPatience, testenv.Accepts(addr))
	c := clientOf(t, addr)
	const accepting = "made AS (INSERT INTO tasks" // in the statement that stores tasks
	ids := map[string]bool{}
	// The first task creates its queue: until then, the statement stores nothing and the node sends it again.
	for losses, code := range []task.Code{"", "", task.UnknownOutcome} {
		proxy.Lose(pgproxy.Answer, accepting, losses)
		key := client.EnqueueOptions{Key: string(rune('a' + losses))}
		id := ""
		accepted, err := c.Enqueue(t.Context(), "upper", "hola", key)
		var refused *task.Error
		switch {
		case errors.As(err, &refused) && refused.Code == code:
			id = refused.Task
		case err != nil || code != "" || accepted.Duplicate:
			t.Fatalf("%d answers lost: %+v, %v; want %q", losses, accepted, err, code)
		default:
			id = accepted.Task
		}
		if proxy.Remaining() > 0 || id == "" {
			t.Fatalf("%d answers lost, %d of them still to be: the task is %q", losses, proxy.Remaining(), id)
		}
		ids[id] = true
		if done, err := waited(t, c, id); err != nil || done.State != task.Done {
			t.Errorf("%d answers lost: the task is %q, %v", losses, done.State, err)
		}
		if again, err := c.Enqueue(t.Context(), "upper", "hola", key); err != nil || again.Task != id || !again.Duplicate {
			t.Errorf("%d answers lost: by its key it is %+v, %v, want %s again", losses, again, err, id)
		}
	}
	list, err := c.List(t.Context(), client.Query{})
	if err != nil || len(list.Tasks) != len(ids) {
		t.Errorf("there are %d tasks, want %d (%v)", len(list.Tasks), len(ids), err)
	}
}
