package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/testenv"
)

// killed is how often the process dies in the test below.
const killed = 4

// said is a line of a reply, as far as this test reads it.
type said struct {
	ID     int
	Status string
	Task   string
	State  string
	Seq    int
	Result struct {
		Data   string
		Queues []struct{ Scheduled, Queued, Running int64 }
	}
}

// TestNothingAcknowledgedIsLostWhenTheProcessIsKilled kills a node under load with SIGKILL, at
// random moments of its work, and counts: each task that was answered queued must be done in the end, with
// its own result, and must have ended once.
func TestNothingAcknowledgedIsLostWhenTheProcessIsKilled(t *testing.T) {
	t.Parallel()
	testenv.NeedTime(t, 20*time.Second) // what ran at a kill is waited for
	addr := testenv.FreeAddr(t)
	args := []string{"--store", "sqlite://" + filepath.Join(t.TempDir(), "posta.db"), "--log-level", "error", "--drain-delay", "0"}
	acknowledged := map[string]int{} // by task, the number that was sent
	for round := range killed {
		p := testenv.Node(t, addr, args...)
		results, count := make(chan map[string]int, 3), newAcks()
		for i := range cap(results) {
			go func() { results <- enqueueUntilCut(addr, (round*10+i)*1_000_000, count) }()
		}
		count.await(t, 50+rand.IntN(500))
		p.Kill(t)
		for range cap(results) {
			for id, number := range <-results {
				acknowledged[id] = number
			}
		}
	}
	testenv.Node(t, addr, args...)
	c := dialSaid(t, addr)
	testenv.Eventually(t, patience, func() error {
		queues := c.ask(t, `{"op":"queues"}`).Result.Queues
		if len(queues) == 1 && queues[0].Scheduled+queues[0].Queued+queues[0].Running > 0 {
			return fmt.Errorf("not drained: %+v", queues)
		}
		return nil
	})
	lost, twice := 0, 0
	for id, number := range acknowledged {
		task := c.ask(t, `{"op":"get","task":"`+id+`"}`)
		if task.Status != "done" || task.Result.Data != fmt.Sprintf("X%d", number) {
			lost++
			t.Errorf("task %s of %d: %+v", id, number, task)
		}
		if !c.endedOnce(t, id) {
			twice++
			t.Errorf("task %s ended more than once", id)
		}
		if lost+twice > 5 {
			break
		}
	}
	t.Logf("%d kills, %d acknowledged, %d lost, %d with two ends", killed, len(acknowledged), lost, twice)
	if len(acknowledged) < 100 {
		t.Errorf("only %d tasks were acknowledged: the test shows nothing", len(acknowledged))
	}
}

// acks counts what several goroutines were answered.
type acks struct {
	n    atomic.Int64
	more chan struct{} // wakes await
}

func newAcks() *acks { return &acks{more: make(chan struct{}, 1)} }

func (c *acks) add() {
	c.n.Add(1)
	select {
	case c.more <- struct{}{}:
	default:
	}
}

// await waits until so many were counted.
func (c *acks) await(t *testing.T, n int) {
	t.Helper()
	tooLong := time.After(patience)
	for c.n.Load() < int64(n) {
		select {
		case <-c.more:
		case <-tooLong:
			t.Fatalf("%d tasks were acknowledged, want %d", c.n.Load(), n)
		}
	}
}

// enqueueUntilCut sends numbered tasks, fifty at a time, until the connection breaks, counts
// those that were acknowledged, and returns them.
func enqueueUntilCut(addr string, first int, count *acks) map[string]int {
	acknowledged := map[string]int{}
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return acknowledged
	}
	defer conn.Close()
	replies := bufio.NewReader(conn)
	for next := first; next-first < 3_000; next += 50 {
		var lines strings.Builder
		for number := next; number < next+50; number++ {
			fmt.Fprintf(&lines, `{"id":%d,"op":"enqueue","action":"upper","payload":"x%d"}`+"\n", number, number)
		}
		if _, err := conn.Write([]byte(lines.String())); err != nil {
			return acknowledged
		}
		for range 50 {
			line, err := replies.ReadBytes('\n')
			var reply said
			if err != nil || json.Unmarshal(line, &reply) != nil {
				return acknowledged
			}
			if reply.Status == "queued" {
				acknowledged[reply.Task] = reply.ID
				count.add()
			}
		}
	}
	return acknowledged
}

// saidConn asks one thing after the other.
type saidConn struct {
	conn    net.Conn
	replies *bufio.Reader
}

func dialSaid(t *testing.T, addr string) *saidConn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &saidConn{conn: conn, replies: bufio.NewReader(conn)}
}

func (c *saidConn) ask(t *testing.T, line string) (reply said) {
	t.Helper()
	if _, err := fmt.Fprintln(c.conn, line); err != nil {
		t.Fatal(err)
	}
	c.read(t, &reply)
	return reply
}

func (c *saidConn) read(t *testing.T, reply *said) {
	t.Helper()
	text, err := c.replies.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(text, reply)
	}
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

// endedOnce watches a finished task's history and counts its ends.
func (c *saidConn) endedOnce(t *testing.T, id string) bool {
	t.Helper()
	if _, err := fmt.Fprintf(c.conn, `{"op":"watch","task":"%s"}`+"\n", id); err != nil {
		t.Fatal(err)
	}
	for {
		var entry said
		c.read(t, &entry)
		switch entry.Status {
		case "done":
			return true // a watch ends with the first end, so a second one would be read as the next reply
		case "failed", "cancelled", "error":
			return false
		}
	}
}
