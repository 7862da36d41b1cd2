package cli

import (
	"bufio"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/internal/testenv"
)

// TestAWatchGoesOnThroughAKillOfTheServer kills the process under a task that is watched, and
// starts another one on its data.
func TestAWatchGoesOnThroughAKillOfTheServer(t *testing.T) {
	t.Parallel()
	posta, addr, data := testenv.Posta(t), testenv.FreeAddr(t), filepath.Join(t.TempDir(), "data")
	up := func() *testenv.Process {
		p := testenv.Start(t, posta, "up", "--data", data, "--listen", addr, "--nodes", "127.0.0.1:0", "--log-level", "error")
		testenv.Eventually(t, patience, testenv.Accepts(addr))
		return p
	}
	first := up()
	out, err := exec.CommandContext(t.Context(), posta, "enqueue", "sleep", "3", "--to", addr).Output()
	if err != nil {
		t.Fatal(err)
	}
	id := strings.TrimSpace(string(out))
	watch := exec.CommandContext(t.Context(), posta, "watch", id, "--to", addr)
	var stderr testenv.Buffer
	watch.Stderr = &stderr
	stdout, err := watch.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	lines, seen := bufio.NewScanner(stdout), ""
	for !strings.Contains(seen, "running") && lines.Scan() {
		seen += lines.Text() + "\n"
	}
	first.Kill(t)
	up()
	for lines.Scan() {
		seen += lines.Text() + "\n"
	}
	if err := watch.Wait(); err != nil || !strings.Contains(seen, "its process died") || !strings.Contains(seen, `{"ok":true,"slept":3}`) {
		t.Errorf("the watch ended with %v and said\n%s%s", err, seen, stderr.String())
	}
	if n := strings.Count(seen, "queued"); n != 2 { // at first, and after the kill
		t.Errorf("%d entries say queued:\n%s", n, seen)
	}
	for i := range 2 { // a later watch receives the same
		out, err := exec.CommandContext(t.Context(), posta, "wait", id, "--to", addr).Output()
		if err != nil || string(out) != fmt.Sprintln(`{"ok":true,"slept":3}`) {
			t.Errorf("wait %d: %s, %v", i, out, err)
		}
	}
}

// progressNode answers a watch with progress, and ends the task once more returns.
func progressNode(t *testing.T, more func()) *fakeNode {
	return answering(t, func(c *fakeConn) {
		for c.next() {
			if !strings.Contains(c.lines.Text(), `"watch"`) {
				c.say(`{"id":%s,"status":"running","task":"T"}`, c.id)
				continue
			}
			c.say(`{"id":%s,"status":"running","task":"T","attempt":1,"progress":{"percent":41.6,"message":"half\u001b"}}`, c.id)
			more()
			c.say(`{"id":%s,"status":"done","task":"T","attempt":1,"result":{"ok":true},"seq":3,"at":"2026-01-31T08:00:00Z"}`, c.id)
		}
	})
}

func TestAWatchOnATerminalDrawsTheProgressAsABar(t *testing.T) {
	t.Parallel()
	var stdout, stderr screen
	const bar = "█████████░░░░░░░░░░░░░░░  42% half\\u001b"
	node := progressNode(t, func() {
		testenv.Eventually(t, patience, func() error {
			if !strings.Contains(stderr.String(), bar) {
				return fmt.Errorf("there is no bar: %q", stderr.String())
			}
			return nil
		})
	})
	code := run(t.Context(), &terminal.Outside{Args: []string{"watch", "T", "--to", node.addr}, Stdout: &stdout, Stderr: &stderr})
	if code != 0 || strings.Contains(stdout.String(), "42%") || !strings.Contains(stdout.String(), "done") {
		t.Errorf("code %d, stdout %q", code, stdout.String())
	}
	if !strings.HasSuffix(stderr.String(), "\r\x1b[K") {
		t.Errorf("the bar stays: %q", stderr.String())
	}
}

func TestAWatchInAPipePrintsTheProgressAsLines(t *testing.T) {
	t.Parallel()
	var stdout testenv.Buffer
	var stderr screen
	code := run(t.Context(), &terminal.Outside{Args: []string{"watch", "T", "--to", progressNode(t, func() {}).addr}, Stdout: &stdout, Stderr: &stderr})
	if code != 0 || !strings.Contains(stdout.String(), "running    attempt 1  42% half\\u001b\n") || strings.Contains(stderr.String(), "█") {
		t.Errorf("code %d, stdout %q, stderr %q", code, stdout.String(), stderr.String())
	}
}
