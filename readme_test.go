package posta_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/testenv"
)

// The README is run by this test, top to bottom, as a reader would: its sh and
// python blocks are executed in the repository's root, and where a text or json
// block follows one, it must be what was printed. Two notes steer it, each an HTML
// comment on the line before a block:
//
//	<!-- run: background -->  goes on until the section ends: a server
//	<!-- run: no -->          is not run
//
// So that it can run beside a Posta that is in use, ports 9000 to 9003 are
// replaced by free ones, and build/ by a temporary folder.

const (
	readmeStart = 2 * time.Minute  // for a server to be built and to listen
	readmeBlock = 60 * time.Second // for any other block
	readmeStop  = 20 * time.Second // for servers to end
)

// script is one run through a README.
type script struct {
	t       *testing.T
	ports   map[string]string // as written → as used
	folder  string            // stands for build/
	servers []server
	printed string // by the block before
	ran     bool   // whether it ran
}

// server is a background block; its processes form a process group of their own.
type server struct {
	level int // of the heading it stands under
	group int // the process group
	log   string
	ended chan struct{} // closed when the block's own process has
}

func TestTheREADMEDoesWhatItSays(t *testing.T) {
	t.Parallel()
	p := readPage(t, "README.md")
	s := &script{t: t, ports: freePorts(t, "9000", "9001", "9002", "9003"), folder: t.TempDir()}
	defer s.stop(0)
	ran := 0
	for _, b := range p.blocks {
		level := p.levelAt(b.line)
		s.stop(p.lowestLevelBefore(b.line))
		switch {
		case b.note == "run: no":
			s.ran = false
		case b.language == "sh" && b.note == "run: background":
			s.start(b, level)
			ran++
		case b.language == "sh" || b.language == "python":
			s.run(b)
			ran++
		case (b.language == "text" || b.language == "json") && b.adjacent && s.ran:
			s.compare(b)
		}
	}
	if ran < 6 {
		t.Errorf("only %d blocks of the README were run: are they marked sh and python?", ran)
	}
}

// levelAt gives the level of the heading that a line stands under.
func (p page) levelAt(line int) int {
	level := 1
	for _, h := range p.headings {
		if h.line < line {
			level = h.level
		}
	}
	return level
}

// lowestLevelBefore gives the level of the highest heading between the block
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
	log := filepath.Join(s.t.TempDir(), "log")
	out, err := os.Create(log)
	if err != nil {
		s.t.Fatal(err)
	}
	defer out.Close()
	cmd := s.command(context.Background(), b)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	srv := server{level: level, group: cmd.Process.Pid, log: log, ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(srv.ended)
	}()
	s.servers = append(s.servers, srv)
	for written, used := range s.ports {
		if strings.Contains(b.text, written) || !anyPort.MatchString(b.text) {
			s.waitFor(b, used, srv)
		}
	}
}

// waitFor returns when something listens on the port.
func (s *script) waitFor(b block, port string, srv server) {
	s.t.Helper()
	tooLate := time.After(readmeStart)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := net.DialTimeout("tcp", "127.0.0.1:"+port, time.Second)
		if err == nil {
			conn.Close()
			return
		}
		select {
		case <-tick.C:
			continue
		case <-srv.ended:
		case <-tooLate:
		}
		text, _ := os.ReadFile(srv.log)
		s.t.Fatalf("README.md:%d: nothing listens on port %s: the block has ended, or %v are over. It printed:\n%s",
			b.line, port, readmeStart, text)
	}
}

// stop ends the servers that were started under headings of the level or below.
func (s *script) stop(level int) {
	s.t.Helper()
	s.servers = slices.DeleteFunc(s.servers, func(srv server) bool {
		if srv.level < level {
			return false
		}
		s.end(srv)
		return true
	})
}

// end asks a process group to stop, and insists after a while.
func (s *script) end(srv server) {
	s.t.Helper()
	_ = syscall.Kill(-srv.group, syscall.SIGTERM)
	deadline := time.Now().Add(readmeStop)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for time.Now().Before(deadline) {
		if errors.Is(syscall.Kill(-srv.group, 0), syscall.ESRCH) {
			return
		}
		<-tick.C
	}
	_ = syscall.Kill(-srv.group, syscall.SIGKILL)
	text, _ := os.ReadFile(srv.log)
	s.t.Errorf("a server of the README did not stop within %v of SIGTERM. It printed:\n%s", readmeStop, text)
}

// run executes a block and keeps what it printed.
func (s *script) run(b block) {
	s.t.Helper()
	s.need(b)
	ctx, cancel := context.WithTimeout(s.t.Context(), readmeBlock)
	defer cancel()
	cmd := s.command(ctx, b)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("README.md:%d: %v\n%s%s", b.line, err, out, complaints.String())
	}
	s.printed, s.ran = string(out), true
}

func (s *script) compare(b block) {
	s.t.Helper()
	got := s.printed
	for written, used := range s.ports {
		got = strings.ReplaceAll(got, used, written)
	}
	if strings.TrimSpace(got) != strings.TrimSpace(b.text) {
		s.t.Errorf("README.md:%d shows\n%s\nbut this was printed:\n%s", b.line, b.text, got)
	}
	s.ran = false
}

var (
	buildFolder = regexp.MustCompile(`(\$PWD/)?\bbuild/`)
	anyPort     = regexp.MustCompile(`\b900[0-3]\b`)
)

// command makes the process for a block, in a process group of its own.
func (s *script) command(ctx context.Context, b block) *exec.Cmd {
	text := buildFolder.ReplaceAllLiteralString(b.text, s.folder+"/")
	text = anyPort.ReplaceAllStringFunc(text, func(p string) string { return s.ports[p] })
	name := []string{"bash", "-euo", "pipefail", "-c", text}
	if b.language == "python" {
		name = []string{"python3", "-c", text}
	}
	cmd := exec.CommandContext(ctx, name[0], name[1:]...)
	at := func(port string) string { return "127.0.0.1:" + s.ports[port] }
	cmd.Env = append(os.Environ(),
		"PATH="+os.Getenv("PATH")+":/usr/sbin",
		"POSTA_LISTEN="+at("9000"),
		"POSTA_NODES="+at("9001")+","+at("9002")+","+at("9003"),
		"POSTA_TO="+at("9000"),
	)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// need ends the test where a program that the block uses is not installed.
func (s *script) need(b block) {
	s.t.Helper()
	programs := []string{"nc", "curl", "haproxy", "nginx"}
	for _, name := range programs {
		if regexp.MustCompile(`(?m)(^|\| )` + name + ` `).MatchString(b.text) {
			testenv.Need(s.t, name)
		}
	}
	if b.language == "python" {
		testenv.Need(s.t, "python3")
	}
}

// freePorts finds a free port for each name, below the range from which the
// system gives ports to others, so that nobody takes one before it is used.
func freePorts(t *testing.T, names ...string) map[string]string {
	t.Helper()
	ports := map[string]string{}
	for range 1000 {
		if len(ports) == len(names) {
			return ports
		}
		port := fmt.Sprint(10000 + rand.IntN(20000))
		listener, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			continue
		}
		listener.Close()
		ports[names[len(ports)]] = port
	}
	t.Fatal("found no free ports between 10000 and 30000")
	return nil
}
