// Package lab starts the programs that are measured, each in a process of its own, and ends them: posta from
// the tree, the balancers with the configurations that posta prints, and the measuring binary itself under
// another verb.
package lab

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/process"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/internal/testenv/freeport"
	"github.com/posta-tasks/posta/lab/bench/load"
)

const (
	// Builtin is Posta's own balancer.
	Builtin = "built-in"
	// HAProxy is the balancer of this name, and its program.
	HAProxy = "haproxy"
	// Nginx is the balancer of this name, and its program.
	Nginx = "nginx"

	// stopTime is how long a process may take to stop before it is killed.
	stopTime = 3 * time.Second
	// readyTime bounds the wait for a process to serve its first task.
	readyTime = 20 * time.Second
	readyPoll = 50 * time.Millisecond
)

// Lab owns the processes and files of a run. It is used by one goroutine.
type Lab struct {
	dir      string // temporary; removed by Close
	self     string // this binary, which is also the bare server and the idlers
	posta    string // the posta binary
	progress io.Writer
	running  []*Process
	cleanups []func() // of servers, done last to first by Close
	stages   int      // directories of servers
}

// Process is one program under measurement or in front of one.
type Process struct {
	*process.Process
	// Addr is where it serves tasks.
	Addr string
	name string
	in   io.WriteCloser // closing it ends our own processes
	// lines and pipe are the standard output of our own processes; nil for others.
	lines *bufio.Reader
	pipe  io.Closer
}

// New makes a lab that reports its progress, line by line. The caller closes it.
func New(progress io.Writer) (*Lab, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "posta-bench-")
	if err != nil {
		return nil, err
	}
	return &Lab{dir: dir, self: self, progress: progress}, nil
}

// Quote says what the programs that run have said, for the reader of a failure. It ends them.
func (l *Lab) Quote() {
	for _, p := range slices.Clone(l.running) {
		l.End(p)
		if out := p.Output(); out != "" {
			l.Say("%s printed:\n%s", p.name, out[:min(len(out), quoted)])
		}
	}
}

// quoted bounds what is quoted of a program.
const quoted = 4 << 10

// Close stops everything that still runs and removes the files.
func (l *Lab) Close() {
	l.EndAll()
	for len(l.cleanups) > 0 {
		last := len(l.cleanups) - 1
		do := l.cleanups[last]
		l.cleanups = l.cleanups[:last]
		_ = l.stage(func(testing.TB) { do() }) // a server that does not end was said so, and is killed
	}
	os.RemoveAll(l.dir)
}

// EndAll stops everything that still runs, the last that was started first.
func (l *Lab) EndAll() {
	for len(l.running) > 0 {
		l.End(l.running[len(l.running)-1])
	}
}

// Say reports progress.
func (l *Lab) Say(format string, args ...any) {
	fmt.Fprintf(l.progress, format+"\n", args...)
}

// Build compiles posta from the tree that the working directory belongs to, unless a binary was named.
func (l *Lab) Build(ctx context.Context, named string) error {
	if named != "" {
		l.posta = named
		return nil
	}
	l.posta = filepath.Join(l.dir, "posta")
	l.Say("building posta")
	root, err := testenv.FindRoot()
	if err != nil {
		return fmt.Errorf("run bench inside the tree, or name a binary with --posta: %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-C", root, "-o", l.posta, "./cmd/posta")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build ./cmd/posta (run bench inside the tree, or name a binary with --posta): %w\n%s", err, out)
	}
	return nil
}

// start runs a program and adds it to the lab. What it prints is kept for the case that it fails.
func (l *Lab) start(ctx context.Context, name, program string, args ...string) (*Process, error) {
	p := &Process{name: name}
	return p, l.launch(p, l.command(ctx, name, program, args...))
}

// StartSelf runs this binary under another verb, and returns what it prints line by line.
func (l *Lab) StartSelf(ctx context.Context, verb string, args ...string) (*Process, error) {
	return l.talk(l.command(ctx, verb, l.self, append([]string{verb}, args...)...), verb)
}

// talk runs a program of ours whose standard output is read line by line.
func (l *Lab) talk(command *exec.Cmd, name string) (*Process, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	command.Stdout = w
	p := &Process{name: name, lines: bufio.NewReader(r), pipe: r}
	return p, l.launch(p, command)
}

// command prepares a program that is stopped when the context ends, if nothing stopped it before.
func (l *Lab) command(ctx context.Context, name, program string, args ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, program, args...)
	command.Cancel = func() error { return command.Process.Signal(stopSignal(name)) }
	command.WaitDelay = stopTime
	return command
}

// stopSignal returns the signal that ends a process. Ours may be killed; killing the master of Nginx would leave its
// workers behind.
func stopSignal(name string) syscall.Signal {
	if name == Nginx || name == HAProxy {
		return syscall.SIGTERM
	}
	return syscall.SIGKILL
}

func (l *Lab) launch(p *Process, command *exec.Cmd) (err error) {
	if p.in, err = command.StdinPipe(); err != nil {
		return err
	}
	if p.Process, err = process.Start(command, stopSignal(p.name)); err != nil {
		return err
	}
	l.running = append(l.running, p)
	return nil
}

// Line returns the next line that one of our own processes prints. A process that ends instead has said why.
func (l *Lab) Line(p *Process) (string, error) {
	line, err := p.lines.ReadString('\n')
	if err != nil {
		l.End(p)
		return "", fmt.Errorf("%s ended: %w\n%s", p.name, err, p.Output())
	}
	return strings.TrimSpace(line), nil
}

// End stops a process and waits until it is gone.
func (l *Lab) End(p *Process) {
	p.in.Close()
	_ = p.Signal(stopSignal(p.name))
	select {
	case <-p.Ended():
	case <-time.After(stopTime):
		p.Kill()
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

// Ready waits until the process serves tasks at addr; its own words explain a failure.
func (l *Lab) Ready(ctx context.Context, p *Process, addr string) (*Process, error) {
	p.Addr = addr
	if err := p.awaitTask(ctx); err != nil {
		l.End(p)
		return nil, fmt.Errorf("%s: %w\n%s", p.name, err, p.Output())
	}
	return p, nil
}

// Node starts a Posta node as an operator would, without the line per task.
func (l *Lab) Node(ctx context.Context) (*Process, error) {
	addr, err := freeport.Take()
	if err != nil {
		return nil, err
	}
	p, err := l.start(ctx, "posta node", l.posta, "node", "--listen", addr, "--log-level", "error")
	if err != nil {
		return nil, err
	}
	return l.Ready(ctx, p, addr)
}

// ErrMissing says that a balancer is not installed: its rows are left out.
var ErrMissing = errors.New("not installed")

// Balancer starts one of the three balancers in front of a server, with the configuration that posta prints.
func (l *Lab) Balancer(ctx context.Context, kind, backend string) (*Process, error) {
	addr, err := freeport.Take()
	if err != nil {
		return nil, err
	}
	program, args := l.posta, []string{"balancer", "run", "--listen", addr, "--node", backend, "--log-level", "error"}
	if kind != Builtin {
		if program, err = exec.LookPath(kind); err != nil {
			return nil, fmt.Errorf("%s is %w", kind, ErrMissing)
		}
		if args, err = l.balancerConfig(ctx, kind, addr, backend); err != nil {
			return nil, err
		}
	}
	p, err := l.start(ctx, kind, program, args...)
	if err != nil {
		return nil, err
	}
	return l.Ready(ctx, p, addr)
}

// balancerConfig writes the configuration that posta prints and returns the arguments that use it.
func (l *Lab) balancerConfig(ctx context.Context, kind, addr, backend string) ([]string, error) {
	path := filepath.Join(l.dir, fmt.Sprintf("%s-%d.conf", kind, len(l.running)))
	cmd := exec.CommandContext(ctx, l.posta, "balancer", kind, "--listen", addr, "--node", backend, "--pid-file", path+".pid")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	config, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("posta balancer %s: %w\n%s", kind, err, errs.Bytes())
	}
	if err := os.WriteFile(path, config, 0o600); err != nil {
		return nil, err
	}
	if kind == HAProxy {
		return []string{"-db", "-f", path}, nil
	}
	return []string{"-c", path}, nil
}

// awaitTask returns when the process has answered a task, or with the last reason why it did not.
func (p *Process) awaitTask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	for {
		err := load.OneTask(ctx, p.Addr)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(readyPoll):
		case <-p.Ended():
			return errors.Join(errors.New("the process ended before it served a task"), err)
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("no task was served within %v", readyTime), err)
		}
	}
}

// Ask writes a line to one of our own processes and returns the line that it answers.
func (l *Lab) Ask(p *Process, line string) (string, error) {
	if _, err := io.WriteString(p.in, line+"\n"); err != nil {
		return "", err
	}
	return l.Line(p)
}
