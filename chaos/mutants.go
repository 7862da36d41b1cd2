package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// errSurvived is that some mutant was not noticed.
var errSurvived = errors.New("a guard was taken out, and the checker has not noticed")

// trial is a mutant and a run in which its guard matters.
type trial struct {
	mutant string
	set    func(*Config)
}

// trials are the mutants that a run on one node must notice.
func trials() []trial {
	return []trial{
		// Between the answer and the commit there is a moment; a kill at the commit hits it.
		{"answer-before-commit", func(c *Config) {
			c.Kills, c.Points = 8, []string{"commit.before"}
		}},
		// A node that was stopped for longer than a lease takes its own tasks from itself, as another
		// one would, if it does not renew before: then two attempts run.
		{"record-without-attempt-guard", func(c *Config) {
			c.Long, c.Slow, c.Always = 2, 15, "renew.asked=pause:1s"
		}},
		{"reap-as-read-then-write", func(c *Config) {
			c.Long, c.Slow, c.Always = 2, 15, "renew.asked=pause:1s"
		}},
		// With a backlog, tasks are cancelled of which a claim knows.
		{"claim-without-state-guard", func(c *Config) { c.Kills, c.Tasks = 0, 3_000 }},
		// Twins come in one batch.
		{"key-as-check-then-insert", func(c *Config) { c.Kills = 1 }},
		// What was cancelled while it ran must not be queued when its process dies.
		{"cancel-without-mark", func(c *Config) { c.Kills, c.Slow = 8, 15 }},
	}
}

// Mutants makes a run for each guard that can be taken out, or only for the one that is named, and is
// content when each is noticed. Dir gives a directory for each.
func Mutants(ctx context.Context, config Config, only string, dir func(name string) (string, error), out io.Writer) error {
	survived, tried := 0, 0
	for _, t := range trials() {
		if only != "" && only != t.mutant {
			continue
		}
		tried++
		c := config
		c.Mutant, c.Tasks, c.Every, c.Drain = t.mutant, 800, time.Second, time.Minute
		t.set(&c)
		var err error
		if c.Dir, err = dir(t.mutant); err != nil {
			return err
		}
		verdict, err := Run(ctx, c, io.Discard)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			fmt.Fprintf(out, "%-30s the run could not be made: %v\n", t.mutant, err)
			survived++
		case len(verdict.Violations) == 0:
			fmt.Fprintf(out, "%-30s SURVIVED; seed %d, the run is kept in %s\n", t.mutant, c.Seed, c.Dir)
			survived++
		default:
			fmt.Fprintf(out, "%-30s caught by %d violations, such as %.150v\n", t.mutant, len(verdict.Violations), verdict.Violations[0])
			if err := os.RemoveAll(c.Dir); err != nil {
				return err
			}
		}
	}
	if tried == 0 {
		return fmt.Errorf("no run is made for a mutant %q", only)
	}
	if survived > 0 {
		return errSurvived
	}
	return nil
}
