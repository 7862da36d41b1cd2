package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/posta-tasks/posta/lab/chaos/check"
)

// errMutants says that a run had the wrong result.
var errMutants = errors.New("the checker does not tell all mutants from the system")

// trial is a mutant, and a run in which its guard matters.
type trial struct {
	mutant string
	set    func(*Config)
}

// trials has the mutants that runs on one process must detect. claim-without-state-guard is not among them: a
// process claims only queued tasks, so the guard matters only to the model, which calls the store directly, and on
// the cluster, where ids travel between nodes.
func trials() []trial {
	// A node that cannot renew its leases queues its own tasks when these have ended, as another node would. Then two
	// attempts of a task run.
	unrenewed := func(c *Config) { c.Tasks, c.Slow, c.Always = 80, 12, "renew.written=error" }
	return []trial{
		// A kill just before the commit comes between the answer and the commit.
		{"answer-before-commit", func(c *Config) { c.Kills, c.Points = 8, []string{"commit.before"} }},
		{"record-without-attempt-guard", unrenewed},
		// The second attempt must have ended when the next maintenance acts on what the one before has read.
		{"reap-as-read-then-write", func(c *Config) { unrenewed(c); c.Later = time.Millisecond }},
		// Two enqueues with one key come in one batch.
		{"key-as-check-then-insert", func(c *Config) { c.Kills = 1 }},
		// A task that was asked to stop must not be queued when its process dies.
		{"cancel-without-mark", func(c *Config) { c.Kills = 8 }},
	}
}

// Mutants makes two runs for each mutant, or only for the named one: one without the mutant, in which the checker
// must find nothing, and one with it, in which it must find something. dir returns a directory for a run, and build
// the path of the program with a mutant. Only the binary and the seed of config are used.
func Mutants(ctx context.Context, config Config, only string, dir, build func(mutant string) (string, error), out io.Writer) error {
	failed, tried := 0, 0
	for _, t := range trials() {
		if only != "" && only != t.mutant {
			continue
		}
		tried++
		for _, mutant := range []string{"", t.mutant} {
			c := Config{Binary: config.Binary, Seed: config.Seed, Mutant: mutant, Tasks: 800, Every: time.Second}
			t.set(&c)
			var err error
			if mutant != "" {
				if c.Binary, err = build(mutant); err != nil {
					return err
				}
			}
			if c.Dir, err = dir(t.mutant); err != nil {
				return err
			}
			if !try(ctx, c, t.mutant, out) {
				failed++
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
	switch {
	case tried == 0:
		return fmt.Errorf("no run is made for a mutant %q", only)
	case failed > 0:
		return errMutants
	}
	return nil
}

// try makes one run, prints its result, and reports whether the result is right.
func try(ctx context.Context, c Config, name string, out io.Writer) bool {
	began := time.Now()
	verdict, err := Run(ctx, c, io.Discard)
	found := slices.IndexFunc(verdict.Violations, func(v check.Violation) bool { return v.Promise != check.Endless })
	line, fine := "", false
	switch {
	case err != nil:
		line = fmt.Sprintf("could not be made: %v", err)
	case c.Mutant == "" && len(verdict.Violations) > 0:
		line = fmt.Sprintf("%d violations without the mutant, such as %v", len(verdict.Violations), verdict.Violations[0])
	case c.Mutant == "":
		line, fine = "nothing found with the guard", true
	case found < 0:
		line = "SURVIVED"
	default:
		line, fine = fmt.Sprintf("caught: %d violations, such as %.160v", len(verdict.Violations), verdict.Violations[found]), true
	}
	fmt.Fprintf(out, "%-29s %4.0f s  %s\n", name, time.Since(began).Seconds(), line)
	if !fine {
		fmt.Fprintf(out, "%-29s seed %d; the run is kept in %s\n", "", c.Seed, c.Dir)
		return false
	}
	return os.RemoveAll(c.Dir) == nil
}
