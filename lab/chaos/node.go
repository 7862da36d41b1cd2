package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/posta-tasks/posta/internal/process"
	"github.com/posta-tasks/posta/lab/chaos/history"
)

const (
	// restartAfter is the time between the end of a process and its next start.
	restartAfter = 20 * time.Millisecond
	// lookAgain is the time between two attempts to connect to a process that starts.
	lookAgain = 5 * time.Millisecond
	// defaultStillborn is how many starts in a row may end, by themselves, before they accept connections.
	defaultStillborn = 20
	// grace is how long a process may take to end after SIGTERM.
	grace = 30 * time.Second
)

// nodeConfig configures a node.
type nodeConfig struct {
	Name     string
	Binary   string       // posta, built with the tag chaos
	Addr     string       // its address, the same after each start; "": it is a worker
	Args     []string     // of posta
	Env      []string     // additional environment
	Logs     string       // the directory for its output, a file for each start
	Happened *history.Log // records starts and deaths

	// Stillborn is how many starts in a row may end before they accept connections, as those do that find
	// no store; 0: defaultStillborn.
	Stillborn int
}

// node is a process of posta that is started again whenever it ends, as by a supervisor. It can be killed, paused
// and restarted, and it records its starts and deaths. Its methods are safe for concurrent use.
type node struct {
	config nodeConfig

	mu      sync.Mutex // guards the fields below
	process *process.Process
	boots   int
	once    []string      // environment of the next start only
	up      chan struct{} // closed when the current process accepts connections, or has ended
	serving bool          // it accepts connections
	ended   chan struct{} // closed when the current process has ended
}

// newNode returns a node that run starts.
func newNode(config nodeConfig) *node {
	return &node{config: config, up: make(chan struct{}), ended: make(chan struct{})}
}

// run keeps the process alive until ctx ends, and then ends it with SIGTERM. It is an error if the process cannot
// be started.
func (n *node) run(ctx context.Context) error {
	failed, most := 0, cmp.Or(n.config.Stillborn, defaultStillborn)
	for ctx.Err() == nil {
		served, err := n.boot(ctx)
		if failed++; served {
			failed = 0
		}
		if err != nil {
			return err
		}
		if failed == most {
			return fmt.Errorf("%s ended %d times before it accepted connections; see %s", n.config.Name, failed, n.config.Logs)
		}
		pause(ctx, restartAfter)
	}
	return nil
}

// boot starts the process once and returns when it has ended.
func (n *node) boot(ctx context.Context) (served bool, err error) {
	log, err := os.Create(filepath.Join(n.config.Logs, fmt.Sprintf("%s-%04d.log", n.config.Name, n.next())))
	if err != nil {
		return false, err
	}
	defer log.Close()
	command := exec.CommandContext(context.WithoutCancel(ctx), n.config.Binary, n.config.Args...)
	command.Stdout, command.Stderr = log, log
	n.mu.Lock()
	command.Env = append(append(os.Environ(), n.config.Env...), n.once...)
	n.once = nil
	p, err := process.Start(command, syscall.SIGKILL)
	if err != nil {
		n.mu.Unlock()
		return false, err
	}
	n.process, n.serving = p, false
	up, ended := n.up, n.ended
	n.mu.Unlock()

	live, stop := context.WithCancel(ctx)
	defer stop()
	go n.greet(live, up, p.Pid())
	go n.dismiss(ctx, ended)
	state := p.State()
	stop()
	return n.buried(state), nil
}

// next counts a start.
func (n *node) next() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.boots++
	return n.boots
}

// greet waits until the process accepts connections, and records this.
func (n *node) greet(ctx context.Context, up chan struct{}, pid int) {
	for ctx.Err() == nil {
		if !n.accepts(ctx) {
			pause(ctx, lookAgain)
			continue
		}
		n.mu.Lock()
		mine := n.up == up
		if mine {
			n.serving = true
			close(up)
			n.up = nil
		}
		n.mu.Unlock()
		if mine {
			n.note(history.Up, pid, "")
		}
		return
	}
}

// accepts reports whether the process accepts connections, or is a worker.
func (n *node) accepts(ctx context.Context) bool {
	if n.config.Addr == "" {
		return true
	}
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", n.config.Addr)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// dismiss ends the process at the end of the run: with SIGTERM, and after the grace period with SIGKILL.
func (n *node) dismiss(ctx context.Context, ended chan struct{}) {
	select {
	case <-ended:
		return
	case <-ctx.Done():
	}
	_ = n.signal(syscall.SIGCONT)
	_ = n.signal(syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(grace):
		_ = n.signal(syscall.SIGKILL)
	}
}

// buried records a death and prepares the next start.
func (n *node) buried(state *os.ProcessState) bool {
	n.mu.Lock()
	served := n.serving
	if n.up != nil {
		close(n.up)
	}
	close(n.ended)
	n.process, n.serving = nil, false
	n.up, n.ended = make(chan struct{}), make(chan struct{})
	n.mu.Unlock()
	n.note(history.Death, state.Pid(), state.String())
	return served
}

func (n *node) note(what string, pid int, note string) {
	n.config.Happened.Add(history.Occurrence{At: time.Now().UnixNano(), What: what, Target: n.config.Name, PID: pid, Worker: n.config.Addr == "", Note: note})
}

// signal sends a signal to the current process. It fails if there is none.
func (n *node) signal(signal os.Signal) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process == nil {
		return errors.New("no process")
	}
	return n.process.Signal(signal)
}

// pid returns the id of the current process, or 0 if there is none.
func (n *node) pid() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process == nil {
		return 0
	}
	return n.process.Pid()
}

// kill kills the current process, or the next one if there is none, and returns when it has ended.
func (n *node) kill(ctx context.Context) error {
	for ctx.Err() == nil {
		n.mu.Lock()
		running, ended := n.process, n.ended
		n.mu.Unlock()
		if running != nil && running.Signal(syscall.SIGKILL) == nil {
			return await(ctx, ended)
		}
		pause(ctx, lookAgain)
	}
	return ctx.Err()
}

// restart ends the current process with SIGTERM, or after the grace period with SIGKILL, and returns when it has
// ended.
func (n *node) restart(ctx context.Context) error {
	if err := n.awaitUp(ctx); err != nil {
		return err
	}
	n.mu.Lock()
	ended := n.ended
	n.mu.Unlock()
	_ = n.signal(syscall.SIGTERM)
	limited, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	if await(limited, ended) == nil {
		return nil
	}
	_ = n.signal(syscall.SIGKILL)
	return await(ctx, ended)
}

// pause stops the current process with SIGSTOP for d.
func (n *node) pause(ctx context.Context, d time.Duration) error {
	if err := n.awaitUp(ctx); err != nil {
		return err
	}
	_ = n.signal(syscall.SIGSTOP)
	pause(ctx, d)
	_ = n.signal(syscall.SIGCONT)
	return ctx.Err()
}

// onNextStart adds environment for the next start only.
func (n *node) onNextStart(env ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.once = env
}

// awaitUp waits until a process accepts connections.
func (n *node) awaitUp(ctx context.Context) error {
	for ctx.Err() == nil {
		n.mu.Lock()
		serving, up := n.serving, n.up
		n.mu.Unlock()
		if serving {
			return nil
		}
		if err := await(ctx, up); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// awaitEnd waits until the next start, or the current process, has ended by itself. It returns false after the time
// limit.
func (n *node) awaitEnd(ctx context.Context, d time.Duration) bool {
	n.mu.Lock()
	ended := n.ended
	n.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return await(ctx, ended) == nil
}

func await(ctx context.Context, done <-chan struct{}) error {
	if done == nil {
		return nil
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
