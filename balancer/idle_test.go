package balancer_test

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/testenv"
)

// TestFiveThousandIdleConnectionsTakeTwoDescriptorsEach counts in a balancer that
// is a process of its own: every connection has been used, some heavily, and none
// has kept more than its two sockets.
func TestFiveThousandIdleConnectionsTakeTwoDescriptorsEach(t *testing.T) {
	t.Parallel()
	if _, err := os.ReadDir("/proc/self/fd"); err != nil {
		t.Skipf("descriptors cannot be counted here: %v", err)
	}
	testenv.NeedTime(t, 5*time.Second)
	const connections, besides = 5000, 200
	nodes := launch(t, 1, "--drain-delay", "0s")
	addr := testenv.FreeAddr(t)
	p := testenv.Start(t, testenv.Posta(t), "balancer", "run", "--listen", addr, "--node", nodes.addrs[0])
	testenv.Eventually(t, patience, testenv.Accepts(addr))
	memoryBefore := resident(t, p.Pid())

	idle := make([]*line, connections)
	for i := range idle {
		idle[i] = connect(t, addr)
		idle[i].must(t, `{"id":1,"op":"ping"}`, pong)
	}
	memory := resident(t, p.Pid()) - memoryBefore
	payload := fmt.Sprintf("%q", blob(1_000_000))
	var busy sync.WaitGroup
	for _, l := range idle[:16] {
		if err := l.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		busy.Go(func() {
			reply, err := l.ask(`{"id":1,"action":"echo","payload":` + payload + `}`)
			if err != nil || len(reply) < len(payload) {
				t.Errorf("a large payload got %d bytes, %v", len(reply), err)
			}
		})
	}
	busy.Wait()

	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	if most := 2*connections + besides; len(open) > most {
		t.Errorf("%d descriptors are open, want at most %d", len(open), most)
	}
	t.Logf("%d connections: %d descriptors, %d bytes of memory each", connections, len(open), memory/connections)
	if each := memory / connections; each > 16<<10 {
		t.Errorf("an idle connection costs %d bytes of memory in the balancer", each)
	}
}

// resident gives the resident memory of a process, in bytes.
func resident(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	var size, pages int
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}
