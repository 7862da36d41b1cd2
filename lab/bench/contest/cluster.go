package contest

import (
	"context"
	"fmt"
	"net/url"
	"os/exec"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posta-tasks/posta/lab/bench/lab"
	"github.com/posta-tasks/posta/lab/bench/report"
	"github.com/posta-tasks/posta/lab/bench/tasks"
)

// clusterNodes is how many nodes of a cluster run tasks.
const clusterNodes = 3

// Cluster compares three nodes that share PostgreSQL and RabbitMQ with other systems on the same servers.
func Cluster() Kind {
	return Kind{
		verb: "cluster", limit: time.Hour,
		parts: []durablePart{
			{"rate", (*durableBench).rate},
			{"accept", (*durableBench).acceptOnly},
			{"latency", (*durableBench).latency},
			{"statements", (*durableBench).statements},
			{"million", (*durableBench).clusterMillion},
			{"passed", (*durableBench).passed},
		},
		peers: clusterPeers(),
		own:   []func(*durableBench, context.Context) (*contender, error){(*durableBench).atWorkers, (*durableBench).atDoor},
		goals: goals{
			calls: goal{over: riverPostgres, ratio: 2}, piped: goal{over: riverPostgres, ratio: 1}, p50: 8,
		},
		clocks: "For Posta the time ends when the client has read the final record. For the others it ends when the action has run, before the end is recorded.",
	}
}

const riverPostgres = "river-postgres"

// clusterPeers share a PostgreSQL and a RabbitMQ that Posta does not use. Each has its own database.
func clusterPeers() []peerKind {
	return []peerKind{
		{name: riverPostgres, safe: powerLoss, client: riverPostgres, bulk: true, most: 20_000, server: inDatabase("river")},
		{name: "river-postgres-default", safe: powerLoss, client: "river-postgres-default", bulk: true, most: 4_000, server: inDatabase("river_default")},
		{name: "asynq", safe: powerLoss, client: "asynq", most: 4_000, server: redis},
		{name: "rabbitmq-raw", safe: powerLoss, client: "rabbitmq-raw", bulk: true, server: inBroker},
		{name: "celery", safe: powerLoss, client: "celery", most: 1_000, server: inBoth},
		{name: "celery-bare", safe: powerLoss + ", its result nothing", client: "celery-bare", most: 1_500, server: inBroker},
	}
}

// servers starts the servers of the peers, once.
func (b *durableBench) servers() (db, broker lab.Server, err error) {
	if b.peerDB.URL == "" {
		if b.peerDB, err = b.lab.Postgres(); err != nil {
			return db, broker, err
		}
		b.peerBroker, err = b.lab.RabbitMQ()
	}
	return b.peerDB, b.peerBroker, err
}

func inDatabase(name string) func(*durableBench, context.Context, string) (place, error) {
	return func(b *durableBench, ctx context.Context, _ string) (place, error) {
		db, _, err := b.servers()
		if err != nil {
			return place{}, err
		}
		conn, err := pgx.Connect(ctx, db.URL)
		if err != nil {
			return place{}, err
		}
		defer conn.Close(context.WithoutCancel(ctx))
		if _, err := conn.Exec(ctx, "CREATE DATABASE "+name); err != nil {
			return place{}, err
		}
		at, err := url.Parse(db.URL)
		if err != nil {
			return place{}, err
		}
		at.Path = "/" + name
		return place{at.String(), []int{db.PID}}, nil
	}
}

func inBroker(b *durableBench, _ context.Context, _ string) (place, error) {
	_, broker, err := b.servers()
	return place{broker.URL, []int{broker.PID}}, err
}

// inBoth is the place of Celery, which keeps tasks in one server and results in the other.
func inBoth(b *durableBench, ctx context.Context, dir string) (place, error) {
	if err := exec.CommandContext(ctx, "/usr/bin/python3", "-c", "import celery, psycopg2, sqlalchemy").Run(); err != nil {
		return place{}, fmt.Errorf("celery is %w: scripts/setup-bench.sh installs it", lab.ErrMissing)
	}
	db, err := inDatabase("celery")(b, ctx, dir)
	if err != nil {
		return place{}, err
	}
	broker, err := inBroker(b, ctx, dir)
	return place{broker.name + " " + db.name, append(db.pids, broker.pids...)}, err
}

// cluster is three nodes that run tasks, one that only accepts them, and their servers.
type cluster struct {
	db, broker lab.Server
	workers    []*lab.Process
	door       *lab.Process
}

// workersTarget is the cluster for clients of the nodes that run tasks.
func (c *cluster) workersTarget() tasks.Target {
	to := tasks.Target{PIDs: []int{c.db.PID, c.broker.PID}}
	for _, p := range append(c.workers, c.door) {
		to.PIDs = append(to.PIDs, p.Pid())
		if p != c.door {
			to.Addrs = append(to.Addrs, p.Addr)
		}
	}
	return to
}

// doorTarget is the cluster for clients of the node that runs none, so that every id travels over the broker.
func (c *cluster) doorTarget() tasks.Target {
	to := c.workersTarget()
	to.Addrs = []string{c.door.Addr}
	return to
}

// startCluster starts and verifies servers and nodes.
func (b *durableBench) startCluster(ctx context.Context) (*cluster, error) {
	db, err := b.lab.Postgres("shared_preload_libraries=pg_stat_statements", "max_connections=200")
	if err != nil {
		return nil, err
	}
	if err := countOn(ctx, db.URL, "none"); err != nil {
		return nil, err
	}
	broker, err := b.lab.RabbitMQ()
	if err != nil {
		return nil, err
	}
	c := &cluster{db: db, broker: broker}
	for i := range clusterNodes + 1 {
		name, flags := fmt.Sprintf("node-%d", i+1), []string(nil)
		if i == clusterNodes {
			flags = []string{"--queues", "none"}
		}
		p, err := b.lab.Member(ctx, name, db.URL, broker.URL, flags...)
		if err != nil {
			return nil, err
		}
		if err := b.lab.Served(ctx, p); err != nil {
			return nil, err
		}
		if c.door = p; i < clusterNodes {
			c.workers = append(c.workers, p)
		}
	}
	if err := verify(ctx, c.workersTarget()); err != nil {
		return nil, err
	}
	return c, nil
}

// endCluster ends the nodes. The servers, which are idle then, end with the lab.
func (b *durableBench) endCluster(c *cluster) {
	for _, p := range append(c.workers, c.door) {
		b.lab.End(p)
	}
}

// theCluster returns the cluster that most parts measure.
func (b *durableBench) theCluster(ctx context.Context) (*cluster, error) {
	if b.cluster != nil {
		return b.cluster, nil
	}
	c, err := b.startCluster(ctx)
	b.cluster = c
	return c, err
}

func (b *durableBench) atWorkers(ctx context.Context) (*contender, error) {
	c, err := b.theCluster(ctx)
	if err != nil {
		return nil, err
	}
	return postaContender("Posta, three nodes", c.workersTarget()), nil
}

func (b *durableBench) atDoor(ctx context.Context) (*contender, error) {
	c, err := b.theCluster(ctx)
	if err != nil {
		return nil, err
	}
	return postaContender("Posta, by a node that works none", c.doorTarget()), nil
}

// clusterMillion compares two clusters, one with few waiting tasks and one with very many.
func (b *durableBench) clusterMillion(ctx context.Context) ([]report.Section, error) {
	var pair [2]*cluster
	for i, n := range []int{b.little, b.backlog} {
		c, err := b.startCluster(ctx)
		if err != nil {
			return nil, err
		}
		defer b.endCluster(c)
		b.lab.Say("  %d waiting tasks", n)
		if err := tasks.Fill(ctx, c.workersTarget(), n, tasks.Round{Shape: workedShape, Queue: tasks.Backlog, Keep: keepLong}); err != nil {
			return nil, err
		}
		pair[i] = c
	}
	flat, err := b.flat(ctx, pair[0].workersTarget(), pair[1].workersTarget())
	return []report.Section{flat}, err
}
