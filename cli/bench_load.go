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
	// maxBenchConnections bounds the connections of a load.
	maxBenchConnections = 10_000
	// maxBenchDepth bounds the unanswered tasks of a connection.
	maxBenchDepth = 10_000
	// maxBenchBytes bounds what a connection has sent and not been answered when there is
	// more than one task in it, so that it fits into the sockets' buffers and a write
	// never waits for a read.
	maxBenchBytes = 256 << 10
	// loadGrace is how long replies are awaited after Config.Duration.
	loadGrace = 10 * time.Second
	// loadDialers is how many connections are opened at the same time.
	loadDialers = 16
)

// loadConfig says what a load is. All fields but Tasks and Duration must be set.
type loadConfig struct {
	Connections int           // at least 1, at most MaxConnections
	Tasks       int64         // in all; 0: no end but that of Duration
	Duration    time.Duration // how long tasks are sent; 0: no end but that of Tasks
	// Lines are the request lines of a connection, one for each task that it keeps
	// unanswered. The id of each must be its place in the list.
	Lines [][]byte
	// Dial opens a connection on which tasks can be sent. The load closes it.
	Dial func(ctx context.Context) (net.Conn, error)
	// Judge looks at a reply line. It gives the id, and why the task failed; empty
	// when it did not. No id means that another line will answer the task. An error ends
	// the load. It is called by many goroutines.
	Judge func(line []byte) (id []byte, fault string, err error)
	// Lost explains an error of a connection.
	Lost func(err error) error
}

// loadReport is what a load has measured.
type loadReport struct {
	Latency histogram // of each task, from the write to the read of the line that answers it
	Failed  int64     // tasks that failed
	Fault   string    // why the first one did
	Took    time.Duration
}

// A load is tasks under way. Its methods are safe for concurrent use.
type load struct {
	config      loadConfig
	connections []*loadConn
	left        atomic.Int64 // tasks that may still be sent
	done        atomic.Int64 // tasks that were answered
}

// openLoad opens the connections of a load, and sends nothing yet. Run closes them; when
// Open fails, it has.
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

// Done is how many tasks have been answered so far.
func (l *load) Done() int64 { return l.done.Load() }

// Connections is how many there are: no more than tasks.
func (l *load) Connections() int { return len(l.connections) }

// Run sends the tasks and returns when all have been answered. When ctx ends, or a
// connection is lost, there is no report.
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

// take returns how many of the wanted tasks may still be sent. The connections share
// the number and ask once for many tasks.
func (l *load) take(wanted int) int {
	left := l.left.Add(-int64(wanted))
	if left >= 0 {
		return wanted
	}
	return int(max(0, left+int64(wanted)))
}
