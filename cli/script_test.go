package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/internal/testenv"
)

var update = flag.Bool("update", false, "write the golden files anew")

// patience bounds every wait of a script.
const patience = 2 * time.Minute

func TestMain(m *testing.M) {
	testscript.Main(overlapped{m}, map[string]func(){"posta": posta, "talk": talk})
}

// posta is the program, with the built-in actions.
func posta() { Main(actions.Builtin()...) }

// overlapped has the tests wait beside each other. A process that stands for posta never asks it to.
type overlapped struct{ *testing.M }

func (m overlapped) Run() int {
	testenv.Overlap(6)
	return m.M.Run()
}

// TestScripts runs the dialogues in testdata. Beside the usual commands they have:
//
//	serve NAME posta …    starts a server on a free port; $NAME is its address
//	signal NAME TERM      sends it a signal
//	logged NAME REGEXP    waits until its log, the file NAME.log, says so
//	ended NAME CODE       waits for its end
//	keep NAME             sets $NAME to what the last command printed
//	code N posta …        runs a command that must end with this exit code
//	offers REGEXP ARGS…   asks posta to complete the arguments until it offers this
//	exec talk ADDR        sends stdin to an address as nc -N does, and prints the replies
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			s := &servers{byName: map[string]*server{}}
			env.Values[serversKey{}] = s
			env.Defer(s.kill)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"serve":  serveCommand,
			"signal": signalCommand,
			"logged": loggedCommand,
			"ended":  endedCommand,
			"code":   codeCommand,
			"offers": offersCommand,
			"keep":   keepCommand,
		},
	})
}

type serversKey struct{}

// servers are those that one script started.
type servers struct{ byName map[string]*server }

func (s *servers) kill() {
	for _, server := range s.byName {
		_ = server.process.Process.Kill()
		<-server.ended
	}
}

// server is a process in the background.
type server struct {
	process *exec.Cmd
	ended   chan struct{}
	log     *os.File
}

func serverNamed(ts *testscript.TestScript, name string) *server {
	s, known := ts.Value(serversKey{}).(*servers).byName[name]
	if !known {
		ts.Fatalf("no server %s was started", name)
	}
	return s
}

func serveCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: serve NAME COMMAND…")
	}
	path, err := exec.LookPath(args[1])
	ts.Check(err)
	process := exec.Command(path, args[2:]...)
	process.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "GOCOVERDIR"} {
		process.Env = append(process.Env, name+"="+ts.Getenv(name))
	}
	for _, name := range []string{"POSTA_LISTEN", "POSTA_NAME", "POSTA_SLOTS", "POSTA_DRAIN_DELAY", "POSTA_TOKEN_FILE", "POSTA_DEFAULTS"} {
		process.Env = append(process.Env, name+"="+ts.Getenv(name))
	}
	stderr, err := process.StderrPipe()
	ts.Check(err)
	log, err := os.Create(ts.MkAbs(args[0] + ".log"))
	ts.Check(err)
	ts.Check(process.Start())
	s := &server{process: process, ended: make(chan struct{}), log: log}
	ts.Value(serversKey{}).(*servers).byName[args[0]] = s
	addr := make(chan string, 1)
	go s.follow(stderr, args[2] == "up", addr)
	select {
	case a := <-addr:
		ts.Setenv(args[0], a)
	case <-s.ended:
		text, _ := os.ReadFile(log.Name())
		ts.Fatalf("%s ended before it listened: %s", args[0], text)
	case <-time.After(patience):
		ts.Fatalf("%s does not listen", args[0])
	}
}

// follow copies the log and finds the address in it: that of the balancer, when there
// are others.
func (s *server) follow(stderr io.Reader, up bool, addr chan<- string) {
	defer close(s.ended)
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		fmt.Fprintf(s.log, "%s\n", lines.Bytes())
		var entry struct{ Msg, Addr string }
		if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Addr != "" && (!up || entry.Msg == "up") {
			select {
			case addr <- entry.Addr:
			default:
			}
		}
	}
	_ = s.process.Wait()
	s.log.Close()
}

func signalCommand(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL, "HUP": syscall.SIGHUP}
	if neg || len(args) != 2 || signals[args[1]] == 0 {
		ts.Fatalf("usage: signal NAME TERM|INT|KILL|HUP")
	}
	ts.Check(serverNamed(ts, args[0]).process.Process.Signal(signals[args[1]]))
}

func loggedCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: logged NAME REGEXP")
	}
	wanted, err := regexp.Compile(args[1])
	ts.Check(err)
	s := serverNamed(ts, args[0])
	var text []byte
	if !becomes(func() bool {
		text, err = os.ReadFile(s.log.Name())
		ts.Check(err)
		return wanted.Match(text)
	}) {
		ts.Fatalf("%s does not say %s in its log:\n%s", args[0], args[1], text)
	}
}

// becomes reports whether something is true now or soon, within patience.
func becomes(so func() bool) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !so(); <-tick.C {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// offersCommand repeats the question, since completion does not wait long for a busy system.
func offersCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: offers REGEXP ARGUMENTS…")
	}
	wanted, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	if !becomes(func() bool {
		ts.Check(ts.Exec("posta", append([]string{"__complete"}, args[1:]...)...))
		return wanted.MatchString(ts.ReadFile("stdout"))
	}) {
		ts.Fatalf("it does not offer %s, only:\n%s", args[0], ts.ReadFile("stdout"))
	}
}

func endedCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: ended NAME CODE")
	}
	s := serverNamed(ts, args[0])
	select {
	case <-s.ended:
	case <-time.After(patience):
		ts.Fatalf("%s has not ended", args[0])
	}
	if got := strconv.Itoa(s.process.ProcessState.ExitCode()); got != args[1] {
		ts.Fatalf("%s ended with %s (%s), want %s", args[0], got, s.process.ProcessState, args[1])
	}
}

func codeCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N COMMAND…")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("the exit code is %d, want %s", got, args[0])
	}
}

func keepCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: keep NAME")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

// talk is a program for the scripts: nc -N for machines that have none.
func talk() {
	conn, err := net.DialTimeout("tcp", os.Args[1], patience)
	if err != nil {
		panic(err)
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	var sending sync.WaitGroup
	sending.Go(func() {
		_, _ = io.Copy(conn, os.Stdin)
		_ = conn.(*net.TCPConn).CloseWrite()
	})
	if _, err := io.Copy(os.Stdout, conn); err != nil {
		panic(err)
	}
	sending.Wait()
}

// golden compares a text with a file, or writes the file when -update is given.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: go test ./cli -update writes it", err)
	}
	if got != string(want) {
		t.Errorf("%s differs from the help texts: go test ./cli -update writes it again; then read the difference", path)
	}
}
