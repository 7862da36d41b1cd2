package testenv

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startPatience is how long a database may take to start, including its recovery.
const startPatience = time.Minute

// Postgres is a PostgreSQL server for one test, with its data in a temporary directory and its port on loopback. It
// syncs its commits like a real one.
type Postgres struct {
	t    testing.TB
	bin  string
	dir  string
	addr string
	as   *syscall.Credential // nil: the user that runs the test
	more []string            // settings

	mu      sync.Mutex
	process *Process // guarded by mu; the latest one
}

// StartPostgres starts a server with additional settings, such as "max_connections=20", and stops it at the end of
// the test. The server cannot run as root. If the test does, the server runs as postgres.
func StartPostgres(t testing.TB, settings ...string) *Postgres {
	t.Helper()
	p := preparePostgres(t, settings)
	p.Start()
	return p
}

// StartPostgresTLS is StartPostgres for a server that only accepts TLS, with a certificate of the authority for
// localhost but no address. The user posta has a password. The user card authenticates with a certificate of the
// authority with that name.
func StartPostgresTLS(t testing.TB, ca *Authority, password string) *Postgres {
	t.Helper()
	issued := ca.Issue(t, "postgres", "localhost")
	p := preparePostgres(t, nil)
	p.more = []string{"ssl=on", "ssl_cert_file=" + p.own("server.pem", issued.Certificate),
		"ssl_key_file=" + p.own("server.key", issued.Key), "ssl_ca_file=" + p.own("ca.pem", ca.File)}
	p.Start()
	p.run("psql", "-q", "-h", p.dir, "-p", port(t, p.addr), "-U", "posta", "-d", "postgres", "-c",
		"ALTER USER posta PASSWORD '"+password+"'", "-c", "CREATE USER card SUPERUSER")
	rules := "local all all trust\nhostssl all card 127.0.0.0/8 cert\nhostssl all all 127.0.0.0/8 scram-sha-256\n"
	if err := os.WriteFile(filepath.Join(p.data(), "pg_hba.conf"), []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	p.latest().Signal(syscall.SIGHUP)
	return p
}

// own copies a file for the user of the server.
func (p *Postgres) own(name, from string) string {
	p.t.Helper()
	to := filepath.Join(p.dir, name)
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, text, 0o600)
	}
	if err == nil && p.as != nil {
		err = os.Chown(to, int(p.as.Uid), int(p.as.Gid))
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return to
}

// preparePostgres creates everything that a server needs.
func preparePostgres(t testing.TB, settings []string) *Postgres {
	t.Helper()
	NeedTime(t, serverTime)
	bin, err := postgresBin()
	if err != nil {
		missing(t, fmt.Sprintf("needs PostgreSQL: %v (make setup installs it)", err))
	}
	p := &Postgres{t: t, bin: bin, addr: FreeAddr(t), more: settings}
	if os.Getuid() == 0 {
		if p.as, err = credential("postgres"); err != nil {
			missing(t, fmt.Sprintf("needs PostgreSQL: %v", err))
		}
	}
	if p.dir, err = openDir(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(p.dir) })
	if p.as != nil {
		if err := os.Chown(p.dir, int(p.as.Uid), int(p.as.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	p.run("initdb", "-D", p.data(), "-U", "posta", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
	return p
}

// openDir creates a directory that another user can read. Directories of testing are private.
func openDir() (string, error) { return os.MkdirTemp("", "posta-postgres-") }

// URL returns the URL of its database. Parameters may be appended.
func (p *Postgres) URL() string { return "postgres://posta@" + p.addr + "/postgres?sslmode=disable" }

// Addr returns the address on which it listens.
func (p *Postgres) Addr() string { return p.addr }

// Pid returns the id of the current main process. The processes for connections are its children.
func (p *Postgres) Pid() int { return p.latest().Pid() }

func (p *Postgres) data() string { return filepath.Join(p.dir, "data") }

// Start starts the server again after Kill or Stop, and waits until it accepts connections.
func (p *Postgres) Start() {
	p.t.Helper()
	_, port, err := net.SplitHostPort(p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	args := []string{"-D", p.data(), "-p", port, "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=" + p.dir}
	for _, setting := range p.more {
		args = append(args, "-c", setting)
	}
	process := StartCommand(p.t, p.command("postgres", args...))
	// The data is not needed any more, so the server ends without a checkpoint, which takes long on a busy disk,
	// and without waiting for its clients.
	p.t.Cleanup(func() { process.Signal(syscall.SIGQUIT) })
	p.mu.Lock()
	p.process = process
	p.mu.Unlock()
	Eventually(p.t, startPatience, func() error {
		if process.HasEnded() {
			p.t.Fatalf("PostgreSQL has ended:\n%s", process.Output())
		}
		out, err := p.command("pg_isready", "-q", "-h", "127.0.0.1", "-p", port).CombinedOutput()
		if err != nil {
			return fmt.Errorf("PostgreSQL is not ready: %w %s", err, out)
		}
		return nil
	})
}

// Stop stops the server like an operator who does not wait for clients.
func (p *Postgres) Stop() {
	p.t.Helper()
	process := p.latest()
	process.Signal(syscall.SIGINT)
	process.Wait(p.t, startPatience)
}

// Kill kills the server and all its processes with SIGKILL, like a loss of power.
func (p *Postgres) Kill() {
	p.t.Helper()
	process := p.latest()
	process.Signal(syscall.SIGSTOP) // then it starts no more of them
	workers := children(process.Pid())
	for _, pid := range append(workers, process.Pid()) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	process.Wait(p.t, startPatience)
	// The server cannot start again while one of its processes lives.
	Eventually(p.t, startPatience, func() error {
		if i := slices.IndexFunc(workers, lives); i >= 0 {
			return fmt.Errorf("process %d of PostgreSQL is still there", workers[i])
		}
		return nil
	})
}

// lives reports whether a process exists and has not ended, according to /proc.
func lives(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	state := strings.TrimSpace(string(text[bytes.LastIndexByte(text, ')')+1:]))
	return state != "" && state[0] != 'Z' && state[0] != 'X'
}

// Pause stops the server and all its processes until Resume.
func (p *Postgres) Pause() { p.signalAll(syscall.SIGSTOP) }

// Resume continues a paused server.
func (p *Postgres) Resume() { p.signalAll(syscall.SIGCONT) }

func (p *Postgres) signalAll(signal syscall.Signal) {
	process := p.latest()
	for _, pid := range append([]int{process.Pid()}, children(process.Pid())...) {
		_ = syscall.Kill(pid, signal)
	}
}

func (p *Postgres) latest() *Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.process
}

// children returns the child processes of a process, according to /proc.
func children(parent int) (pids []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		// The name, in parentheses, may contain any character.
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// run runs one of the programs of PostgreSQL to its end.
func (p *Postgres) run(program string, args ...string) {
	p.t.Helper()
	if out, err := p.command(program, args...).CombinedOutput(); err != nil {
		p.t.Fatalf("%s: %v\n%s", program, err, out)
	}
}

func (p *Postgres) command(program string, args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(p.bin, program), args...)
	c.Dir = p.dir
	if p.as != nil {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: p.as}
	}
	return c
}

// postgresBin returns the directory of the newest installed server. Debian installs it outside of the PATH.
func postgresBin() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		return n
	}
	slices.SortFunc(found, func(a, b string) int { return version(a) - version(b) })
	if len(found) > 0 {
		return filepath.Dir(found[len(found)-1]), nil
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		return "", errors.New("there is no initdb")
	}
	return filepath.Dir(path), nil
}

// credential returns the ids of an account.
func credential(name string) (*syscall.Credential, error) {
	account, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}
