package balancer_test

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/testenv"
)

// TestAnIdleConnectionNeedsTwoDescriptors counts the descriptors of a balancer that is a
// process of its own. Every connection was used, and some sent much data; then each has only
// its two sockets.
func TestAnIdleConnectionNeedsTwoDescriptors(t *testing.T) {
	t.Parallel()
	if _, err := os.ReadDir("/proc/self/fd"); err != nil {
		t.Skipf("descriptors cannot be counted here: %v", err)
	}
	testenv.NeedTime(t, 5*time.Second)
	const connections, besides = 5000, 200
	nodes := startNodes(t, 1, "--drain-delay", "0s")
	addr := testenv.FreeAddr(t)
	p := testenv.Start(t, testenv.Posta(t), "balancer", "run", "--listen", addr, "--node", nodes.addrs[0])
	testenv.Eventually(t, patience, testenv.Accepts(addr))
	memoryBefore := resident(t, p.Pid())

	idle := make([]*line, connections)
	for i := range idle {
		idle[i] = connect(t, addr)
		idle[i].wantReply(t, `{"id":1,"op":"ping"}`, pong)
	}
	memory := resident(t, p.Pid()) - memoryBefore
	payload := fmt.Sprintf("%q", payloadOf(1_000_000))
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
		t.Errorf("an idle connection needs %d bytes of memory, want at most 16 KiB", each)
	}
}

// resident returns the resident memory of a process, in bytes.
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
