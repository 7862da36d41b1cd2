package command

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/posta-tasks/posta/actions"
)

// TestMain makes the tests' process a subreaper: what a killed program leaves behind becomes
// its child, as it becomes that of a node which is the first process of a container.
func TestMain(m *testing.M) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// shell returns the command that runs a script of the shell.
func shell(script string) Command {
	return Command{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Dir: "/"}
}

// run runs a command once.
func run(t *testing.T, ctx context.Context, c Command, call actions.Call) (string, error) {
	t.Helper()
	r := NewRunner()
	defer r.Close()
	if call.Payload == nil {
		call.Payload = []byte("null")
	}
	data, err := r.Action(c)(ctx, &call, nil)
	return string(data), err
}

func TestAProgramsOutputIsTheData(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]string{
		`cat`:                          `"data":{"a":"é"}`,
		`echo hello`:                   `"data":"hello"`,
		`printf 'two\nlines\n'`:        `"data":"two\nlines"`,
		`printf 'dos\r\n'`:             `"data":"dos"`,
		`printf 'none'`:                `"data":"none"`,
		`printf 'blank\n\n'`:           `"data":"blank\n"`,
		`:`:                            `"data":""`,
		`echo 42`:                      `"data":42`,
		`printf '{\n "a": [1, 2]\n}'`:  `"data":{"a":[1,2]}`,
		`printf '\377'`:                `"data":"\ufffd"`,
		`echo noise >&2; echo result`:  `"data":"result"`,
		`exec <&-; echo unread`:        `"data":"unread"`,
		`sleep 1000 & echo left`:       `"data":"left"`,
		`setsid sleep 20 & echo apart`: `"data":"apart"`,
	} {
		t.Run(script, func(t *testing.T) {
			t.Parallel()
			if data, err := run(t, t.Context(), shell(script), actions.Call{Payload: []byte(`{"a":"é"}`)}); err != nil || data != want {
				t.Errorf("%s, %v; want %s", data, err, want)
			}
		})
	}
}

func TestTheWayAProgramEndsSaysWhatIsNext(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]struct {
		text      string
		permanent bool
	}{
		`exit 1`:                        {text: "exit status 1"},
		`echo why >&2; exit 3`:          {text: "exit status 3: why"},
		`exit 75`:                       {text: "exit status 75"},
		`echo bad input >&2; exit 64`:   {text: "exit status 64: bad input", permanent: true},
		`exit 65`:                       {text: "exit status 65", permanent: true},
		`kill -SEGV $$`:                 {text: "killed by SIGSEGV (segmentation fault)"},
		`echo out; kill -KILL $$`:       {text: "killed by SIGKILL (killed)"},
		`echo token-12345 >&2; exit 2`:  {text: "exit status 2: [secret]"},
		`echo out; echo err >&2; false`: {text: "exit status 1: err"},
	} {
		t.Run(script, func(t *testing.T) {
			t.Parallel()
			c := shell(script)
			c.Permanent, c.Secrets = []int{64, 65}, []string{"token-12345"}
			data, err := run(t, t.Context(), c, actions.Call{})
			if err == nil || err.Error() != want.text || actions.IsPermanent(err) != want.permanent || data != "" {
				t.Errorf("%q, %v (permanent %t); want %v", data, err, actions.IsPermanent(err), want)
			}
		})
	}
}

func TestAnErrorHasTheEndOfStandardError(t *testing.T) {
	t.Parallel()
	_, err := run(t, t.Context(), shell(`head -c 3000000 /dev/zero | tr '\0' x >&2; echo the end >&2; exit 1`), actions.Call{})
	if err == nil || !strings.HasSuffix(err.Error(), "xxx the end") && !strings.HasSuffix(err.Error(), "xthe end") || len(err.Error()) > MaxStderr+100 || len(err.Error()) < MaxStderr-100 {
		t.Errorf("the error has %d bytes and is %.60v…", len(err.Error()), err)
	}
}

func TestAProgramThatFloodsItsOutputIsStopped(t *testing.T) {
	t.Parallel()
	_, err := run(t, t.Context(), shell(`while :; do echo flood; echo flood >&2; done`), actions.Call{MaxResult: 100_000})
	var large *actions.TooLargeError
	if !errors.As(err, &large) || large.Most != 100_000 {
		t.Errorf("%v, want an error that names the limit", err)
	}
}

func TestAProgramGetsItsOwnEnvironmentAndNothingElse(t *testing.T) {
	t.Setenv("POSTA_TOKEN", "secret-of-the-node")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-node")
	t.Setenv("LANG", "")
	c := shell(`env | sort; ls -A "$HOME" | wc -l; echo mess > "$HOME/file"; mkdir -p "$HOME/a/b"; pwd`)
	c.Env = []string{"TZ=UTC", "KEY=a b"}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r := NewRunner()
	defer r.Close()
	data, err := r.Action(c)(ctx, &actions.Call{Action: "thumb", Task: "01JE", Attempt: 2, Payload: []byte("1")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, line := range strings.Split(strings.Trim(strings.TrimPrefix(string(data), `"data":`), `"`), `\n`) {
		name, value, _ := strings.Cut(line, "=")
		got[name] = value
	}
	home := got["HOME"]
	delete(got, "HOME")
	delete(got, "PWD") // the shell's own
	delete(got, "_")
	delete(got, "SHLVL")
	delete(got, "OLDPWD")
	want := map[string]string{
		"PATH": os.Getenv("PATH"), "LANG": "C.UTF-8", "TZ": "UTC", "KEY": "a b", "POSTA_ACTION": "thumb", "POSTA_TASK": "01JE",
		"POSTA_ATTEMPT": "2", "POSTA_TIMEOUT": "60", "0": "", "/": "",
	}
	for name := range got {
		if value, expected := want[name]; !expected || got[name] != value {
			t.Errorf("%s=%s, want %q (%t)", name, got[name], value, expected)
		}
	}
	if len(got) != len(want) || home == "" {
		t.Errorf("%d lines, want %d; HOME is %q", len(got), len(want), home)
	}
	if _, err := os.Stat(home); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the home directory is still there: %v", err)
	}
}

// waitFor waits until a program has written to a file.
func waitFor(t *testing.T, path string) string {
	t.Helper()
	for t.Context().Err() == nil {
		if text, err := os.ReadFile(path); err == nil && strings.HasSuffix(string(text), "\n") {
			return strings.TrimSpace(string(text))
		}
		runtime.Gosched()
	}
	return ""
}

// isGone reports whether nothing is left of a process, neither alive nor as a zombie.
func isGone(pid string) bool {
	_, err := os.Stat("/proc/" + pid)
	return err != nil
}

func TestAProgramIsAskedToStopAndThenKilledWithItsGroup(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ script, want string }{
		"listens to TERM":          {`trap 'echo bye >&2; exit 0' TERM; sleep 1000 & echo $! > $FILE; wait`, `"data":""`},
		"dies of TERM":             {`sleep 1000 & echo $! > $FILE; wait`, ""},
		"ignores TERM":             {`trap '' TERM; sleep 1000 & echo $! > $FILE; while :; do wait; done`, ""},
		"leaves a child in charge": {`(trap '' TERM; sleep 1000) & echo $! > $FILE; exec sleep 1000`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "pid")
			command := shell(c.script)
			command.Env = []string{"FILE=" + file}
			ctx, cancel := context.WithCancel(t.Context())
			var child string
			go func() {
				defer cancel()
				child = waitFor(t, file)
			}()
			data, err := run(t, ctx, command, actions.Call{})
			if data != c.want || (err == nil) != (c.want != "") || err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("%q, %v", data, err)
			}
			for !isGone(child) && t.Context().Err() == nil { // it was killed before its parent was reaped
				runtime.Gosched()
			}
		})
	}
}

func TestCloseKillsWhatRuns(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pid")
	c := shell(`trap '' TERM; sleep 1000 & echo $! > $FILE; while :; do wait; done`)
	c.Env = []string{"FILE=" + file}
	r, ended := NewRunner(), make(chan error, 1)
	go func() {
		_, err := r.Action(c)(context.Background(), &actions.Call{Payload: []byte("1")}, nil)
		ended <- err
	}()
	child := waitFor(t, file)
	r.Close()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "SIGKILL") {
		t.Errorf("%v", err)
	}
	for !isGone(child) && t.Context().Err() == nil {
		runtime.Gosched()
	}
	if _, err := r.Action(c)(context.Background(), &actions.Call{}, nil); err == nil {
		t.Error("a closed runner starts programs")
	}
	r.Close()
}

// TestAThousandKilledChildrenLeaveNothing kills a thousand programs, each of which has children,
// sixteen at a time, and then looks for processes that carry the tests' mark.
func TestAThousandKilledChildrenLeaveNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts three thousand processes")
	}
	r, dir := NewRunner(), t.TempDir()
	c := shell(`sleep 1000 & (sleep 1000; :) & : > "$HOME/started"; exec sleep 1000`)
	c.Env = []string{"MARK=" + dir, "TMPDIR=" + dir}
	action := r.Action(c)
	var all sync.WaitGroup
	turns := make(chan struct{}, 16)
	for range 1000 {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
			defer cancel()
			if _, err := action(ctx, &actions.Call{Payload: []byte("1")}, nil); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v", err)
			}
		})
	}
	all.Wait()
	r.Close()
	for left := marked(t, dir); len(left) > 0; left = marked(t, dir) {
		if t.Context().Err() != nil {
			t.Fatalf("left behind: %v", left)
		}
		runtime.Gosched()
	}
	out, err := exec.CommandContext(t.Context(), "ps", "-o", "stat=,pid=,args=", "--ppid", strconv.Itoa(os.Getpid())).Output()
	for _, line := range strings.Split(string(out), "\n") {
		if strings.HasPrefix(line, "Z") && !strings.Contains(line, "ps") {
			t.Errorf("a zombie is left: %s (%v)", line, err)
		}
	}
}

// marked lists the processes whose environment has a mark.
func marked(t *testing.T, mark string) (left []string) {
	t.Helper()
	list, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range list {
		if text, err := os.ReadFile(path); err == nil && strings.Contains(string(text), "MARK="+mark) {
			left = append(left, path)
		}
	}
	return left
}

func TestAProgramIsLimited(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limits Limits
		script string
		want   string
	}{
		"files":              {Limits{Files: 17}, `ulimit -n`, `"data":17`},
		"files of a child":   {Limits{Files: 17}, `sh -c 'ulimit -n'`, `"data":17`},
		"memory":             {Limits{Memory: 256 << 20}, `ulimit -v`, `"data":262144`},
		"cpu":                {Limits{CPU: 3}, `ulimit -t`, `"data":3`},
		"all":                {Limits{256 << 20, 3, 17}, `ulimit -v; ulimit -t; ulimit -n`, `"data":"262144\n3\n17"`},
		"cpu that is used":   {Limits{CPU: 1}, `while :; do :; done`, "killed by SIGXCPU (CPU time limit exceeded)"},
		"and nothing else":   {Limits{}, `test "$(ulimit -t)" = unlimited && echo same`, `"data":"same"`},
		"a failure to begin": {Limits{Memory: 1 << 20}, `echo never`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			command := shell(c.script)
			command.Limits = c.limits
			got, err := run(t, t.Context(), command, actions.Call{})
			if err != nil {
				got = err.Error()
			}
			if got != c.want && !(c.want == "" && err != nil) {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func TestAProgramThatCannotBeLimitedDelaysNoOther(t *testing.T) {
	t.Parallel()
	r := NewRunner()
	defer r.Close()
	c := shell(`echo never`)
	c.Limits.Files = 1 << 62 // more than the kernel gives to anybody
	open := func(ctx context.Context) (io.ReadCloser, error) { return io.NopCloser(waiting{ctx}), nil }
	r.delay = 2 * time.Minute
	began := time.Now()
	if _, err := r.Action(c)(t.Context(), &actions.Call{OnOpen: open}, nil); err == nil || !strings.Contains(err.Error(), "cannot be limited") {
		t.Errorf("%v", err)
	}
	if took := time.Since(began); took >= r.delay {
		t.Errorf("its payload was waited for: %s", took)
	}
	if data, err := r.Action(shell(`echo next`))(t.Context(), &actions.Call{Payload: []byte("1")}, nil); err != nil || string(data) != `"data":"next"` {
		t.Errorf("the next one: %s, %v", data, err)
	}
}

func TestAnAttemptThatWaitsForItsStartCanBeCancelled(t *testing.T) {
	t.Parallel()
	r, goOn := NewRunner(), make(chan bool)
	defer r.Close()
	busy := make(chan bool)
	go func() { _ = r.starter.Do(context.Background(), func() error { close(busy); <-goOn; return nil }) }()
	<-busy // another one takes long
	defer close(goOn)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Action(shell(`echo never`))(ctx, &actions.Call{Payload: []byte("1")}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestALimitAboveTheNodesOwnIsFound(t *testing.T) {
	t.Parallel()
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with its fewer privileges
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if err := unix.Capget(&header, &data[0]); err != nil {
			t.Error(err)
		}
		data[0].Effective &^= 1 << unix.CAP_SYS_RESOURCE
		if err := unix.Capset(&header, &data[0]); err != nil {
			t.Error(err)
		}
		if name, err := (Limits{Files: own.Max + 1}).Check(); name != "files" || err == nil || !strings.Contains(err.Error(), strconv.FormatUint(own.Max, 10)) {
			t.Errorf("above it: %q, %v", name, err)
		}
		if name, err := (Limits{Files: own.Max}).Check(); err != nil {
			t.Errorf("at it: %q, %v", name, err)
		}
	}()
	<-done
}

func TestAPayloadThatCannotBeReadFailsTheAttempt(t *testing.T) {
	t.Parallel()
	broken := errors.New("blob storage is away")
	open := func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader("half"), failing{broken})), nil
	}
	if _, err := run(t, t.Context(), shell(`cat`), actions.Call{OnOpen: open}); !errors.Is(err, broken) {
		t.Errorf("read half: %v", err)
	}
	if data, err := run(t, t.Context(), shell(`exec <&-; echo unread`), actions.Call{OnOpen: func(ctx context.Context) (io.ReadCloser, error) {
		return io.NopCloser(waiting{ctx}), nil
	}}); err != nil || data != `"data":"unread"` {
		t.Errorf("not read: %s, %v", data, err)
	}
	c := shell("")
	c.Path = "/no/such/program"
	if _, err := run(t, t.Context(), c, actions.Call{}); err == nil || !strings.Contains(err.Error(), "cannot be started") {
		t.Errorf("a program that is not there: %v", err)
	}
}

// failing is a reader that fails, and waiting one that waits for the end of its context.
type (
	failing struct{ err error }
	waiting struct{ ctx context.Context }
)

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func (w waiting) Read([]byte) (int, error) { <-w.ctx.Done(); return 0, w.ctx.Err() }
