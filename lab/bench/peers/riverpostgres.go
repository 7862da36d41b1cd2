package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// riverNodes is how many clients insert and run tasks, each with its own pool of connections, like three nodes.
const riverNodes = 3

// riverSettings has settings of a user. LISTEN and NOTIFY are always on.
type riverSettings struct {
	workers        int           // tasks that each client runs at once
	cooldown, poll time.Duration // 0: River's default
	conns          int32         // connections of each pool
}

// tunedRiver fetches soon after a notification. A shorter cooldown costs more rate of single inserts than it saves
// latency (1 ms doubles the CPU time of a task), and a longer one does the opposite. The connections are enough for
// 16 producers.
var tunedRiver = riverSettings{workers: 500, cooldown: 5 * time.Millisecond, poll: 50 * time.Millisecond, conns: 12}

// defaultRiver sets only what has no default: as many workers as the guide of River begins with.
var defaultRiver = riverSettings{workers: 100}

// riverCluster is River on PostgreSQL. A task has run when its row is completed.
type riverCluster struct {
	nodes []*riverNode
	next  atomic.Int64 // the client of the next producer
	sent  atomic.Int64
	ran   atomic.Int64
	gone  int64 // completed rows that were deleted
}

// riverNode is one client with its pool.
type riverNode struct {
	pool   *pgxpool.Pool
	client *river.Client[pgx.Tx]
}

func openRiverTuned(ctx context.Context, url string, times *clock) (peer, error) {
	return openRiverPostgres(ctx, url, times, tunedRiver)
}

func openRiverDefault(ctx context.Context, url string, times *clock) (peer, error) {
	return openRiverPostgres(ctx, url, times, defaultRiver)
}

// openRiverPostgres creates the tables and starts the clients.
func openRiverPostgres(ctx context.Context, url string, times *clock, set riverSettings) (peer, error) {
	p := &riverCluster{}
	for range riverNodes {
		if err := p.open(ctx, url, times, set); err != nil {
			p.close()
			return nil, err
		}
	}
	return p, nil
}

// open adds a node and starts it.
func (p *riverCluster) open(ctx context.Context, url string, times *clock, set riverSettings) error {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return err
	}
	if set.conns > 0 {
		config.MaxConns = set.conns
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	node := &riverNode{pool: pool}
	p.nodes = append(p.nodes, node)
	driver := riverpgxv5.New(pool)
	if len(p.nodes) == 1 {
		migrator, err := rivermigrate.New(driver, nil)
		if err != nil {
			return err
		}
		if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
			return err
		}
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, &upperWorker{times: times, ran: &p.ran})
	client, err := river.NewClient(driver, &river.Config{
		ID:            fmt.Sprintf("node-%d", len(p.nodes)),
		Logger:        slog.New(slog.DiscardHandler),
		Queues:        map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: set.workers}},
		Workers:       workers,
		FetchCooldown: set.cooldown, FetchPollInterval: set.poll,
	})
	if err != nil {
		return err
	}
	if err := client.Start(ctx); err != nil {
		return err
	}
	node.client = client
	return nil
}

// finished asks the database only after all tasks have run, and with pauses, since the request is expensive and the
// ends are recorded in batches.
func (p *riverCluster) finished() (int64, error) {
	const pause = 5 * time.Millisecond
	if ran, sent := p.ran.Load(), p.sent.Load(); ran < sent {
		return ran, nil
	}
	time.Sleep(pause)
	n, err := p.completed()
	return n + p.gone, err
}

func (p *riverCluster) completed() (n int64, err error) {
	const query = "SELECT count(*) FROM river_job WHERE state = 'completed'"
	return n, p.nodes[0].pool.QueryRow(context.Background(), query).Scan(&n)
}

// forget truncates the table, so that each round begins like the first. Rows that are deleted one by one would slow
// down the next round.
func (p *riverCluster) forget() error {
	n, err := p.completed()
	if err != nil {
		return err
	}
	p.gone += n
	_, err = p.nodes[0].pool.Exec(context.Background(), "TRUNCATE river_job")
	return err
}

func (p *riverCluster) close() {
	const patience = 5 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, n := range p.nodes {
		if n.client != nil {
			_ = n.client.Stop(ctx)
		}
		n.pool.Close()
	}
}

// producer returns a producer that uses the next client.
func (p *riverCluster) producer(worked bool) (producer, error) {
	node := p.nodes[int(p.next.Add(1))%len(p.nodes)]
	to := &riverProducer[pgx.Tx]{client: node.client, opts: riverQueue(worked)}
	if worked {
		to.sent = &p.sent
	}
	return to, nil
}
