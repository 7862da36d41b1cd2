// Command run makes a chaos run and prints its page. If a promise was broken, it exits with 1 and keeps the run.
//
//	go run -C lab ./chaos/run --kills 100 --tasks 6000 --poison 5
//	go run -C lab ./chaos/run --seed 7 --kills 5 --tasks 500       the same plan as with seed 7 before
//	go run -C lab ./chaos/run --check DIR                          judges a run that was kept
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/lab/build"
	"github.com/posta-tasks/posta/lab/chaos"
)

var errBroken = errors.New("a promise was broken")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "chaos: error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var c chaos.Config
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	root, err := testenv.FindRoot()
	if err != nil {
		return err
	}
	judge := flags.String("check", "", "judge the run in this `directory` again, and make none")
	keep := flags.String("keep", filepath.Join(root, "build", "chaos"), "the `directory` for runs; those that broke a promise stay there")
	flags.StringVar(&c.Binary, "binary", "", "a posta built with -tags chaos; without one, it is built")
	flags.Uint64Var(&c.Seed, "seed", uint64(time.Now().Unix()), "what chance follows from")
	flags.IntVar(&c.Tasks, "tasks", 1_000, "new tasks")
	flags.IntVar(&c.Poison, "poison", 1, "how many of them kill their process")
	flags.IntVar(&c.Kills, "kills", 10, "how often the process is killed")
	points := flags.Bool("points", true, "have some of the kills happen at failpoints")
	flags.IntVar(&c.Pauses, "pauses", 0, "how often it is stopped for a while")
	flags.IntVar(&c.Long, "long-pauses", 0, "how often it is stopped for longer than a lease")
	flags.IntVar(&c.Restarts, "restarts", 0, "how often it is ended with SIGTERM")
	flags.DurationVar(&c.Every, "every", 2*time.Second, "the mean time between two faults")
	flags.DurationVar(&c.Drain, "drain", 3*time.Minute, "how long it may take until every task is finished")
	flags.BoolVar(&c.Workers, "workers", false, "have workers in Go, Python and JavaScript, and faults of them")
	flags.BoolVar(&c.Up, "up", false, "run posta up, three nodes in one process, and not one node")
	flags.StringVar(&c.Mutant, "mutant", "", "run with this mutant of lab/mutants, to see whether the checker notices")
	mutants := flags.Bool("mutants", false, "make a run for each guard that can be taken out, which must be noticed; or only for --mutant")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *points {
		c.Points = chaos.Points()
	}
	if *judge != "" {
		verdict, err := chaos.Judge(*judge, out)
		if err == nil && len(verdict.Violations) > 0 {
			err = errBroken
		}
		return err
	}
	only := c.Mutant
	if *mutants {
		c.Mutant = "" // each mutant is built for its own runs
	}
	if err := binary(ctx, &c, *keep); err != nil {
		return err
	}
	if *mutants {
		dir := func(mutant string) (string, error) { return chaos.Place(*keep, c.Seed, mutant) }
		mutated := func(mutant string) (string, error) {
			binary := filepath.Join(*keep, "posta-mutant")
			return binary, build.Posta(ctx, binary, mutant)
		}
		return chaos.Mutants(ctx, c, only, dir, mutated, out)
	}
	return once(ctx, c, *keep, out)
}

// binary builds the program under test, unless one is given.
func binary(ctx context.Context, c *chaos.Config, keep string) error {
	if c.Binary != "" {
		return nil
	}
	if err := os.MkdirAll(keep, 0o755); err != nil {
		return err
	}
	c.Binary = filepath.Join(keep, "posta")
	return build.Posta(ctx, c.Binary, c.Mutant)
}

// once makes a run, and deletes it if no promise was broken.
func once(ctx context.Context, c chaos.Config, keep string, out io.Writer) error {
	var err error
	if c.Dir, err = chaos.Place(keep, c.Seed, "run"); err != nil {
		return err
	}
	verdict, err := chaos.Run(ctx, c, out)
	switch {
	case err != nil:
		return fmt.Errorf("%w; the run is kept in %s", err, c.Dir)
	case len(verdict.Violations) > 0:
		return errBroken
	}
	return os.RemoveAll(c.Dir)
}
