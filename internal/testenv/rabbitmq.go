package testenv

import (
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// rabbitPatience is how long the server may take to start or to stop. On a busy machine it takes half a minute.
const rabbitPatience = 3 * time.Minute

// RabbitMQServer is a private RabbitMQ server on loopback. One goroutine may use it.
type RabbitMQServer struct {
	*Process        // the current process of the server
	URL      string // amqp://guest:guest@HOST:PORT/
	Secure   string // HOST:PORT for TLS; see RabbitMQTLS

	home    string
	scripts string // folder with the inner scripts of the package, which run as any user
	environ []string
	addr    string
	started bool // Control knows that the server has started
}

// RabbitMQ starts a server, which is stopped at the end of the test.
func RabbitMQ(t testing.TB) *RabbitMQServer {
	t.Helper()
	return startRabbit(t, "", "")
}

// RabbitMQTLS starts a server that also speaks TLS, at Secure, with a certificate of the authority for localhost
// but no address. Its clients need a certificate of the authority. The user posta has a password.
func RabbitMQTLS(t testing.TB, ca *Authority, password string) *RabbitMQServer {
	t.Helper()
	issued, secure := ca.Issue(t, "rabbitmq", "localhost"), FreeAddr(t)
	s := startRabbit(t, secure, fmt.Sprintf("listeners.ssl.1 = %s\nssl_options.cacertfile = %s\nssl_options.certfile = %s\n"+
		"ssl_options.keyfile = %s\nssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n",
		secure, ca.File, issued.Certificate, issued.Key))
	s.Control(t, "-q", "add_user", "posta", password)
	s.Control(t, "-q", "set_permissions", "posta", ".*", ".*", ".*")
	return s
}

func startRabbit(t testing.TB, secure, settings string) *RabbitMQServer {
	t.Helper()
	NeedTime(t, serverTime)
	Need(t, "rabbitmqctl", "epmd")
	scripts, err := rabbitScripts()
	if err != nil {
		missing(t, fmt.Sprintf("needs rabbitmq-server: %v (make setup installs it)", err))
	}
	s := &RabbitMQServer{home: t.TempDir(), scripts: scripts, addr: FreeAddr(t), Secure: secure}
	s.URL = "amqp://guest:guest@" + s.addr + "/"
	epmd := FreeAddr(t)
	s.environ = append(os.Environ(), s.settings(port(t, epmd), port(t, FreeAddr(t)))...)
	for name, text := range map[string]string{
		".erlang.cookie": rand.Text(), "enabled_plugins": "[].", "rabbitmq.conf": "loopback_users.guest = true\n" + settings,
	} {
		if err := os.WriteFile(filepath.Join(s.home, name), []byte(text), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	// Otherwise the server starts one that outlives it.
	mapper, err := locate("epmd")
	if err != nil {
		t.Fatal(err)
	}
	StartCommand(t, exec.Command(mapper, "-address", "127.0.0.1", "-port", port(t, epmd))).await(t, epmd)
	s.Again(t)
	return s
}

// Addr returns the address on which it listens.
func (s *RabbitMQServer) Addr() string { return s.addr }

// rabbitScripts returns the folder of the inner scripts, which the wrappers on the PATH call.
func rabbitScripts() (string, error) {
	for _, pattern := range []string{"/usr/lib/rabbitmq/bin", "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin"} {
		found, err := filepath.Glob(filepath.Join(pattern, "rabbitmq-server"))
		if err == nil && len(found) > 0 {
			return filepath.Dir(found[0]), nil
		}
	}
	return "", fmt.Errorf("its scripts are not in /usr/lib/rabbitmq")
}

// settings returns an environment in which the server uses nothing else of the machine.
func (s *RabbitMQServer) settings(epmd, distribution string) []string {
	in := func(name string) string { return filepath.Join(s.home, name) }
	_, amqp, _ := net.SplitHostPort(s.addr)
	const loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
	return []string{
		"HOME=" + s.home, "ERL_CRASH_DUMP=/dev/null", "ERL_EPMD_PORT=" + epmd, "ERL_EPMD_ADDRESS=127.0.0.1",
		"RABBITMQ_CONF_ENV_FILE=/dev/null", "RABBITMQ_NODENAME=rabbit" + amqp + "@localhost",
		"RABBITMQ_NODE_IP_ADDRESS=127.0.0.1", "RABBITMQ_NODE_PORT=" + amqp, "RABBITMQ_DIST_PORT=" + distribution,
		"RABBITMQ_CONFIG_FILE=" + in("rabbitmq.conf"), "RABBITMQ_ADVANCED_CONFIG_FILE=" + in("none.config"),
		"RABBITMQ_ENABLED_PLUGINS_FILE=" + in("enabled_plugins"), "RABBITMQ_MNESIA_BASE=" + in("mnesia"),
		"RABBITMQ_LOG_BASE=" + in("log"), "RABBITMQ_PID_FILE=" + in("pid"),
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=" + loopback + " +S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
		"RABBITMQ_CTL_ERL_ARGS=" + loopback,
	}
}

func port(t testing.TB, addr string) string {
	t.Helper()
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Again starts the server again with its data, and waits until it accepts connections.
func (s *RabbitMQServer) Again(t testing.TB) {
	t.Helper()
	command := exec.Command(filepath.Join(s.scripts, "rabbitmq-server"))
	command.Env = s.environ
	// The script starts the Erlang machine. Both end with their process group.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	s.Process = StartCommand(t, command)
	t.Cleanup(func() { s.end(t, syscall.SIGKILL) }) // runs before the cleanup of StartCommand
	Eventually(t, rabbitPatience, func() error {
		if s.HasEnded() {
			t.Fatalf("rabbitmq-server has ended:\n%s", s.Output())
		}
		return Accepts(s.addr)() // it listens at the end of its start
	})
	s.started = false
}

// Stop ends the server like a supervisor.
func (s *RabbitMQServer) Stop(t testing.TB) {
	t.Helper()
	s.end(t, syscall.SIGTERM)
}

// Kill ends the server like a loss of power.
func (s *RabbitMQServer) Kill(t testing.TB) {
	t.Helper()
	s.end(t, syscall.SIGKILL)
}

// end ends the server and waits for its end.
func (s *RabbitMQServer) end(t testing.TB, signal syscall.Signal) {
	t.Helper()
	if s.HasEnded() {
		return
	}
	if text, err := os.ReadFile(filepath.Join(s.home, "pid")); err == nil && signal == syscall.SIGTERM {
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			_ = syscall.Kill(pid, signal)
		}
	} else {
		_ = syscall.Kill(-s.Pid(), signal)
	}
	s.Wait(t, rabbitPatience)
}

// Pause stops the server without ending it, and returns a function that continues it.
func (s *RabbitMQServer) Pause() (resume func()) {
	group := -s.Pid()
	_ = syscall.Kill(group, syscall.SIGSTOP)
	return func() { _ = syscall.Kill(group, syscall.SIGCONT) }
}

// Wipe deletes the data of the server, which must not be running.
func (s *RabbitMQServer) Wipe(t testing.TB) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(s.home, "mnesia")); err != nil {
		t.Fatal(err)
	}
}

// Control runs rabbitmqctl and returns its output.
func (s *RabbitMQServer) Control(t testing.TB, args ...string) string {
	t.Helper()
	if !s.started { // a client needs no such question, which takes seconds on a busy machine
		s.started = true
		s.Control(t, "-q", "await_startup")
	}
	command := exec.Command(filepath.Join(s.scripts, "rabbitmqctl"), args...)
	command.Env = s.environ
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("rabbitmqctl %v: %v\n%s", args, err, out)
	}
	return string(out)
}
