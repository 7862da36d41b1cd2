package chaos_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/lab/build"
	"github.com/posta-tasks/posta/lab/chaos"
	"github.com/posta-tasks/posta/lab/chaos/schedule"
)

// percent is the variable that says how much of the long run is made, which make chaos-cluster sets.
const percent = "POSTA_CHAOS_CLUSTER"

// TestAClusterKeepsItsPromises is make chaos-cluster, and in short a part of make check: three nodes
// behind HAProxy and Nginx, where each of the servers is killed, paused, wiped and restarted, and the nodes are too.
func TestAClusterKeepsItsPromises(t *testing.T) {
	t.Parallel()
	testenv.NeedTime(t, 90*time.Second)
	testenv.NeedServer(t, "python3", "node")
	config := wishes(t)
	config.Binary, config.Workers = build.ForTest(t), true
	servers, cluster := newServers(t)
	cluster.Kinds, cluster.Pairs = config.Cluster.Kinds, config.Cluster.Pairs
	config.Cluster = cluster
	var err error
	if config.Dir, err = chaos.Place(filepath.Join(testenv.Root(t), "build", "chaos"), config.Seed, "cluster"); err != nil {
		t.Fatal(err)
	}
	verdict, err := chaos.Run(t.Context(), config, t.Output())
	if err != nil {
		t.Fatalf("%v; the run is kept in %s", err, config.Dir)
	}
	fmt.Fprintf(t.Output(), "%d requests to S3 were answered with an error or truncated\n", servers.before.Failed())
	if len(verdict.Violations) > 0 {
		t.Fatal("promises were broken")
	}
	if err := os.RemoveAll(config.Dir); err != nil {
		t.Error(err)
	}
	wanted := map[string]int{}
	for _, kind := range cluster.Kinds {
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
			Seed: 5, Tasks: 800, Kills: 4, Pauses: 1, Restarts: 2, Busy: 20, Large: 5, Points: chaos.Points(), Every: 500 * time.Millisecond,
			Cluster: &chaos.Cluster{Pairs: 60, Kinds: few()},
		}
	}
	n, err := strconv.Atoi(asked)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s: want percents of the long run, such as 100", percent, asked)
	}
	of := func(most int) int { return (most*n + 99) / 100 }
	config := chaos.Config{
		Seed: uint64(time.Now().Unix()), Tasks: of(60_000), Poison: of(5), Kills: of(200), Pauses: of(30), Long: of(5), Restarts: of(60),
		Busy: 50, Large: 4, Points: chaos.Points(), Every: time.Second, Drain: 10 * time.Minute,
		Cluster: &chaos.Cluster{Pairs: 70, Kinds: kinds()},
	}
	for i := range config.Cluster.Kinds {
		config.Cluster.Kinds[i].Count = of(config.Cluster.Kinds[i].Count)
	}
	if n < 100 {
		config.Cluster.Kinds = some(config.Cluster.Kinds, n)
	}
	return config
}

// some leaves out links of single nodes, of which each would be there once otherwise.
func some(all []schedule.Kind, n int) (list []schedule.Kind) {
	for i, kind := range all {
		if !strings.Contains(kind.Target, "-") || i%(100/n) == 0 {
			list = append(list, kind)
		}
	}
	return list
}

// few are the faults of the short run.
func few() []schedule.Kind {
	const short = 3 * time.Second
	return []schedule.Kind{
		{Fault: "broker-wipe", Target: "broker", Count: 1, Takes: brokerStart},
		{Fault: "store-kill", Target: "store", Count: 1},
		{Fault: "store-pause", Target: "store", Count: 1, For: short},
		{Fault: "blobs-away", Target: "blobs", Count: 1, For: short},
		{Fault: "blobs-busy", Target: "blobs", Count: 1, For: short},
		{Fault: "balancer-reload", Target: "haproxy", Count: 1},
		{Fault: "balancer-reload", Target: "nginx", Count: 1},
		{Fault: "link-cut", Target: "n1-store", Count: 1, For: short},
	}
}

const (
	// brokerStart is about how long RabbitMQ takes to be killed and to start.
	brokerStart = 8 * time.Second
	// starting is about how long another server does.
	starting = time.Second
)

// kinds are the faults of the servers and of the links, in the numbers of the long run.
func kinds() []schedule.Kind {
	list := []schedule.Kind{
		{Fault: "broker-kill", Target: "broker", Count: 50, Takes: brokerStart},
		{Fault: "broker-wipe", Target: "broker", Count: 10, Takes: brokerStart},
		{Fault: "broker-restart", Target: "broker", Count: 10, Takes: brokerStart},
		{Fault: "broker-pause", Target: "broker", Count: 10, For: 20 * time.Second},
		{Fault: "broker-alarm", Target: "broker", Count: 10, For: 10 * time.Second, Takes: 2 * starting},
		{Fault: "store-kill", Target: "store", Count: 50, Takes: starting},
		{Fault: "store-restart", Target: "store", Count: 10, Takes: starting},
		{Fault: "store-pause", Target: "store", Count: 10, For: 5 * time.Second},
		{Fault: "blobs-away", Target: "blobs", Count: 10, For: 5 * time.Second},
		{Fault: "blobs-busy", Target: "blobs", Count: 10, For: 5 * time.Second},
		{Fault: "blobs-broken", Target: "blobs", Count: 10, For: 5 * time.Second},
		{Fault: "blobs-torn", Target: "blobs", Count: 10, For: 5 * time.Second},
		{Fault: "balancer-kill", Target: "haproxy", Count: 10},
		{Fault: "balancer-kill", Target: "nginx", Count: 10},
		{Fault: "balancer-reload", Target: "haproxy", Count: 15},
		{Fault: "balancer-reload", Target: "nginx", Count: 15},
		{Fault: "link-cut", Target: "broker", Count: 8, For: 10 * time.Second},
		{Fault: "link-cut", Target: "store", Count: 8, For: 10 * time.Second},
		{Fault: "link-cut", Target: "blobs", Count: 4, For: 10 * time.Second},
		{Fault: "link-deaf", Target: "broker", Count: 8, For: 10 * time.Second},
		{Fault: "link-deaf", Target: "store", Count: 8, For: 10 * time.Second},
		{Fault: "link-mute", Target: "broker", Count: 4, For: 10 * time.Second},
		{Fault: "link-mute", Target: "store", Count: 4, For: 10 * time.Second},
		{Fault: "link-slow", Target: "broker", Count: 8, For: 10 * time.Second},
		{Fault: "link-slow", Target: "store", Count: 8, For: 10 * time.Second},
		{Fault: "link-slow", Target: "blobs", Count: 4, For: 10 * time.Second},
	}
	for n := range nodes {
		for _, fault := range []string{"link-cut", "link-deaf", "link-mute", "link-slow"} {
			for _, kind := range []schedule.Kind{
				{Target: "broker", Count: 2, For: 10 * time.Second},
				{Target: "store", Count: 2, For: 20 * time.Second}, // longer than a lease
				{Target: "blobs", Count: 1, For: 5 * time.Second},
			} {
				kind.Fault, kind.Target = fault, fmt.Sprintf("n%d-%s", n+1, kind.Target)
				list = append(list, kind)
			}
		}
	}
	return list
}
