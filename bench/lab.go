package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	builtin = "built-in"
	haproxy = "haproxy"
	nginx   = "nginx"

	// stopTime is how long a process may take to stop before it is killed.
	stopTime = 3 * time.Second
)

// lab owns the processes and files of a run. It is used by one goroutine.
type lab struct {
	dir      string // temporary; removed by close
	self     string // this binary, which is also the bare server and the idlers
	posta    string // the posta binary
	progress io.Writer
	running  []*process
}

// process is one program under measurement or in front of one.
type process struct {
	name string
	addr string
	cmd  *exec.Cmd
	stop os.Signal
	out  bytes.Buffer   // what it said; complete once ended is closed
	in   io.WriteCloser // closing it ends our own processes
	// lines and pipe are the standard output of our own processes; nil for others.
	lines *bufio.Reader
	pipe  io.Closer
	// ended is closed when the process is over.
	ended chan struct{}
}

func newLab(progress io.Writer) (*lab, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "posta-bench-")
	if err != nil {
		return nil, err
	}
	return &lab{dir: dir, self: self, progress: progress}, nil
}

// close stops everything that still runs and removes the files.
func (l *lab) close() {
	l.endAll()
	os.RemoveAll(l.dir)
}

// endAll stops everything that still runs, the last that was started first.
func (l *lab) endAll() {
	for len(l.running) > 0 {
		l.end(l.running[len(l.running)-1])
	}
}

func (l *lab) say(format string, args ...any) {
	fmt.Fprintf(l.progress, format+"\n", args...)
}

// build compiles posta from the tree that the working directory belongs to, unless a binary was named.
func (l *lab) build(ctx context.Context, named string) error {
	if named != "" {
		l.posta = named
		return nil
	}
	l.posta = filepath.Join(l.dir, "posta")
	l.say("building posta")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", l.posta, "github.com/posta-tasks/posta/cmd/posta")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build ./cmd/posta (run bench inside the tree, or name a binary with --posta): %w\n%s", err, out)
	}
	return nil
}

// start runs a program and adds it to the lab. What it prints is kept for the case that it fails.
func (l *lab) start(name, program string, args ...string) (*process, error) {
	p := &process{name: name, cmd: exec.Command(program, args...), stop: os.Kill, ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	return p, l.launch(p)
}

// startSelf runs this binary under another verb, and returns what it prints line by line.
func (l *lab) startSelf(verb string, args ...string) (*process, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	p := &process{name: verb, cmd: exec.Command(l.self, append([]string{verb}, args...)...), stop: os.Kill, ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = w, &p.out
	p.lines, p.pipe = bufio.NewReader(r), r
	return p, l.launch(p)
}

func (l *lab) launch(p *process) (err error) {
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", p.name, err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	l.running = append(l.running, p)
	return nil
}

// line returns the next line that one of our own processes prints. A process that ends instead has said why.
func (l *lab) line(p *process) (string, error) {
	line, err := p.lines.ReadString('\n')
	if err != nil {
		l.end(p)
		return "", fmt.Errorf("%s ended: %w\n%s", p.name, err, p.out.Bytes())
	}
	return strings.TrimSpace(line), nil
}

// end stops a process and waits until it is gone.
func (l *lab) end(p *process) {
	p.in.Close()
	_ = p.cmd.Process.Signal(p.stop)
	select {
	case <-p.ended:
	case <-time.After(stopTime):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
	if p.pipe != nil {
		p.pipe.Close()
	}
	for i, q := range l.running {
		if q == p {
			l.running = append(l.running[:i], l.running[i+1:]...)
			return
		}
	}
}

// ready waits until the process serves tasks at addr; its own words explain a failure.
func (l *lab) ready(ctx context.Context, p *process, addr string) (*process, error) {
	p.addr = addr
	if err := awaitTask(ctx, addr, p.ended); err != nil {
		l.end(p)
		return nil, fmt.Errorf("%s: %w\n%s", p.name, err, p.out.Bytes())
	}
	return p, nil
}

// bare starts a bare server; args are its flags.
func (l *lab) bare(ctx context.Context, args ...string) (*process, error) {
	p, err := l.startSelf(verbBare, args...)
	if err != nil {
		return nil, err
	}
	addr, err := l.line(p)
	if err != nil {
		return nil, err
	}
	return l.ready(ctx, p, addr)
}

// node starts a Posta node as an operator would, without the line per task.
func (l *lab) node(ctx context.Context) (*process, error) {
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	p, err := l.start("posta node", l.posta, "node", "--listen", addr, "--log-level", "error")
	if err != nil {
		return nil, err
	}
	return l.ready(ctx, p, addr)
}

// errMissing says that a balancer is not installed: its rows are left out.
var errMissing = errors.New("not installed")

// balancer starts one of the three balancers in front of a server, with the configuration that posta prints.
func (l *lab) balancer(ctx context.Context, kind, backend string) (*process, error) {
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	program, args := l.posta, []string{"balancer", "run", "--listen", addr, "--node", backend, "--log-level", "error"}
	if kind != builtin {
		if program, err = exec.LookPath(kind); err != nil {
			return nil, fmt.Errorf("%s is %w", kind, errMissing)
		}
		if args, err = l.balancerConfig(ctx, kind, addr, backend); err != nil {
			return nil, err
		}
	}
	p, err := l.start(kind, program, args...)
	if err != nil {
		return nil, err
	}
	if kind != builtin {
		p.stop = syscall.SIGTERM // Killing the master of Nginx would leave its workers behind.
	}
	return l.ready(ctx, p, addr)
}

// balancerConfig writes the configuration that posta prints and returns the arguments that use it.
func (l *lab) balancerConfig(ctx context.Context, kind, addr, backend string) ([]string, error) {
	cmd := exec.CommandContext(ctx, l.posta, "balancer", kind, "--listen", addr, "--node", backend)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	config, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("posta balancer %s: %w\n%s", kind, err, errs.Bytes())
	}
	path := filepath.Join(l.dir, fmt.Sprintf("%s-%d.conf", kind, len(l.running)))
	if err := os.WriteFile(path, config, 0o600); err != nil {
		return nil, err
	}
	if kind == haproxy {
		return []string{"-db", "-f", path}, nil
	}
	args := []string{"-p", l.dir, "-c", path}
	if !bytes.Contains(config, []byte("daemon off")) {
		args = append(args, "-g", "daemon off;")
	}
	return args, nil
}

// freeAddress finds a loopback port that nobody listens on. The port is free again when it returns, so
// another program could take it: then the process that wanted it says so, and the run ends.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}
