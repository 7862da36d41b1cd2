package cli

import (
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/testenv"
)

// loaded is how many tasks are accepted before the backup below begins.
const loaded = 500

// TestABackupOfASystemUnderLoadHasWhatWasAcknowledgedBeforeIt copies the data of a posta up
// whose clients do not stop, starts a node on the copy, and asks it for each task that was
// acknowledged before the copy was begun.
func TestABackupOfASystemUnderLoadHasWhatWasAcknowledgedBeforeIt(t *testing.T) {
	t.Parallel()
	testenv.NeedTime(t, 10*time.Second)
	dir, addr := t.TempDir(), testenv.FreeAddr(t)
	posta := testenv.Posta(t)
	up := testenv.Start(t, posta, "up", "--data", filepath.Join(dir, "data"), "--listen", addr,
		"--nodes", "127.0.0.1:0,127.0.0.1:0", "--log-level", "error")
	testenv.Eventually(t, patience, testenv.Accepts(addr))
	l := &endlessLoad{enough: make(chan struct{}), stop: make(chan struct{})}
	for i := range 4 {
		c := dialSaid(t, addr)
		l.clients.Go(func() { l.run(t, c, i) })
	}
	select {
	case <-l.enough:
	case <-time.After(patience):
		t.Fatalf("only %d tasks were accepted", len(l.seen()))
	}
	before := l.seen()
	copied := filepath.Join(dir, "copy")
	if out, err := exec.CommandContext(t.Context(), posta, "backup", "--data", filepath.Join(dir, "data"), copied).CombinedOutput(); err != nil {
		t.Errorf("the backup failed: %v\n%s", err, out)
	}
	close(l.stop)
	l.clients.Wait()
	up.Kill(t)
	if t.Failed() {
		return
	}
	addr = testenv.FreeAddr(t)
	testenv.Node(t, addr, "--store", "sqlite://"+filepath.Join(copied, "posta.db"), "--blobs", "file://"+filepath.Join(copied, "blobs"),
		"--drain-delay", "0", "--log-level", "error")
	c := dialSaid(t, addr)
	for id, number := range before {
		if got := c.ask(t, `{"op":"wait","task":"`+id+`"}`); got.Status != "done" || got.Result.Data != fmt.Sprintf("X%d", number) {
			t.Fatalf("task %s of %d is %+v in the copy", id, number, got)
		}
	}
	t.Logf("%d tasks were acknowledged before the backup, %d in all", len(before), len(l.seen()))
}

// endlessLoad accepts tasks until it is stopped.
type endlessLoad struct {
	clients sync.WaitGroup
	enough  chan struct{} // closed when there are loaded tasks
	stop    chan struct{}

	mu           sync.Mutex     // guards acknowledged
	acknowledged map[string]int // by task, the number that was sent
}

func (l *endlessLoad) run(t *testing.T, c *saidConn, client int) {
	for number := client * 1_000_000; ; number++ {
		select {
		case <-l.stop:
			return
		default:
		}
		reply := c.ask(t, fmt.Sprintf(`{"op":"enqueue","action":"upper","payload":"x%d"}`, number))
		if reply.Status != "queued" {
			t.Errorf("task %d is answered %+v", number, reply)
			return
		}
		l.note(reply.Task, number)
	}
}

func (l *endlessLoad) note(id string, number int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.acknowledged == nil {
		l.acknowledged = map[string]int{}
	}
	l.acknowledged[id] = number
	if len(l.acknowledged) == loaded {
		close(l.enough)
	}
}

// seen returns what is acknowledged by now.
func (l *endlessLoad) seen() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.acknowledged)
}
