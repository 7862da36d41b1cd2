// Package lab starts and ends the programs that are measured, each in a separate process: posta from the tree, the
// balancers with the configurations that posta prints, and this binary with another verb.
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
	// readyTime is how long a process may take until it answers its first task.
	readyTime = 20 * time.Second
	readyPoll = 50 * time.Millisecond
)

// Lab owns the processes and files of a run. One goroutine may use it.
type Lab struct {
	dir      string // temporary; removed by Close
	self     string // this binary, which is also the bare server and the idlers
	posta    string // the posta binary
	progress io.Writer
	running  []*Process
	cleanups []func() // for servers; Close calls the last one first
	stages   int      // directories of servers
}

// Process is a program that is measured, or a balancer.
type Process struct {
	*process.Process
	// Addr is the address for tasks.
	Addr string
	name string
	in   io.WriteCloser // our own processes end when it is closed
	// lines and pipe are the standard output of our own processes; nil for others.
	lines *bufio.Reader
	pipe  io.Closer
}

// New returns a lab that reports its progress line by line. The caller closes it.
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

// Quote ends the programs and returns their output, to explain a failure.
func (l *Lab) Quote() {
	for _, p := range slices.Clone(l.running) {
		l.End(p)
		if out := p.Output(); out != "" {
			l.Say("%s printed:\n%s", p.name, out[:min(len(out), quoted)])
		}
	}
}

// quoted is how much output of a program is returned.
const quoted = 4 << 10

// Close stops everything that still runs and removes the files.
func (l *Lab) Close() {
	l.EndAll()
	for len(l.cleanups) > 0 {
		last := len(l.cleanups) - 1
		do := l.cleanups[last]
		l.cleanups = l.cleanups[:last]
		_ = l.stage(func(testing.TB) { do() }) // the failure of a server to end was reported, and it is killed
	}
	os.RemoveAll(l.dir)
}

// EndAll stops all running programs, the last one first.
func (l *Lab) EndAll() {
	for len(l.running) > 0 {
		l.End(l.running[len(l.running)-1])
	}
}

// Say reports progress.
func (l *Lab) Say(format string, args ...any) {
	fmt.Fprintf(l.progress, format+"\n", args...)
}

// Build compiles posta from the tree of the working directory, unless a binary was given.
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

// start starts a program and adds it to the lab. Its output is kept, in case it fails.
func (l *Lab) start(ctx context.Context, name, program string, args ...string) (*Process, error) {
	p := &Process{name: name}
	return p, l.launch(p, l.command(ctx, name, program, args...))
}

// StartSelf starts this binary with another verb. Its output can be read line by line.
func (l *Lab) StartSelf(ctx context.Context, verb string, args ...string) (*Process, error) {
	return l.talk(l.command(ctx, verb, l.self, append([]string{verb}, args...)...), verb)
}

// talk starts a program of ours whose standard output is read line by line.
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

// command returns a command that is stopped when the context ends.
func (l *Lab) command(ctx context.Context, name, program string, args ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, program, args...)
	command.Cancel = func() error { return command.Process.Signal(stopSignal(name)) }
	command.WaitDelay = stopTime
	return command
}

// stopSignal returns the signal that ends a process. Our own processes may be killed. To kill the master of Nginx
// would leave its workers running.
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

// Line returns the next line of one of our own processes. If the process has ended instead, the error has its
// reason.
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

// Ready waits until the process answers tasks at addr. The error includes its output.
func (l *Lab) Ready(ctx context.Context, p *Process, addr string) (*Process, error) {
	p.Addr = addr
	if err := p.awaitTask(ctx); err != nil {
		l.End(p)
		return nil, fmt.Errorf("%s: %w\n%s", p.name, err, p.Output())
	}
	return p, nil
}

// Node starts a Posta node like an operator, without a line for each task.
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

// ErrMissing says that a balancer is not installed. Its rows are left out.
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

// awaitTask waits until the process has answered a task. The error is the reason of the last attempt.
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

// Ask writes a line to one of our own processes and returns its answer.
func (l *Lab) Ask(p *Process, line string) (string, error) {
	if _, err := io.WriteString(p.in, line+"\n"); err != nil {
		return "", err
	}
	return l.Line(p)
}
