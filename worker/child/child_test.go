package child

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/testenv"
)

func TestACommandLineIsSplitAsAShellDoes(t *testing.T) {
	t.Parallel()
	for line, want := range map[string][]string{
		`python3 w.py`:                {"python3", "w.py"},
		"  python3 \t -u  w.py \n":    {"python3", "-u", "w.py"},
		`sh -c 'a | b > "c"; $d'`:     {"sh", "-c", `a | b > "c"; $d`},
		`a "b c"d'e f' ""`:            {"a", "b cde f", ""},
		`a b\ c \| "\$x \" \\ \n"`:    {"a", "b c", "|", `$x " \ \n`},
		`é 'ñ'`:                       {"é", "ñ"},
		`/opt/my\ program --in=*.txt`: {"/opt/my program", "--in=*.txt"},
	} {
		if got, err := Split(line); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %q, %v; want %q", line, got, err, want)
		}
	}
	for line, want := range map[string]string{
		``: "names no program", `  `: "names no program", `'' a`: "names no program", `a 'b`: "not closed", `a "b`: "not closed", `a \`: "ends with a backslash",
		`a | b`: "| would need a shell", `a $HOME`: "$ would need a shell", `a "$HOME"`: "$ would need a shell", "a `b`": "` would need a shell", "a\x00b": "NUL",
	} {
		if got, err := Split(line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q, %v; want %q", line, got, err, want)
		}
	}
}

func TestAChildIsNamedAfterItsScript(t *testing.T) {
	t.Parallel()
	script := filepath.Join(t.TempDir(), "w.py")
	if err := os.WriteFile(script, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, words := range map[string][]string{"w.py": {"/usr/bin/python3", "-u", script}, "sh": {"/bin/sh", "-c", "a b"}, "work": {"./work"}} {
		if got := NameOf(words); got != want {
			t.Errorf("%q: %q", words, got)
		}
	}
}

func TestThePausesGrowUntilAChildLivesForAWhile(t *testing.T) {
	t.Parallel()
	for n, want := range []int{1, 2, 4, 8, 16, 30, 30} {
		if got := pauseAfter(n, time.Second); got != time.Duration(want)*time.Second {
			t.Errorf("after %d short lives: %s", n, got)
		}
	}
	if got := pauseAfter(1000, time.Minute); got != time.Second {
		t.Errorf("after a long life: %s", got)
	}
}

// served is the lines of a child.
type served struct {
	net.Conn
	lines  *bufio.Reader
	name   string
	joined func()
	drain  <-chan struct{}
	ctx    context.Context
	done   chan struct{} // close it to end the service
}

// read returns the next line of the child; "" at the end.
func (s *served) read(t *testing.T) string {
	t.Helper()
	line, err := s.lines.ReadString('\n')
	if err != nil && err != io.EOF {
		t.Errorf("%v", err)
	}
	return strings.TrimSuffix(line, "\n")
}

// supervise returns a Supervisor that restarts at once, and the services of its children.
func supervise(t *testing.T) (*Supervisor, <-chan *served, *testenv.Buffer) {
	t.Helper()
	all, logged := make(chan *served), &testenv.Buffer{}
	over := make(chan struct{})
	s := New(func(ctx context.Context, conn net.Conn, name string, joined func(), drain <-chan struct{}) {
		one := &served{conn, bufio.NewReader(conn), name, joined, drain, ctx, make(chan struct{})}
		select {
		case all <- one:
		case <-over:
			return
		}
		select {
		case <-one.done:
		case <-ctx.Done():
			_ = conn.Close()
		case <-over:
		}
	}, time.Hour, slog.New(slog.NewTextHandler(logged, nil)))
	s.pause = func(int, time.Duration) time.Duration { return 0 }
	s.patient = 0
	t.Cleanup(func() {
		close(over)
		s.Close()
	})
	return s, all, logged
}

// shell returns a program that is a script of the shell.
func shell(script string) Program {
	return Program{Name: "w", Path: "/bin/sh", Args: []string{"sh", "-c", script}, Dir: "/", Count: 1, Env: []string{"PATH=" + os.Getenv("PATH")}}
}

// lives reports whether a process is there and is no zombie.
func lives(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return syscall.Kill(pid, 0) == nil && !os.IsNotExist(err)
	}
	return !strings.Contains(string(text[bytes.LastIndexByte(text, ')'):]), " Z ")
}

func TestAChildTalksOnItsStandardInputAndOutput(t *testing.T) {
	t.Parallel()
	s, all, logged := supervise(t)
	p := shell(`echo "$POSTA_WORKER_NAME $MINE $HOME"; read line; echo "got $line"; echo oops hunter2 >&2; exit 3`)
	p.Env, p.Secrets, p.Home = append(p.Env, "MINE=yes"), []string{"hunter2"}, true
	s.Set([]Program{p})
	first := <-all
	words := strings.Fields(first.read(t))
	if len(words) != 3 || words[0] != "w-1" || words[1] != "yes" {
		t.Fatalf("%q", words)
	}
	if first.RemoteAddr().String() != "w-1" || first.name != "w-1" {
		t.Errorf("its address is %s", first.RemoteAddr())
	}
	if _, err := io.WriteString(first, "hello\n"); err != nil {
		t.Fatal(err)
	}
	if got := first.read(t) + first.read(t); got != "got hello" {
		t.Errorf("%q", got)
	}
	close(first.done)
	second := <-all // it starts again
	if _, err := os.Stat(words[2]); !os.IsNotExist(err) {
		t.Errorf("its home is left: %v", err)
	}
	close(second.done)
	for _, want := range []string{"oops [secret]", `how="exit status 3"`, "worker=w-1"} {
		if !strings.Contains(logged.String(), want) {
			t.Errorf("the log has no %s:\n%s", want, logged)
		}
	}
}

func TestAChildWhoseLinesAreOverIsEndedWithItsGroup(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"it closed its output":     `echo $$; sleep 1000 >/dev/null & echo $!; exec >&-; wait`,
		"it ignores SIGTERM":       `trap "" TERM; echo $$; (trap "" TERM; exec sleep 1000) & echo $!; exec >&-; wait; sleep 1000`,
		"it does not read":         `echo $$; sleep 1000 & echo $!; wait`,
		"its leader is gone first": `echo $$; sleep 1000 & echo $!`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, all, _ := supervise(t)
			s.Set([]Program{shell(script)})
			one := <-all
			var pids []int
			for range 2 {
				pid, err := strconv.Atoi(one.read(t))
				if err != nil {
					t.Fatal(err)
				}
				pids = append(pids, pid)
			}
			close(one.done)
			two := <-all // the group is killed before another child starts
			testenv.Eventually(t, 2*time.Minute, func() error {
				for _, pid := range pids {
					if lives(pid) {
						return fmt.Errorf("process %d is left", pid)
					}
				}
				return nil
			})
			close(two.done)
		})
	}
}

func TestAProcessThatHasLeftTheGroupDoesNotKeepTheLines(t *testing.T) {
	t.Parallel()
	s, all, _ := supervise(t)
	s.Set([]Program{shell(`setsid sleep 1000 & echo $!`)})
	one := <-all
	pid, err := strconv.Atoi(one.read(t))
	if err != nil {
		t.Fatal(err)
	}
	<-one.ctx.Done() // since it still holds the output
	second := <-all
	_ = syscall.Kill(pid, syscall.SIGKILL)
	if pid, err = strconv.Atoi(second.read(t)); err != nil {
		t.Fatal(err)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	s.Hold()
	close(second.done)
}

func TestAChildIsDrainedBeforeItEndsAndReplacedByItsNewDefinition(t *testing.T) {
	t.Parallel()
	s, all, _ := supervise(t)
	old, kept := shell(`echo old; while read line; do echo "$line"; done`), shell(`echo kept; while read line; do echo "$line"; done`)
	kept.Name = "k"
	s.Set([]Program{old, kept})
	byName := map[string]*served{}
	for range 2 {
		one := <-all
		byName[one.read(t)] = one
	}
	fresh := old
	fresh.Version = 1
	s.Set([]Program{fresh, kept})
	<-byName["old"].drain
	if _, err := io.WriteString(byName["old"], "still here\n"); err != nil {
		t.Fatal(err)
	}
	if got := byName["old"].read(t); got != "still here" {
		t.Errorf("while it drains: %q", got)
	}
	replaced := <-all // while the old one still lives
	select {
	case <-byName["kept"].drain:
		t.Error("a child whose definition is the same is drained")
	default:
	}
	for _, one := range []*served{byName["old"], byName["kept"], replaced} {
		close(one.done)
	}
}

func TestAChildThatDoesNotFinishIsKilledAtTheEndOfTheDrain(t *testing.T) {
	t.Parallel()
	s, all, logged := supervise(t)
	s.timeout = 0
	s.Set([]Program{shell(`echo busy; exec sleep 1000`)})
	one := <-all
	one.read(t)
	s.Close()
	if !strings.Contains(logged.String(), "signal: terminated") {
		t.Errorf("%s", logged)
	}
	<-one.ctx.Done()
}

func TestAFloodOnStandardErrorIsCounted(t *testing.T) {
	t.Parallel()
	var logged testenv.Buffer
	logger := slog.New(slog.NewTextHandler(&logged, nil))
	report(strings.NewReader(strings.Repeat("x\n", 10*linesMost)+strings.Repeat("y", 3*longestLine)+"\n"+strings.Repeat("\r", 2*longestLine)+"\nlast"), []string{"yyyy"}, logger)
	if n := strings.Count(logged.String(), "text=x"); n < linesMost || n > 2*linesMost {
		t.Errorf("%d lines are logged", n)
	}
	if !strings.Contains(logged.String(), "lines of the worker were left out") || strings.Contains(logged.String(), "yyyy") {
		t.Errorf("%.2000s", logged.String())
	}
}

func TestAProgramThatIsNotThereIsTriedAgain(t *testing.T) {
	t.Parallel()
	s, all, logged := supervise(t)
	path := filepath.Join(t.TempDir(), "late")
	p := shell("")
	p.Path = path
	tried := make(chan bool, 1)
	s.pause = func(n int, _ time.Duration) time.Duration {
		if n == 1 {
			if err := os.Symlink("/bin/sh", path); err != nil {
				t.Errorf("%v", err)
			}
			tried <- true
		}
		return 0
	}
	s.Set([]Program{p})
	<-tried
	close((<-all).done)
	if !strings.Contains(logged.String(), "cannot be started") {
		t.Errorf("%s", logged)
	}
}

func TestAChildThatAsksForNothingIsReported(t *testing.T) {
	t.Parallel()
	s, all, logged := supervise(t)
	s.silent = 0
	s.Set([]Program{shell(`exec sleep 1000`)})
	one := <-all
	testenv.Eventually(t, 2*time.Minute, func() error {
		if !strings.Contains(logged.String(), "has sent no work request") {
			return fmt.Errorf("%s", logged)
		}
		return nil
	})
	close(one.done)
}
