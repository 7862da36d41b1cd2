package chaos_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/posta-tasks/posta/balancer"
	"github.com/posta-tasks/posta/internal/faultproxy"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/lab/chaos"
	"github.com/posta-tasks/posta/lab/chaos/schedule"
)

const (
	// slowness is how long everything takes on a slow link, one way.
	slowness = 100 * time.Millisecond
	// nodes is how many there are.
	nodes = 3
	// serving is how long a balancer may take to listen.
	serving = time.Minute
)

// servers are what the nodes of a cluster share, and what is between them and the nodes.
type servers struct {
	db        *testenv.Postgres
	rabbit    *testenv.RabbitMQServer
	s3        *testenv.S3Server
	before    *faultproxy.Store             // the S3 server
	links     map[string][]*faultproxy.Link // by the server at their end, and by node and server
	balancers map[string]*front
}

// front is a balancer.
type front struct {
	addr   string
	args   []string
	reload syscall.Signal
	now    *testenv.Process
}

// newServers starts the servers, and the balancers before nodes that somebody else starts: it gives the cluster
// of these. All ends with the test.
func newServers(t *testing.T) (*servers, *chaos.Cluster) {
	t.Helper()
	testenv.Need(t, "haproxy", "nginx", "rabbitmqctl", "versitygw")
	s := &servers{
		db: testenv.StartPostgres(t), rabbit: testenv.RabbitMQ(t), s3: testenv.S3(t),
		links: map[string][]*faultproxy.Link{}, balancers: map[string]*front{},
	}
	s.s3.Bucket(t, "bodies")
	var err error
	if s.before, err = faultproxy.NewStore(strings.TrimPrefix(s.s3.Endpoint, "http://")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.before.Close)
	c := &chaos.Cluster{
		Stillborn: 10_000, // a node that starts while PostgreSQL is away ends, and is started again
		Env:       []string{"AWS_ACCESS_KEY_ID=" + s.s3.Access, "AWS_SECRET_ACCESS_KEY=" + s.s3.Secret},
	}
	for i := range nodes {
		c.Nodes = append(c.Nodes, testenv.FreeAddr(t))
		over := func(name, addr string) string { return s.link(t, fmt.Sprintf("n%d", i+1), name, addr) }
		c.Args = append(c.Args, []string{
			"--store", strings.Replace(s.db.URL(), s.db.Addr(), over("store", s.db.Addr()), 1),
			"--broker", strings.Replace(s.rabbit.URL, s.rabbit.Addr(), over("broker", s.rabbit.Addr()), 1),
			"--blobs", "s3://bodies?endpoint=http://" + over("blobs", s.before.Addr()),
		})
	}
	s.balance(t, c.Nodes)
	c.Fronts = []string{s.balancers["haproxy"].addr, s.balancers["nginx"].addr}
	c.Faults = s.faults(t)
	return s, c
}

// link puts a link between a node and a server.
func (s *servers) link(t *testing.T, node, server, addr string) string {
	t.Helper()
	l, err := faultproxy.NewLink(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	s.links[server] = append(s.links[server], l)
	s.links[node+"-"+server] = []*faultproxy.Link{l}
	return l.Addr()
}

// balance starts both balancers, as their printed configurations say.
func (s *servers) balance(t *testing.T, nodes []string) {
	t.Helper()
	dir := t.TempDir()
	file := func(name, text string, err error) string {
		path := filepath.Join(dir, name)
		if err == nil {
			err = os.WriteFile(path, []byte(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	wish := balancer.ConfigFile{Listen: testenv.FreeAddr(t), Nodes: nodes, MaxConnections: 1000, AdminSocket: filepath.Join(dir, "ha.sock")}
	text, err := balancer.HAProxy(wish)
	s.balancers["haproxy"] = &front{wish.Listen, []string{"haproxy", "-W", "-f", file("haproxy.cfg", text, err)}, syscall.SIGUSR2, nil}
	wish = balancer.ConfigFile{Listen: testenv.FreeAddr(t), Nodes: nodes, MaxConnections: 1000, PidFile: filepath.Join(dir, "nginx.pid")}
	text, err = balancer.Nginx(wish)
	s.balancers["nginx"] = &front{wish.Listen, []string{"nginx", "-e", "stderr", "-c", file("nginx.conf", text, err)}, syscall.SIGHUP, nil}
	for _, b := range s.balancers {
		b.start(t)
	}
}

// start starts the balancer, in a group with its workers, and waits until it listens.
func (b *front) start(t *testing.T) {
	t.Helper()
	command := exec.Command(b.args[0], b.args[1:]...)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	b.now = testenv.StartCommand(t, command)
	t.Cleanup(b.kill) // before the kind way, for which its old workers would have a minute
	testenv.Eventually(t, serving, testenv.Accepts(b.addr))
}

// kill kills the balancer with all its workers, which would go on without it.
func (b *front) kill() {
	select {
	case <-b.now.Ended():
	default:
		_ = syscall.Kill(-b.now.Pid(), syscall.SIGKILL)
		<-b.now.Ended()
	}
}

// faults says how each of them is done.
func (s *servers) faults(t *testing.T) schedule.Faults {
	memory := func(share string) { s.rabbit.Control(t, "-q", "set_vm_memory_high_watermark", share) }
	again := func() { s.rabbit.Again(t) }
	spoilt := func(trouble faultproxy.Fault) func(context.Context, schedule.Step) error {
		return lasting(func(schedule.Step) func() { return s.before.Fail(trouble) })
	}
	return schedule.Faults{
		"broker-kill":    lasting(func(schedule.Step) func() { s.rabbit.Kill(t); return again }),
		"broker-restart": lasting(func(schedule.Step) func() { s.rabbit.Stop(t); return again }),
		"broker-wipe":    lasting(func(schedule.Step) func() { s.rabbit.Kill(t); s.rabbit.Wipe(t); return again }),
		"broker-pause":   lasting(func(schedule.Step) func() { return s.rabbit.Pause() }),
		"broker-alarm":   lasting(func(schedule.Step) func() { memory("0.0000001"); return func() { memory("0.4") } }),
		"store-kill":     lasting(func(schedule.Step) func() { s.db.Kill(); return s.db.Start }),
		"store-restart":  lasting(func(schedule.Step) func() { s.db.Stop(); return s.db.Start }),
		"store-pause":    lasting(func(schedule.Step) func() { s.db.Pause(); return s.db.Resume }),
		"blobs-away":     lasting(func(schedule.Step) func() { s.s3.Kill(t); return func() { s.s3.Again(t) } }),
		"blobs-busy":     spoilt(faultproxy.SlowDown),
		"blobs-broken":   spoilt(faultproxy.Internal),
		"blobs-torn":     spoilt(faultproxy.Truncated),
		"balancer-kill": lasting(func(step schedule.Step) func() {
			b := s.balancers[step.Target]
			b.kill()
			return func() { b.start(t) }
		}),
		"balancer-reload": lasting(func(step schedule.Step) func() {
			b := s.balancers[step.Target]
			b.now.Signal(b.reload)
			return func() {}
		}),
		"link-cut":  s.linked(func(l *faultproxy.Link) func() { return l.Cut(faultproxy.There, faultproxy.Back) }),
		"link-mute": s.linked(func(l *faultproxy.Link) func() { return l.Cut(faultproxy.There) }),
		"link-deaf": s.linked(func(l *faultproxy.Link) func() { return l.Cut(faultproxy.Back) }),
		"link-slow": s.linked(func(l *faultproxy.Link) func() { return l.Slow(slowness) }),
	}
}

// lasting is a fault that begins, lasts, and ends.
func lasting(begin func(step schedule.Step) (end func())) func(context.Context, schedule.Step) error {
	return func(ctx context.Context, step schedule.Step) error {
		end := begin(step)
		select {
		case <-time.After(step.For):
		case <-ctx.Done():
		}
		end()
		return ctx.Err()
	}
}

// linked is a fault that befalls the links of all nodes to a server, or that of one.
func (s *servers) linked(begin func(l *faultproxy.Link) (end func())) func(context.Context, schedule.Step) error {
	return lasting(func(step schedule.Step) func() {
		var ends []func()
		for _, l := range s.links[step.Target] {
			ends = append(ends, begin(l))
		}
		return func() {
			for _, end := range ends {
				end()
			}
		}
	})
}
