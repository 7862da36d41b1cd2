package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/node"
)

// tasksFile returns the text of n tasks with the ids 1 to n.
func tasksFile(n int) string {
	var text strings.Builder
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&text, `{"id":%d,"action":"upper","payload":"hola"}`+"\n", i)
	}
	return text.String()
}

// eachAnsweredOnce fails the test unless there is exactly one reply for each id.
func eachAnsweredOnce(t *testing.T, stdout string, n int) {
	t.Helper()
	seen := map[string]int{}
	for line := range strings.Lines(stdout) {
		r, err := readReply([]byte(line))
		if err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		seen[string(r.ID)]++
	}
	for i := 1; i <= n; i++ {
		if seen[fmt.Sprint(i)] != 1 {
			t.Fatalf("task %d has %d replies", i, seen[fmt.Sprint(i)])
		}
	}
}

func TestAStreamGoesOnWhenANodeAsksItToLeave(t *testing.T) {
	t.Parallel()
	const tasks = 2000
	fake := answering(t, func(c *fakeConn) {
		for n := 1; c.next(); n++ {
			c.done()
			if n == 100 && c.n <= 5 {
				c.say(`{"id":null,"status":"goaway","code":"draining","retry_after":0}`)
			}
		}
	})
	got := typeIn(t, tasksFile(tasks), nil, "run", "-f", "-", "-c", "2", "--to", fake.addr)
	if got.code != exitOK || !strings.Contains(got.stderr, "2,000 done") {
		t.Fatalf("code %d, stderr %s", got.code, got.stderr)
	}
	eachAnsweredOnce(t, got.stdout, tasks)
	if fake.conns.Load() < 6 {
		t.Errorf("only %d connections: nobody left", fake.conns.Load())
	}
}

func TestAStreamNamesTheTasksThatALostConnectionLeftUnanswered(t *testing.T) {
	t.Parallel()
	fake := answering(t, func(c *fakeConn) {
		if c.n != 2 { // the first one looks whether a node is there
			c.answerAll()
			return
		}
		for n := 1; c.next(); n++ {
			if n == 3 { // the third task of the file ends the connection
				_ = c.SetLinger(0)
				return
			}
			c.done()
		}
	})
	got := typeIn(t, tasksFile(1000), nil, "run", "-f", "-", "-c", "1", "--to", fake.addr)
	if got.code != exitFailed || !strings.Contains(got.stderr, "posta: error: stdin:3: id 3: unknown_outcome: ") {
		t.Fatalf("code %d, stderr %s", got.code, got.stderr)
	}
	lost := regexp.MustCompile(`(\d+) done, (\d+) not answered`).FindStringSubmatch(got.stderr)
	if lost == nil || atoi(t, lost[1])+atoi(t, lost[2]) != 1000 {
		t.Errorf("not all of the 1000 tasks are accounted for: %s", got.stderr)
	}
	if n := strings.Count(got.stderr, "posta: error:"); n > maxComplaints {
		t.Errorf("%d complaints, want at most %d", n, maxComplaints)
	}
}

func TestAStreamWaitsForANodeThatIsRestarted(t *testing.T) {
	t.Parallel()
	fake := answering(t, func(c *fakeConn) {
		switch {
		case c.n == 1: // looks whether a node is there
			c.answerAll()
		case c.n == 2:
			for n := 0; n < 10 && c.next(); n++ {
				c.done()
			}
			c.say(`{"id":null,"status":"goaway","code":"draining","retry_after":0}`)
			c.answerAll()
		case c.n < 5: // a balancer without a node
		default:
			c.answerAll()
		}
	})
	got := typeIn(t, tasksFile(300), nil, "run", "-f", "-", "-c", "1", "--to", fake.addr)
	if got.code != exitOK {
		t.Fatalf("code %d, stderr %s", got.code, got.stderr)
	}
	eachAnsweredOnce(t, got.stdout, 300)
}

func TestAStreamFailsAtOnceWhenNoNodeAnswers(t *testing.T) {
	t.Parallel()
	fake := answering(t, func(*fakeConn) {})
	got := typeIn(t, tasksFile(3), nil, "run", "-f", "-", "--to", fake.addr)
	if got.code != exitUnreachable || !strings.Contains(got.stderr, "posta: hint: ") {
		t.Errorf("code %d, stderr %s", got.code, got.stderr)
	}
}

// TestAStreamSendsALineThatIsTypedAtOnce keeps `posta run -f -` usable by hand and
// behind a pipe: the reply of a line comes before the next line is there.
func TestAStreamSendsALineThatIsTypedAtOnce(t *testing.T) {
	t.Parallel()
	fake := answering(t, (*fakeConn).answerAll)
	stdin, typing := io.Pipe()
	reading, stdout := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		var stderr testenv.Buffer
		ended <- run(t.Context(), &terminal.Outside{
			Args: []string{"run", "-f", "-", "--to", fake.addr}, Stdin: stdin, Stdout: stdout, Stderr: &stderr,
		})
		stdout.Close()
		stdin.Close()
	}()
	replies := bufio.NewReader(reading)
	for i := range 5 {
		fmt.Fprintf(typing, `{"id":%d,"action":"echo"}`+"\n", i)
		if line, err := replies.ReadString('\n'); err != nil || !strings.HasPrefix(line, fmt.Sprintf(`{"id":%d,`, i)) {
			t.Fatalf("reply %q, error %v", line, err)
		}
	}
	typing.Close()
	if code := <-ended; code != exitOK {
		t.Errorf("code %d", code)
	}
}

// TestAStreamNeedsTheSameMemoryForALongFile looks at the largest memory of a process
// that streams 100,000 tasks of a kilobyte: much less than they and their replies have.
func TestAStreamNeedsTheSameMemoryForALongFile(t *testing.T) {
	t.Parallel()
	addr := realNode(t)
	few, many := streamedMemory(t, addr, 5000), streamedMemory(t, addr, 100_000)
	t.Logf("largest memory: %d KiB for 5,000 tasks, %d KiB for 100,000", few, many)
	// The race detector doubles what a garbage collector at work may leave; a stream that
	// kept its file would need 250 MiB more.
	if many > 2*few+60<<10 {
		t.Errorf("%d KiB for 100,000 tasks, %d KiB for 5,000: memory grows with the file", many, few)
	}
}

// streamedMemory runs a stream in a process of its own, and gives its largest resident
// memory in KiB.
func streamedMemory(t *testing.T, addr string, tasks int) int64 {
	t.Helper()
	line := `{"action":"echo","payload":"` + strings.Repeat("hola", 250) + "\"}\n"
	cmd := exec.CommandContext(t.Context(), "posta", "run", "-f", "-", "--to", addr)
	cmd.Stdin = io.LimitReader(&endless{line: line}, int64(tasks*len(line)))
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr testenv.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	replies := 0
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		replies++
	}
	if err := cmd.Wait(); err != nil || replies != tasks {
		t.Fatalf("%d replies, %v: %s", replies, err, stderr.String())
	}
	return cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss
}

// realNode runs a node in this process until the test ends.
func realNode(t *testing.T) string {
	t.Helper()
	n, err := node.New(node.Config{Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("the node does not end")
		}
	})
	return n.Addr().String()
}

func atoi(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// endless is a file with the same line again and again.
type endless struct {
	line string
	at   int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.line[e.at:])
	e.at = (e.at + n) % len(e.line)
	return n, nil
}
