package chaos_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/balancer"
	"github.com/posta-tasks/posta/chaos"
	"github.com/posta-tasks/posta/chaos/nemesis"
	"github.com/posta-tasks/posta/internal/testenv"
)

// percent is the variable that says how much of the long run is made, which make chaos-cluster sets.
const percent = "POSTA_CHAOS_CLUSTER"

// slowness is how long everything takes on a slow link, one way.
const slowness = 100 * time.Millisecond

// servers are what the nodes of a cluster share.
type servers struct {
	db       *testenv.Postgres
	rabbit   *testenv.RabbitMQServer
	s3       *testenv.S3Server
	balancer *testenv.Process
	links    map[string]*link // by the server at its end
}

// TestAClusterKeepsItsPromises is make chaos-cluster, and in short a part of make check: three nodes
// behind HAProxy, where each of the servers is killed, paused, wiped and restarted, and the nodes are too.
func TestAClusterKeepsItsPromises(t *testing.T) {
	t.Parallel()
	testenv.NeedTime(t, 90*time.Second)
	testenv.Need(t, "haproxy", "rabbitmqctl", "versitygw")
	s := &servers{db: testenv.StartPostgres(t), rabbit: testenv.RabbitMQ(t), s3: testenv.S3(t), links: map[string]*link{}}
	s.s3.Bucket(t, "bodies")
	config := wishes(t)
	config.Binary = testenv.PostaChaos(t)
	var err error
	if config.Dir, err = chaos.Place(filepath.Join(testenv.Root(t), "build", "chaos"), config.Seed, "cluster"); err != nil {
		t.Fatal(err)
	}
	c := config.Cluster
	c.Stillborn = 10_000 // a node that starts while PostgreSQL is away ends, and is started again
	c.Nodes = []string{testenv.FreeAddr(t), testenv.FreeAddr(t), testenv.FreeAddr(t)}
	c.Front = testenv.FreeAddr(t)
	over := func(name, url, addr string) string {
		s.links[name] = newLink(t, addr)
		return strings.Replace(url, addr, s.links[name].addr(), 1)
	}
	c.Args = []string{
		"--store", over("store", s.db.URL(), s.db.Addr()),
		"--broker", over("broker", s.rabbit.URL, s.rabbit.Addr()),
		"--blobs", "s3://bodies?endpoint=" + over("blobs", s.s3.Endpoint, strings.TrimPrefix(s.s3.Endpoint, "http://")),
	}
	c.Env = []string{"AWS_ACCESS_KEY_ID=" + s.s3.Access, "AWS_SECRET_ACCESS_KEY=" + s.s3.Secret}
	printed, err := balancer.HAProxy(balancer.ConfigFile{Listen: c.Front, Nodes: c.Nodes, MaxConnections: 1000})
	if err != nil {
		t.Fatal(err)
	}
	s.balancer = testenv.HAProxy(t, printed, c.Front)
	c.Faults = s.faults(t, func() { s.balancer = testenv.HAProxy(t, printed, c.Front) })

	verdict, err := chaos.Run(t.Context(), config, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	if len(verdict.Violations) > 0 {
		t.Fatal("promises were broken")
	}
	if err := os.RemoveAll(config.Dir); err != nil {
		t.Error(err)
	}
	wanted := map[string]int{}
	for _, kind := range c.Kinds {
		wanted[kind.Fault] += kind.Count
	}
	for fault, count := range wanted {
		if got := verdict.Counts.Faults[fault]; got != count {
			t.Errorf("%d × %s, want %d", got, fault, count)
		}
	}
	if verdict.Counts.Deaths < config.Kills+config.Restarts || verdict.Counts.Acknowledged < config.Tasks/6 {
		t.Errorf("the run proves little: %+v", verdict.Counts)
	}
}

// wishes says what is done to the cluster: a little, or so much of a hundred of the long run.
func wishes(t *testing.T) chaos.Config {
	t.Helper()
	asked := os.Getenv(percent)
	if asked == "" {
		return chaos.Config{
			Seed: 5, Tasks: 800, Kills: 4, Pauses: 1, Restarts: 2, Points: chaos.Points(), Every: 500 * time.Millisecond,
			Cluster: &chaos.Cluster{Pairs: 30, Kinds: kinds(func(n int) int { return min(n, 1) }, "broker-wipe", "store-kill", "store-pause", "blobs-away")},
		}
	}
	n, err := strconv.Atoi(asked)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s: want percents of the long run, such as 100", percent, asked)
	}
	of := func(most int) int { return (most*n + 99) / 100 }
	return chaos.Config{
		Seed: uint64(time.Now().Unix()), Tasks: of(20_000), Poison: of(5), Kills: of(200), Pauses: of(30), Long: of(5), Restarts: of(60),
		Points: chaos.Points(), Drain: 10 * time.Minute, Cluster: &chaos.Cluster{Pairs: 30, Kinds: kinds(of)},
	}
}

// kinds are the faults of the servers, in the numbers of the long run, or of those that are named.
func kinds(of func(most int) int, only ...string) (list []nemesis.Kind) {
	for _, kind := range []nemesis.Kind{
		{Fault: "broker-kill", Target: "broker", Count: 40},
		{Fault: "broker-wipe", Target: "broker", Count: 10},
		{Fault: "broker-restart", Target: "broker", Count: 10},
		{Fault: "broker-pause", Target: "broker", Count: 10, For: 20 * time.Second},
		{Fault: "broker-alarm", Target: "broker", Count: 10, For: 10 * time.Second},
		{Fault: "store-kill", Target: "store", Count: 50},
		{Fault: "store-restart", Target: "store", Count: 10},
		{Fault: "store-pause", Target: "store", Count: 10, For: 5 * time.Second},
		{Fault: "blobs-away", Target: "blobs", Count: 10, For: 5 * time.Second},
		{Fault: "balancer-kill", Target: "balancer", Count: 10},
		{Fault: "link-cut", Target: "broker", Count: 10, For: 20 * time.Second},
		{Fault: "link-cut", Target: "store", Count: 10, For: 10 * time.Second},
		{Fault: "link-cut", Target: "blobs", Count: 5, For: 10 * time.Second},
		{Fault: "link-deaf", Target: "broker", Count: 10, For: 20 * time.Second},
		{Fault: "link-deaf", Target: "store", Count: 10, For: 10 * time.Second},
		{Fault: "link-slow", Target: "broker", Count: 10, For: 10 * time.Second},
		{Fault: "link-slow", Target: "store", Count: 10, For: 10 * time.Second},
	} {
		if len(only) == 0 || slices.Contains(only, kind.Fault) {
			kind.Count = of(kind.Count)
			list = append(list, kind)
		}
	}
	return list
}

// faults says how each of them is done.
func (s *servers) faults(t *testing.T, balance func()) nemesis.Faults {
	linked := func(begin func(l *link) (end func())) func(context.Context, nemesis.Step) error {
		return func(ctx context.Context, step nemesis.Step) error {
			end := begin(s.links[step.Target])
			select {
			case <-time.After(step.For):
			case <-ctx.Done():
			}
			end()
			return ctx.Err()
		}
	}
	lasting := func(begin func() (end func())) func(context.Context, nemesis.Step) error {
		return linked(func(*link) func() { return begin() })
	}
	memory := func(share string) { s.rabbit.Control(t, "-q", "set_vm_memory_high_watermark", share) }
	again := func() { s.rabbit.Again(t) }
	return nemesis.Faults{
		"broker-kill":    lasting(func() func() { s.rabbit.Kill(t); return again }),
		"broker-restart": lasting(func() func() { s.rabbit.Stop(t); return again }),
		"broker-wipe":    lasting(func() func() { s.rabbit.Kill(t); s.rabbit.Wipe(t); return again }),
		"broker-pause":   lasting(s.rabbit.Pause),
		"broker-alarm":   lasting(func() func() { memory("0.0000001"); return func() { memory("0.4") } }),
		"store-kill":     lasting(func() func() { s.db.Kill(); return s.db.Start }),
		"store-restart":  lasting(func() func() { s.db.Stop(); return s.db.Start }),
		"store-pause":    lasting(func() func() { s.db.Pause(); return s.db.Resume }),
		"blobs-away":     lasting(func() func() { s.s3.Kill(t); return func() { s.s3.Again(t) } }),
		"balancer-kill":  lasting(func() func() { s.balancer.Kill(t); return balance }),
		"link-deaf":      linked(func(l *link) func() { l.sever(back); return func() { l.mend(back) } }),
		"link-slow":      linked(func(l *link) func() { l.slow(slowness); return func() { l.slow(0) } }),
		"link-cut": linked(func(l *link) func() {
			l.sever(there)
			l.sever(back)
			return func() { l.mend(there); l.mend(back) }
		}),
	}
}
