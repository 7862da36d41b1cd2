package cli

import (
	"context"
	"math"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// maxBenchConnections is the largest number of connections.
	maxBenchConnections = 10_000
	// maxBenchDepth is the largest number of unanswered tasks of a connection.
	maxBenchDepth = 10_000
	// maxBenchBytes is how many bytes of unanswered requests a connection may have, if these are more than one
	// task. They fit into the buffers of the sockets, so that a write never waits for a read.
	maxBenchBytes = 256 << 10
	// loadGrace is how long a load waits for replies after its Duration.
	loadGrace = 10 * time.Second
	// loadDialers is how many connections are opened at the same time.
	loadDialers = 16
)

// loadConfig configures a load. All fields but Tasks and Duration must be set.
type loadConfig struct {
	Connections int           // 1 to maxBenchConnections
	Tasks       int64         // total number of tasks; 0: only Duration ends the load
	Duration    time.Duration // how long tasks are sent; 0: only Tasks ends the load
	// Lines has the request lines of a connection, one for each task that it keeps unanswered. The id of each must
	// be its index.
	Lines [][]byte
	// Dial opens a connection that is ready for tasks. The load closes it.
	Dial func(ctx context.Context) (net.Conn, error)
	// Judge reads a reply line. It returns the id, and why the task failed, or "" if it did not. Without an id,
	// another line will answer the task. An error ends the load. Many goroutines call it.
	Judge func(line []byte) (id []byte, fault string, err error)
	// Lost returns the error of a lost connection for the user.
	Lost func(err error) error
}

// loadReport is the result of a load.
type loadReport struct {
	Latency histogram // the time of each task from writing it to reading its answer
	Failed  int64     // tasks that failed
	Fault   string    // why the first task failed
	Took    time.Duration
}

// load is a running load. Its methods are safe for concurrent use.
type load struct {
	config      loadConfig
	connections []*loadConn
	left        atomic.Int64 // tasks that may still be sent
	done        atomic.Int64 // tasks that were answered
}

// openLoad opens the connections of a load, and sends nothing yet. Run closes them. If openLoad fails, it closes
// them.
func openLoad(ctx context.Context, config loadConfig) (*load, error) {
	if config.Tasks == 0 {
		config.Tasks = math.MaxInt64
	}
	config.Connections = int(min(int64(config.Connections), config.Tasks))
	l := &load{config: config, connections: make([]*loadConn, config.Connections)}
	l.left.Store(config.Tasks)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(loadDialers)
	for i := range l.connections {
		group.Go(func() error {
			conn, err := config.Dial(ctx)
			if err == nil {
				l.connections[i] = newLoadConn(l, conn)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// Done returns how many tasks were answered so far.
func (l *load) Done() int64 { return l.done.Load() }

// Connections returns the number of connections, which is at most the number of tasks.
func (l *load) Connections() int { return len(l.connections) }

// Run sends the tasks and returns when all are answered. It fails when ctx ends or a connection is lost.
func (l *load) Run(ctx context.Context) (*loadReport, error) {
	defer l.close()
	start := time.Now()
	if l.config.Duration > 0 {
		defer time.AfterFunc(l.config.Duration, func() { l.left.Store(0) }).Stop()
	}
	group, ctx := errgroup.WithContext(ctx)
	defer context.AfterFunc(ctx, l.close)()
	for _, c := range l.connections {
		group.Go(func() error {
			err := c.work(start)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	report := &loadReport{Took: time.Since(start)}
	for _, c := range l.connections {
		report.Latency.Add(&c.latency)
		report.Failed += c.failed
		if report.Fault == "" {
			report.Fault = c.fault
		}
	}
	return report, nil
}

func (l *load) close() {
	for _, c := range l.connections {
		if c != nil {
			c.conn.Close()
		}
	}
}

// take returns how many of the wanted tasks may still be sent. All connections share the number, and take many
// tasks at a time.
func (l *load) take(wanted int) int {
	left := l.left.Add(-int64(wanted))
	if left >= 0 {
		return wanted
	}
	return int(max(0, left+int64(wanted)))
}
