package main

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	_ "modernc.org/sqlite"
)

// riverWorkers is how many tasks run at once, and how many are fetched at once.
const riverWorkers = 500

// riverPeer is River on SQLite. A task has run when its row is completed.
type riverPeer struct {
	db     *sql.DB
	client *river.Client[*sql.Tx]
	gone   int64 // completed rows that were deleted
}

// upperArgs is the task.
type upperArgs struct {
	Text string `json:"text"`
}

func (upperArgs) Kind() string { return "upper" }

// upperWorker only counts.
type upperWorker struct {
	river.WorkerDefaults[upperArgs]
	times *clock
	ran   *atomic.Int64 // counts the tasks that ran; may be nil
}

func (w *upperWorker) Work(_ context.Context, job *river.Job[upperArgs]) error {
	number, err := strconv.ParseInt(job.Args.Text[4:], 10, 64)
	w.times.done(number)
	if w.ran != nil {
		w.ran.Add(1)
	}
	return err
}

// openRiver creates the file. It uses one connection, as the documentation of the driver requires, and fsync at
// each commit.
func openRiver(ctx context.Context, file string, times *clock) (peer, error) {
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(10000)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	driver := riversqlite.New(db)
	migrator, err := rivermigrate.New(driver, nil)
	if err != nil {
		return nil, err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return nil, err
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, &upperWorker{times: times})
	client, err := river.NewClient(driver, &river.Config{
		Logger:  slog.New(slog.DiscardHandler),
		Queues:  map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: riverWorkers}},
		Workers: workers,
		// The fastest settings. The defaults of 100 ms and 1 s would dominate the measurement.
		FetchCooldown: river.FetchCooldownMin, FetchPollInterval: 5 * time.Millisecond,
	})
	if err != nil {
		return nil, err
	}
	return &riverPeer{db: db, client: client}, client.Start(ctx)
}

func (p *riverPeer) finished() (int64, error) {
	var n int64
	err := p.db.QueryRow("SELECT count(*) FROM river_job WHERE state = 'completed'").Scan(&n)
	return n + p.gone, err
}

func (p *riverPeer) forget() error {
	done, err := p.db.Exec("DELETE FROM river_job WHERE state = 'completed'")
	if err != nil {
		return err
	}
	n, err := done.RowsAffected()
	p.gone += n
	if err != nil {
		return err
	}
	_, err = p.db.Exec("DELETE FROM river_job WHERE queue = 'backlog'")
	return err
}

func (p *riverPeer) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = p.client.Stop(ctx)
	p.db.Close()
}

// riverProducer enqueues over a client, with any database.
type riverProducer[Tx any] struct {
	client *river.Client[Tx]
	opts   *river.InsertOpts
	sent   *atomic.Int64 // counts the tasks that are to run; may be nil
}

func (p *riverPeer) producer(worked bool) (producer, error) {
	return &riverProducer[*sql.Tx]{client: p.client, opts: riverQueue(worked)}, nil
}

// riverQueue returns the name of the queue with workers, or of that without.
func riverQueue(worked bool) *river.InsertOpts {
	if worked {
		return &river.InsertOpts{Queue: river.QueueDefault}
	}
	return &river.InsertOpts{Queue: "backlog"}
}

// enqueue inserts a single task with one call, and several with the fastest call of River for several.
func (p *riverProducer[Tx]) enqueue(numbers []int64) error {
	if p.sent != nil {
		p.sent.Add(int64(len(numbers)))
	}
	if len(numbers) == 1 {
		_, err := p.client.Insert(context.Background(), args(numbers[0]), p.opts)
		return err
	}
	params := make([]river.InsertManyParams, len(numbers))
	for i, n := range numbers {
		params[i] = river.InsertManyParams{Args: args(n), InsertOpts: p.opts}
	}
	n, err := p.client.InsertManyFast(context.Background(), params)
	if err == nil && n != len(numbers) {
		return fmt.Errorf("river inserted %d of %d tasks", n, len(numbers))
	}
	return err
}

func (p *riverProducer[Tx]) close() {}

func args(number int64) upperArgs { return upperArgs{Text: fmt.Sprintf("hola%012d", number)} }
