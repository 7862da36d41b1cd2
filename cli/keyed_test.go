package cli

import (
	"bufio"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/internal/testenv"
)

// TestAStreamOfTasksWithKeysOutlivesKills kills the server under a stream, twice. Each line is
// answered in the end, and there is one task for each: what was sent again found its key.
func TestAStreamOfTasksWithKeysOutlivesKills(t *testing.T) {
	t.Parallel()
	const tasks = 12_000
	posta, addr, data := testenv.Posta(t), testenv.FreeAddr(t), filepath.Join(t.TempDir(), "data")
	up := func() *testenv.Process {
		p := testenv.Start(t, posta, "up", "--data", data, "--listen", addr, "--nodes", "127.0.0.1:0", "--log-level", "error")
		testenv.Eventually(t, patience, testenv.Accepts(addr))
		return p
	}
	server := up()
	var file strings.Builder
	for i := range tasks {
		fmt.Fprintf(&file, `{"action":"echo","payload":%d,"key":"k%d","delay":3600}`+"\n", i, i)
	}
	stream := exec.CommandContext(t.Context(), posta, "enqueue", "-f", "-", "-q", "keyed", "--to", addr)
	var stderr testenv.Buffer
	stream.Stdin, stream.Stderr = strings.NewReader(file.String()), &stderr
	stdout, err := stream.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Start(); err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		_, rest, _ := strings.Cut(lines.Text(), `"task":"`)
		ids[rest[:min(26, len(rest))]] = true
		if n := len(ids); n == tasks/4 || n == tasks/2 {
			server.Kill(t)
			server = up()
		}
	}
	if err := stream.Wait(); err != nil || len(ids) != tasks {
		t.Errorf("%d tasks were accepted, want %d; %v\n%s", len(ids), tasks, err, stderr.String())
	}
	out, err := exec.CommandContext(t.Context(), posta, "queues", "--json", "--to", addr).Output()
	if want := fmt.Sprintf(`{"queue":"keyed","paused":false,"scheduled":%d,`, tasks); err != nil || !strings.HasPrefix(string(out), want) {
		t.Errorf("the queue is %s, %v", out, err)
	}
}
