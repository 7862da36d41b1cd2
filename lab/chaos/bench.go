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
	"github.com/posta-tasks/posta/lab/chaos/nemesis"
	"github.com/posta-tasks/posta/lab/chaos/system"
)

// bench is the system under test and what can be done to it.
type bench struct {
	addrs   []string // where clients connect
	logs    string   // the directory for what processes print
	journal string   // the file in which actions say what runs
	nodes   map[string]*system.Node
	faults  nemesis.Faults
}

// slots is how many tasks a node runs at once.
const slots = "16"

// newBench makes a system of the nodes of a cluster, or of one with a store in a file.
func newBench(config Config, happened *history.Log) (*bench, error) {
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
	b := &bench{addrs: c.Fronts, logs: filepath.Join(config.Dir, "logs"), journal: filepath.Join(config.Dir, history.JournalFile), nodes: map[string]*system.Node{}}
	if err := os.Mkdir(b.logs, 0o700); err != nil {
		return nil, err
	}
	for i, addr := range c.Nodes {
		name := fmt.Sprintf("n%d", i+1)
		b.nodes[name] = system.NewNode(system.Config{
			Name: name, Binary: config.Binary, Addr: addr, Logs: b.logs, Happened: happened, Stillborn: c.Stillborn,
			Args: slices.Concat(verb(config.Up, name), []string{
				"--listen", addr, "--slots", slots, "--drain-delay", "0", "--log-level", "warn", "--log-format", "json",
			}, c.Args[i]),
			Env: append([]string{
				"POSTA_CHAOS_JOURNAL=" + b.journal, fail.PointsVariable + "=" + config.Always,
			}, c.Env...),
		})
	}
	b.faults = b.nodeFaults()
	maps.Copy(b.faults, c.Faults)
	return b, nil
}

// verb returns the verb of posta that runs a node, or three of them behind a balancer, in one process.
func verb(up bool, name string) []string {
	if up {
		return []string{"up"}
	}
	return []string{"node", "--name", name}
}

// nodeFaults are the faults that befall nodes.
func (b *bench) nodeFaults() nemesis.Faults {
	return nemesis.Faults{
		nemesis.Kill:    b.kill,
		nemesis.KillAt:  b.killAt,
		nemesis.Pause:   func(ctx context.Context, s nemesis.Step) error { return b.nodes[s.Target].Pause(ctx, s.For) },
		nemesis.Restart: func(ctx context.Context, s nemesis.Step) error { return b.nodes[s.Target].Restart(ctx) },
	}
}

// targets names what the faults of nodes befall.
func (b *bench) targets() []string { return slices.Sorted(maps.Keys(b.nodes)) }

// run keeps the system alive until ctx ends, or a part of it cannot be kept alive.
func (b *bench) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error)
	for _, n := range b.nodes {
		go func() { ended <- n.Run(ctx) }()
	}
	var err error
	for range b.nodes {
		err = errors.Join(err, <-ended)
		stop()
	}
	return err
}

// killAt starts the node anew, so that it kills itself at a failpoint. If it does not come by
// there in time, it is killed where it is.
func (b *bench) killAt(ctx context.Context, s nemesis.Step) error {
	n := b.nodes[s.Target]
	n.Once(fail.PointsVariable + "=" + s.Point)
	if err := n.Kill(ctx); err != nil {
		return err
	}
	if n.AwaitBoot(ctx, s.For) {
		return ctx.Err()
	}
	return n.Kill(ctx)
}

// stale counts in the logs the outcomes that the store refused.
func (b *bench) stale() (n int, err error) {
	files, err := os.ReadDir(b.logs)
	for _, file := range files {
		text, errRead := os.ReadFile(filepath.Join(b.logs, file.Name()))
		err = errors.Join(err, errRead)
		n += bytes.Count(text, []byte("is not the running one was refused"))
	}
	return n, err
}
