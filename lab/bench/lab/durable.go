package lab

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/internal/testenv/freeport"
)

// listenPoll is short, since the time of the wait is measured.
const listenPoll = 5 * time.Millisecond

// quitTime is how long a server may take to end.
const quitTime = 60 * time.Second

// Dir creates an empty directory for the data of a server.
func (l *Lab) Dir(name string) (string, error) {
	dir := filepath.Join(l.dir, name)
	return dir, os.MkdirAll(dir, 0o700)
}

// Keeper starts a Posta node with a store in a directory. It returns before the node serves.
func (l *Lab) Keeper(ctx context.Context, dir string) (*Process, error) {
	return l.serve(ctx, "posta node", l.posta, func(addr string) []string {
		return []string{
			"node", "--listen", addr, "--store", "sqlite://" + filepath.Join(dir, "posta.db"),
			"--drain-delay", "0s", "--log-level", "error",
		}
	})
}

// Up starts `posta up` with a data directory. It returns before the nodes serve.
func (l *Lab) Up(ctx context.Context, dir string) (*Process, error) {
	return l.serve(ctx, "posta up", l.posta, func(addr string) []string {
		return []string{
			"up", "--listen", addr, "--nodes", "127.0.0.1:0,127.0.0.1:0,127.0.0.1:0", "--data", dir, "--log-level", "error",
		}
	})
}

// Served waits until a task is answered.
func (l *Lab) Served(ctx context.Context, p *Process) error {
	_, err := l.Ready(ctx, p, p.Addr)
	return err
}

// Beanstalkd starts beanstalkd with additional flags. It returns when it listens.
func (l *Lab) Beanstalkd(ctx context.Context, flags ...string) (*Process, error) {
	return l.server(ctx, "beanstalkd", func(host, port string) []string {
		return append([]string{"-l", host, "-p", port}, flags...)
	})
}

// Redis starts a Redis server that syncs each write to a directory. It returns when it listens.
func (l *Lab) Redis(ctx context.Context, dir string) (*Process, error) {
	return l.server(ctx, "redis-server", func(host, port string) []string {
		return []string{"--bind", host, "--port", port, "--dir", dir, "--appendonly", "yes", "--appendfsync", "always", "--save", ""}
	})
}

// serve starts a program with the address on which it must listen.
func (l *Lab) serve(ctx context.Context, name, program string, args func(addr string) []string) (*Process, error) {
	addr, err := freeport.Take()
	if err != nil {
		return nil, err
	}
	p, err := l.start(ctx, name, program, args(addr)...)
	if err != nil {
		return nil, err
	}
	p.Addr = addr
	return p, nil
}

// server starts another server and waits until it listens.
func (l *Lab) server(ctx context.Context, name string, args func(host, port string) []string) (*Process, error) {
	program, err := exec.LookPath(name)
	if err != nil {
		return nil, fmt.Errorf("%s is %w: scripts/setup-bench.sh installs it", name, ErrMissing)
	}
	p, err := l.serve(ctx, name, program, func(addr string) []string {
		host, port, _ := net.SplitHostPort(addr)
		return args(host, port)
	})
	if err != nil {
		return nil, err
	}
	return p, l.Listens(ctx, p)
}

// Listens waits until a program accepts connections at the address.
func (l *Lab) Listens(ctx context.Context, p *Process) error {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "tcp", p.Addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-time.After(listenPoll):
		case <-p.Ended():
			return fmt.Errorf("%s ended: %w\n%s", p.name, err, p.Output())
		case <-ctx.Done():
			l.End(p)
			return fmt.Errorf("%s does not listen after %v: %w\n%s", p.name, readyTime, err, p.Output())
		}
	}
}

// BuildPeers compiles the clients of the peers. Peer starts the binary.
func (l *Lab) BuildPeers(ctx context.Context) (string, error) {
	root, err := testenv.FindRoot()
	if err != nil {
		return "", err
	}
	l.Say("building the peers' clients")
	program := filepath.Join(l.dir, "peers")
	cmd := exec.CommandContext(ctx, "go", "build", "-C", filepath.Join(root, "lab", "bench", "peers"), "-o", program, ".")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build -C lab/bench/peers: %w\n%s", err, out)
	}
	return program, nil
}

// Peer starts the client of a peer and waits until it says that it is ready.
func (l *Lab) Peer(ctx context.Context, program, kind, place string) (*Process, error) {
	name := "peers " + kind
	p, err := l.talk(l.command(ctx, name, program, kind, place), name)
	if err != nil {
		return nil, err
	}
	if line, err := l.Line(p); err != nil || line != "ready" {
		return nil, fmt.Errorf("%s said %q: %w", p.name, line, err)
	}
	return p, nil
}

// Freeze stops a process, so that it uses no time while another one is measured. Thaw continues it.
func (p *Process) Freeze() error { return p.Signal(syscall.SIGSTOP) }

// Thaw continues a frozen process.
func (p *Process) Thaw() error { return p.Signal(syscall.SIGCONT) }

// Quit asks a process to end and waits for its end.
func (l *Lab) Quit(p *Process) error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	var err error
	select {
	case <-p.Ended():
	case <-time.After(quitTime):
		err = fmt.Errorf("%s did not end within %v", p.name, quitTime)
	}
	l.End(p)
	return err
}
