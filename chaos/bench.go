package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"github.com/posta-tasks/posta/chaos/history"
	"github.com/posta-tasks/posta/chaos/nemesis"
	"github.com/posta-tasks/posta/chaos/system"
	"github.com/posta-tasks/posta/internal/fail"
)

// bench is the system under test and what can be done to it.
type bench struct {
	addr   string // of the clients
	logs   string
	node   *system.Node
	faults nemesis.Faults
}

// nodeName is the name of the one node.
const nodeName = "n1"

// slots is how many tasks the node runs at once.
const slots = "16"

// newBench makes a system of one node with a store in a file.
func newBench(config Config, happened *history.Log) (*bench, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	b := &bench{addr: addr, logs: filepath.Join(config.Dir, "logs")}
	if err := os.Mkdir(b.logs, 0o700); err != nil {
		return nil, err
	}
	b.node = system.NewNode(system.Config{
		Name: nodeName, Binary: config.Binary, Addr: addr, Logs: b.logs, Happened: happened,
		Args: []string{
			"node", "--listen", addr, "--name", nodeName, "--store", "sqlite://" + filepath.Join(config.Dir, "posta.db"),
			"--slots", slots, "--drain-delay", "0", "--log-level", "warn", "--log-format", "json",
		},
		Env: []string{
			"POSTA_CHAOS_JOURNAL=" + filepath.Join(config.Dir, history.JournalFile),
			fail.MutantVariable + "=" + config.Mutant, fail.PointsVariable + "=" + config.Always,
		},
	})
	b.faults = nemesis.Faults{
		nemesis.Kill:    func(ctx context.Context, _ nemesis.Step) error { return b.node.Kill(ctx) },
		nemesis.KillAt:  b.killAt,
		nemesis.Pause:   func(ctx context.Context, s nemesis.Step) error { return b.node.Pause(ctx, s.For) },
		nemesis.Restart: func(ctx context.Context, _ nemesis.Step) error { return b.node.Restart(ctx) },
	}
	return b, nil
}

func (b *bench) targets() []string { return []string{nodeName} }

// run keeps the system alive until ctx ends.
func (b *bench) run(ctx context.Context) error { return b.node.Run(ctx) }

// killAt starts the node anew, so that it kills itself at a failpoint. If it does not come by
// there in time, it is killed where it is.
func (b *bench) killAt(ctx context.Context, s nemesis.Step) error {
	b.node.Once(fail.PointsVariable + "=" + s.Point)
	if err := b.node.Kill(ctx); err != nil {
		return err
	}
	if b.node.AwaitBoot(ctx, s.For) {
		return ctx.Err()
	}
	return b.node.Kill(ctx)
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

// freeAddr finds an address on loopback that nobody listens on. It is below the range from which
// kernels take ports for outgoing connections, since the node must come back on it.
func freeAddr() (string, error) {
	const lowest, highest, attempts = 10_000, 30_000, 100
	for range attempts {
		addr := net.JoinHostPort("127.0.0.1", fmt.Sprint(lowest+rand.IntN(highest-lowest)))
		listener, err := net.Listen("tcp", addr)
		if err == nil {
			return addr, listener.Close()
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return "", err
		}
	}
	return "", errors.New("no free port was found")
}
