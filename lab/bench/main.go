// Command bench measures how close Posta comes to the practical limit of a machine.
//
//	go run -C lab ./bench direct            everything, about six minutes
//	go run -C lab ./bench direct --quick    the same steps with tiny numbers: does the harness work?
//	go run -C lab ./bench direct --only rate --json
//	go run -C lab ./bench durable           durable tasks, beside other queues of tasks
//	go run -C lab ./bench cluster           the same on three nodes, PostgreSQL and RabbitMQ
//
// It builds and starts `posta node`, starts a bare line server that makes the same system calls and
// does nothing else, and puts the same load on both in turn, round by round. What counts is the
// ratio inside a round: both halves of it met the same machine, the same neighbours and the same
// minute. The method and the figures are in docs/performance.md.
//
// The same binary is also the bare server (`bench bare`), the process that holds idle connections
// (`bench idlers`) and that of workers (`bench workers`), so that each subject has a process, and a file descriptor table, of its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/posta-tasks/posta/lab/bench/contest"
)

const (
	verbDirect  = "direct"
	verbDurable = "durable"
	verbCluster = "cluster"
)

// streams has the input and output of a verb.
type streams struct {
	in  io.Reader
	out io.Writer
	err io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr})
	stop()
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		os.Exit(1)
	}
}

// run runs one verb; the default is direct. The processes that bench starts from its own binary begin here too.
func run(ctx context.Context, args []string, s streams) error {
	verb := verbDirect
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		verb, args = args[0], args[1:]
	}
	switch verb {
	case verbDirect:
		return runDirect(ctx, args, s)
	case verbDurable:
		return contest.Run(ctx, contest.Durable(), args, s.out, s.err)
	case verbCluster:
		return contest.Run(ctx, contest.Cluster(), args, s.out, s.err)
	case verbBare:
		return runBare(ctx, args, s)
	case verbIdlers:
		return runIdlers(ctx, args, s)
	case verbWorkers:
		return runWorkers(ctx, args, s)
	}
	fmt.Fprintln(s.err, "usage: go run -C lab ./bench direct|durable|cluster [--help]")
	return fmt.Errorf("unknown verb %q: bench knows %s, %s, %s, %s, %s and %s", verb, verbDirect, verbDurable, verbCluster, verbBare, verbIdlers, verbWorkers)
}
