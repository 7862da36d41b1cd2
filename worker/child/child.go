// Package child starts workers as processes of their own, and keeps them running. The standard input and output of a
// child carry the lines of the protocol, and its standard error goes to the log:
//
//	start ──→ serve ──→ it ends ──────────────────────────────────→ kill the group, reap ──→ wait ──→ start
//	            └─ drain, or its lines are over ──→ TERM ──→ KILL ──↗                           (1–30 s)
//
// A child is drained before it gets SIGTERM: nothing more is pushed to it, and it may finish what it holds.
package child

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/posta-tasks/posta/internal/procgroup"
)

const (
	// exitWait is how long a child may take to end by itself after its lines are over, and killAfter how long after
	// SIGTERM.
	exitWait  = 2 * time.Second
	killAfter = 5 * time.Second
	// outputWait is how long the lines of a child that has died are read on, if a process that has left its group still
	// has them open.
	outputWait = 2 * time.Second
	// silentAfter is when the log says that a child has sent no work request.
	silentAfter = 30 * time.Second
	// firstPause and lastPause are the pauses before a child that has ended starts again. After a life of lastPause
	// the next one is firstPause again.
	firstPause, lastPause = time.Second, 30 * time.Second
)

// Program is what children run.
type Program struct {
	Name    string   // a child's name is this, a hyphen and a number from 1
	Path    string   // the absolute path of the program
	Args    []string // the program's name, then its arguments
	Dir     string   // working directory; "": that of this process
	Env     []string // NAME=VALUE
	Home    bool     // each child gets an empty directory as HOME
	Secrets []string // values that the log must not contain
	Count   int      // how many children run it at once
	Version int      // children are replaced when it changes, or anything else
}

// Lines serves the lines of a child until they are over, or ctx ends. joined must be called when the child asks for work.
// When drain is closed, nothing more is pushed, and the lines end when the child holds nothing.
type Lines func(ctx context.Context, conn net.Conn, name string, joined func(), drain <-chan struct{})

// Supervisor keeps children running. Its methods are safe for concurrent use.
type Supervisor struct {
	lines   Lines
	logger  *slog.Logger
	timeout time.Duration // of a drain
	starter *procgroup.Starter
	pause   func(n int, lived time.Duration) time.Duration
	patient time.Duration // exitWait
	silent  time.Duration // silentAfter

	mu       sync.Mutex // guards the fields below
	held     bool       // nothing starts any more
	hold     chan struct{}
	programs []*group
	running  sync.WaitGroup
}

// group is the children of a program.
type group struct {
	Program
	drain chan struct{} // closed when they must end
}

// New returns a Supervisor without children. drain is how long a child may take to finish what it holds when it has to end.
// The caller calls Close.
func New(lines Lines, drain time.Duration, logger *slog.Logger) *Supervisor {
	return &Supervisor{
		lines: lines, logger: logger, timeout: drain, starter: procgroup.NewStarter(), pause: pauseAfter, patient: exitWait, silent: silentAfter,
		hold: make(chan struct{}),
	}
}

// Set runs the children of these programs. The children of unchanged programs continue. The others are drained, and their
// successors start at once. After Hold it does nothing.
func (s *Supervisor) Set(programs []Program) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held {
		return
	}
	var kept []*group
	for _, g := range s.programs {
		if slices.ContainsFunc(programs, func(p Program) bool { return reflect.DeepEqual(p, g.Program) }) {
			kept = append(kept, g)
		} else {
			close(g.drain)
		}
	}
	for _, p := range programs {
		if slices.ContainsFunc(kept, func(g *group) bool { return reflect.DeepEqual(p, g.Program) }) {
			continue
		}
		g := &group{p, make(chan struct{})}
		kept = append(kept, g)
		for i := range p.Count {
			s.running.Go(func() { s.keep(g, p.Name+"-"+strconv.Itoa(i+1)) })
		}
	}
	s.programs = kept
}

// Hold keeps the Supervisor from starting more children. Running ones continue.
func (s *Supervisor) Hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.held {
		s.held = true
		close(s.hold)
	}
}

// Close drains all children and waits for their end.
func (s *Supervisor) Close() {
	s.Hold()
	s.mu.Lock()
	for _, g := range s.programs {
		close(g.drain)
	}
	s.programs = nil
	s.mu.Unlock()
	s.running.Wait()
	s.starter.Close()
}

// keep has a child run until it is drained, or nothing starts any more.
func (s *Supervisor) keep(g *group, name string) {
	logger := s.logger.With("worker", name)
	for n := 0; ; {
		began := time.Now()
		how, err := s.run(g, name, logger)
		select {
		case <-g.drain:
			logger.Info("the worker has ended", "how", how)
			return
		case <-s.hold:
			logger.Info("the worker has ended", "how", how)
			return
		default:
		}
		lived := time.Since(began)
		pause := s.pause(n, lived)
		if n++; lived >= lastPause {
			n = 1
		}
		if err != nil {
			logger.Error("the worker cannot be started", "error", err, "again_s", pause.Seconds())
		} else {
			logger.Warn("the worker has ended; it starts again", "how", how, "lived_s", lived.Round(time.Millisecond).Seconds(), "again_s", pause.Seconds())
		}
		select {
		case <-time.After(pause):
		case <-g.drain:
			return
		case <-s.hold:
			return
		}
	}
}

// pauseAfter returns the pause before the next start of a child that has ended n times before without a long life.
func pauseAfter(n int, lived time.Duration) time.Duration {
	if lived >= lastPause {
		n = 0
	}
	return min(firstPause<<min(n, 5), lastPause)
}

// pipes are the ends of the pipes of a child.
type pipes struct{ in, out, err, childIn, childOut, childErr *os.File }

func newPipes() (p pipes, err error) {
	for _, pair := range [][2]**os.File{{&p.childIn, &p.in}, {&p.out, &p.childOut}, {&p.err, &p.childErr}} {
		if *pair[0], *pair[1], err = os.Pipe(); err != nil {
			closeAll(p.in, p.out, p.err, p.childIn, p.childOut, p.childErr)
			return p, err
		}
	}
	return p, nil
}

func closeAll(files ...*os.File) {
	for _, file := range files {
		if file != nil {
			_ = file.Close()
		}
	}
}

// run starts a child, serves it, and returns how it ended. The error says why it could not start.
func (s *Supervisor) run(g *group, name string, logger *slog.Logger) (how string, err error) {
	env := append(slices.Clone(g.Env), "POSTA_WORKER_NAME="+name)
	if g.Home {
		home, err := os.MkdirTemp("", "posta-worker-")
		if err != nil {
			return "", fmt.Errorf("no home directory can be made: %w", err)
		}
		defer func() { _ = os.RemoveAll(home) }()
		env = append([]string{"HOME=" + home}, env...)
	}
	p, err := newPipes()
	if err != nil {
		return "", err
	}
	process, err := s.starter.Start(context.Background(), &exec.Cmd{
		Path: g.Path, Args: g.Args, Dir: g.Dir, Env: env, Stdin: p.childIn, Stdout: p.childOut, Stderr: p.childErr,
	})
	closeAll(p.childIn, p.childOut, p.childErr)
	if err != nil {
		closeAll(p.in, p.out, p.err)
		return "", err
	}
	logger.Info("the worker has started", "pid", process.Pid())
	serving, end := context.WithCancel(context.Background())
	defer end()
	joined, over, reported := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		conn := &conn{in: p.in, out: p.out, name: name}
		s.lines(serving, conn, name, sync.OnceFunc(func() { close(joined) }), g.drain)
		_ = conn.Close()
	}()
	go func() {
		defer close(reported)
		report(p.err, g.Secrets, logger)
	}()
	s.await(g, process, joined, over, logger)
	how = howEnded(process.Reap())
	patience := time.NewTimer(outputWait)
	defer patience.Stop()
	for _, one := range []struct {
		done <-chan struct{}
		stop func()
	}{{over, end}, {reported, func() { _ = p.err.Close() }}} {
		select {
		case <-one.done:
		case <-patience.C:
			patience.Reset(0)
			one.stop()
			<-one.done
		}
	}
	closeAll(p.err)
	return how, nil
}

// await waits for the end of a child, and ends it if it must: when its lines are over, and when it does not finish what it
// holds after it was asked to.
func (s *Supervisor) await(g *group, process *procgroup.Process, joined, over <-chan struct{}, logger *slog.Logger) {
	silent := time.AfterFunc(s.silent, func() {
		logger.Warn("the worker has sent no work request yet; its first line is {\"op\":\"work\",\"actions\":[…]}, and it must not be kept in a buffer")
	})
	defer silent.Stop()
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	drain, signal, patience := g.drain, syscall.SIGTERM, killAfter
	for {
		select {
		case <-process.Ended():
			return
		case <-joined:
			silent.Stop()
			joined = nil
		case <-drain:
			timer.Reset(s.timeout)
			drain = nil
		case <-over:
			timer.Reset(s.patient)
			over, drain = nil, nil
		case <-timer.C:
			process.Signal(signal)
			timer.Reset(patience)
			signal, drain = syscall.SIGKILL, nil
		}
	}
}

// howEnded says how a program ended.
func howEnded(err error) string {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "exit status 0"
	case errors.As(err, &exit):
		return exit.Error()
	}
	return err.Error()
}

// NameOf returns the name of children from their command line: that of the script, if there is one.
func NameOf(words []string) string {
	name := words[0]
	for _, word := range words[1:] {
		if strings.HasPrefix(word, "-") {
			continue
		}
		if info, err := os.Stat(word); err == nil && info.Mode().IsRegular() {
			name = word
		}
		break
	}
	return filepath.Base(name)
}
