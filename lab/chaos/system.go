package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/internal/testenv/freeport"
	"github.com/posta-tasks/posta/lab/chaos/history"
	"github.com/posta-tasks/posta/lab/chaos/schedule"
)

// system is the system under test, and the faults that it has.
type system struct {
	addrs   []string // where clients connect
	logs    string   // the directory for what processes print
	journal string   // the file in which actions say what runs
	nodes   map[string]*node
	workers workers
	faults  schedule.Faults
}

// slots is how many tasks a node runs at once.
const slots = "16"

// newSystem makes a system of the nodes of a cluster, or of one with a store in a file.
func newSystem(config Config, happened *history.Log) (*system, error) {
	c := config.Cluster
	if c == nil {
		addr, err := freeport.Take()
		if err != nil {
			return nil, err
		}
		c = &Cluster{Nodes: []string{addr}, Fronts: []string{addr}, Args: [][]string{{"--store", "sqlite://" + filepath.Join(config.Dir, "posta.db")}}}
		if config.Up {
			c.Args[0] = []string{"--data", filepath.Join(config.Dir, "data"), "--nodes", "127.0.0.1:0,127.0.0.1:0,127.0.0.1:0"}
		}
	}
	sys := &system{addrs: c.Fronts, logs: filepath.Join(config.Dir, "logs"), journal: filepath.Join(config.Dir, history.JournalFile), nodes: map[string]*node{}}
	if err := os.Mkdir(sys.logs, 0o700); err != nil {
		return nil, err
	}
	for i, addr := range c.Nodes {
		name := fmt.Sprintf("n%d", i+1)
		sys.nodes[name] = newNode(nodeConfig{
			Name: name, Binary: config.Binary, Addr: addr, Logs: sys.logs, Happened: happened, Stillborn: c.Stillborn,
			Args: slices.Concat(verb(config.Up, name), []string{
				"--listen", addr, "--slots", slots, "--drain-delay", "0", "--log-level", "warn", "--log-format", "json",
			}, c.Args[i]),
			Env: append([]string{
				"POSTA_CHAOS_JOURNAL=" + sys.journal, fail.PointsVariable + "=" + config.Always,
			}, c.Env...),
		})
	}
	sys.faults = sys.nodeFaults()
	if config.Workers {
		if err := sys.hire(config, happened, c.Stillborn); err != nil {
			return nil, err
		}
	}
	maps.Copy(sys.faults, c.Faults)
	return sys, nil
}

// verb returns the verb of posta that runs a node, or three of them behind a balancer, in one process.
func verb(up bool, name string) []string {
	if up {
		return []string{"up"}
	}
	return []string{"node", "--name", name}
}

// nodeFaults returns the faults of nodes.
func (sys *system) nodeFaults() schedule.Faults {
	return schedule.Faults{
		schedule.Kill:    func(ctx context.Context, s schedule.Step) error { return sys.kill(ctx, sys.nodes[s.Target]) },
		schedule.KillAt:  sys.killAt,
		schedule.Pause:   func(ctx context.Context, s schedule.Step) error { return sys.nodes[s.Target].pause(ctx, s.For) },
		schedule.Restart: func(ctx context.Context, s schedule.Step) error { return sys.nodes[s.Target].restart(ctx) },
	}
}

// targets returns the names of the nodes.
func (sys *system) targets() []string { return slices.Sorted(maps.Keys(sys.nodes)) }

// run keeps the nodes and the workers alive until ctx ends or one of them cannot be started.
func (sys *system) run(ctx context.Context) error {
	defer sys.workers.close()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error)
	processes := slices.Collect(maps.Values(sys.nodes))
	for _, w := range sys.workers {
		processes = append(processes, w.node)
	}
	for _, n := range processes {
		go func() { ended <- n.run(ctx) }()
	}
	var err error
	for range processes {
		err = errors.Join(err, <-ended)
		stop()
	}
	return err
}

// killAt restarts a node so that it kills itself at a failpoint. If it does not reach the point in time, killAt kills it.
func (sys *system) killAt(ctx context.Context, s schedule.Step) error {
	n := sys.nodes[s.Target]
	n.onNextStart(fail.PointsVariable + "=" + s.Point)
	if err := n.kill(ctx); err != nil {
		return err
	}
	if n.awaitEnd(ctx, s.For) {
		return ctx.Err()
	}
	return n.kill(ctx)
}

// stale counts, in the logs, the outcomes that the store refused.
func (sys *system) stale() (n int, err error) {
	files, err := os.ReadDir(sys.logs)
	for _, file := range files {
		text, errRead := os.ReadFile(filepath.Join(sys.logs, file.Name()))
		err = errors.Join(err, errRead)
		n += bytes.Count(text, []byte("is not the running one was refused"))
	}
	return n, err
}
