package posta_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/testenv"
)

// The README is run by this test, top to bottom, as a reader would: its sh, python
// and js blocks are executed in the repository's root, and where a text or json
// block follows one, it must be what was printed. Two notes steer it, each an HTML
// comment on the line before a block:
//
//	<!-- run: background -->  goes on until the section ends: a server
//	<!-- run: no -->          is not run
//
// So that it can run beside a Posta that is in use, ports 9000 to 9003 are
// replaced by free ones, build/ and posta-data/ by a temporary folder, and the database by one of the test's own.

const (
	readmeStart = 2 * time.Minute // for a server to be built and to listen
	readmeBlock = 5 * time.Minute // for any other block
	readmeStop  = 2 * time.Minute // for servers to end
)

// script is one run through a README.
type script struct {
	t       *testing.T
	ports   map[string]string // as written → as used
	folder  string            // stands for build/
	root    string            // of the repository
	store   string            // stands for database
	servers []server
	printed string // by the block before
	ran     bool   // whether it ran
}

// server is a block that goes on in the background.
type server struct {
	*testenv.Process
	level int // of the heading it stands under
}

func TestTheREADMEDoesWhatItSays(t *testing.T) {
	t.Parallel()
	p := readPage(t, "README.md")
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	s := &script{t: t, ports: freePorts(t), folder: t.TempDir(), root: root, store: testenv.StartPostgres(t).URL()}
	defer s.stop(0)
	ran := 0
	for _, b := range p.blocks {
		level := p.levelAt(b.line)
		s.stop(p.lowestLevelBefore(b.line))
		switch {
		case b.note == "run: no":
			s.ran = false
		case isRun(b) && b.note == "run: background":
			s.start(b, level)
			s.ran = false
			ran++
		case isRun(b):
			s.run(b)
			ran++
		case b.language == "text" || b.language == "json":
			s.compare(b)
		case b.language == "go":
			s.isPartOf(b, "examples/embed/main.go")
		}
	}
	if ran < 6 {
		t.Errorf("only %d blocks of the README were run: are they marked sh, python and js?", ran)
	}
}

// isRun reports whether blocks of this language are executed.
func isRun(b block) bool { return b.language == "sh" || b.language == "python" || b.language == "js" }

// levelAt returns the level of the heading that a line stands under.
func (p page) levelAt(line int) int {
	level := 1
	for _, h := range p.headings {
		if h.line < line {
			level = h.level
		}
	}
	return level
}

// lowestLevelBefore returns the level of the highest heading between the block
// before the line and the line, or a large number when there is none: servers of
// that level and below it have come to the end of their section.
func (p page) lowestLevelBefore(line int) int {
	from := 0
	for _, b := range p.blocks {
		if b.line < line {
			from = b.line
		}
	}
	lowest := 100
	for _, h := range p.headings {
		if h.line > from && h.line < line {
			lowest = min(lowest, h.level)
		}
	}
	return lowest
}

// start runs a block in the background and waits until the ports that it names,
// or all when it names none, take connections.
func (s *script) start(b block, level int) {
	s.t.Helper()
	s.need(b)
	all := !anyPort.MatchString(b.text)
	for _, used := range s.ports {
		if all { // a process that was killed may listen for a moment more
			testenv.Eventually(s.t, readmeStop, func() error { return s.isFree(used) })
		}
	}
	srv := server{testenv.StartCommand(s.t, s.command(b, readmeStart+10*readmeBlock)), level}
	s.servers = append(s.servers, srv)
	for written, used := range s.ports {
		if all || strings.Contains(b.text, written) {
			testenv.Eventually(s.t, readmeStart, func() error { return s.accepts(b, used, srv) })
		}
	}
}

// isFree reports that somebody listens on the port.
func (s *script) isFree(port string) error {
	if testenv.Accepts("127.0.0.1:"+port)() == nil {
		return fmt.Errorf("somebody listens on port %s", port)
	}
	return nil
}

// accepts reports why nobody can connect to the port, and fails the test when that
// will not change.
func (s *script) accepts(b block, port string, srv server) error {
	s.t.Helper()
	select {
	case <-srv.Ended():
		s.t.Fatalf("README.md:%d: the block has ended, and nobody listens on port %s", b.line, port)
	default:
	}
	return testenv.Accepts("127.0.0.1:" + port)()
}

// stop ends the servers that were started under headings of the level or below.
func (s *script) stop(level int) {
	s.t.Helper()
	s.servers = slices.DeleteFunc(s.servers, func(srv server) bool {
		if srv.level < level {
			return false
		}
		srv.Signal(syscall.SIGTERM)
		testenv.Eventually(s.t, readmeStop, func() error {
			if err := syscall.Kill(-srv.Pid(), 0); !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("a server of the README still runs; it printed:\n%s", srv.Output())
			}
			return nil
		})
		return true
	})
}

// run executes a block and keeps what it printed.
func (s *script) run(b block) {
	s.t.Helper()
	s.need(b)
	cmd := s.command(b, readmeBlock)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("README.md:%d: %v\n%s%s", b.line, err, out, complaints.String())
	}
	s.printed, s.ran = string(out), true
}

// compare holds a block to what the one before it printed.
func (s *script) compare(b block) {
	s.t.Helper()
	if !s.ran || !b.adjacent {
		s.t.Errorf("README.md:%d is a %s block that follows no block that was run: let it show what one prints, "+
			"or use another language", b.line, b.language)
		return
	}
	got := s.printed
	for written, used := range s.ports {
		got = strings.ReplaceAll(got, used, written)
	}
	if strings.TrimSpace(got) != strings.TrimSpace(b.text) {
		s.t.Errorf("README.md:%d shows\n%s\nbut this was printed:\n%s", b.line, b.text, got)
	}
	s.ran = false
}

// isPartOf holds a block to a file, which is built and run by a test of its own.
func (s *script) isPartOf(b block, path string) {
	s.t.Helper()
	code, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	if !strings.Contains(string(code), strings.TrimSpace(b.text)) {
		s.t.Errorf("README.md:%d is not in %s", b.line, path)
	}
}

// database is the store of the README's three nodes.
const database = "postgres://posta@127.0.0.1:5432/posta"

var (
	buildFolder = regexp.MustCompile(`(\$PWD/)?\bbuild/`)
	dataFolder  = regexp.MustCompile(`\bposta-data/`)
	anyPort     = regexp.MustCompile(`\b900[0-3]\b`)
)

// command makes the process for a block. timeout(1) is the head of its process
// group: it hands signals on to all of it, and bounds its life whatever happens here.
func (s *script) command(b block, limit time.Duration) *exec.Cmd {
	text := buildFolder.ReplaceAllLiteralString(b.text, s.folder+"/")
	text = dataFolder.ReplaceAllLiteralString(text, s.folder+"/data/")
	text = strings.ReplaceAll(text, database, "'"+s.store+"'")
	text = anyPort.ReplaceAllStringFunc(text, func(p string) string { return s.ports[p] })
	arguments := []string{"--kill-after=10", fmt.Sprint(limit.Seconds())}
	switch b.language {
	case "python":
		arguments = append(arguments, "python3", "-c", text)
	case "js": // as if the package were installed
		text = strings.ReplaceAll(text, `from "posta"`, `from "`+s.root+`/sdk/js/index.js"`)
		arguments = append(arguments, "node", "--input-type=module", "-e", text)
	default:
		arguments = append(arguments, "bash", "-euo", "pipefail", "-c", text)
	}
	cmd := exec.Command("timeout", arguments...)
	at := func(port string) string { return "127.0.0.1:" + s.ports[port] }
	cmd.Env = append(os.Environ(),
		"PATH="+os.Getenv("PATH")+":/usr/sbin",
		"POSTA_LISTEN="+at("9000"),
		"POSTA_NODES="+at("9001")+","+at("9002")+","+at("9003"),
		"POSTA_TO="+at("9000"),
		"POSTA_DRAIN_DELAY=0s",
		"POSTA_DATA="+s.folder+"/data",
		"PYTHONPATH="+s.root+"/sdk/python",
		"PYTHONDONTWRITEBYTECODE=1",
	)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// need ends the test where a program that the block uses is not installed.
func (s *script) need(b block) {
	s.t.Helper()
	testenv.Need(s.t, "timeout")
	for _, name := range []string{"nc", "curl", "haproxy", "nginx"} {
		if regexp.MustCompile(`(?m)(^|\| )` + name + ` `).MatchString(b.text) {
			testenv.Need(s.t, name)
		}
	}
	switch b.language {
	case "python":
		testenv.Need(s.t, "python3")
	case "js":
		testenv.Need(s.t, "node")
	}
}

// freePorts finds a port for each of those that the README names.
func freePorts(t *testing.T) map[string]string {
	t.Helper()
	ports := map[string]string{}
	for _, written := range []string{"9000", "9001", "9002", "9003"} {
		_, used, err := net.SplitHostPort(testenv.FreeAddr(t))
		if err != nil {
			t.Fatal(err)
		}
		ports[written] = used
	}
	return ports
}
