package chaos_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/lab/build"
	"github.com/posta-tasks/posta/lab/chaos"
	"github.com/posta-tasks/posta/lab/chaos/check"
	"github.com/posta-tasks/posta/lab/chaos/schedule"
	"github.com/posta-tasks/posta/lab/mutants"
)

// asked is the variable with which make chaos-mutants-cluster asks for its runs.
const asked = "POSTA_CHAOS_MUTANTS"

// rounds is how many runs a mutant gets until it must have been noticed.
const rounds = 3

// ordeals say, for each guard that can be taken out and has a meaning on the cluster, what a run has in
// which it matters.
func ordeals() map[string]func(c *chaos.Config) {
	faults := func(list ...schedule.Kind) func(c *chaos.Config) {
		return func(c *chaos.Config) { c.Cluster.Kinds = list }
	}
	return map[string]func(c *chaos.Config){
		// What was answered in the last moments before PostgreSQL dies is lost.
		"postgres-answers-unsynced": faults(schedule.Kind{Fault: "store-kill", Target: "store", Count: 10, Takes: starting}),
		// A node that was stopped for longer than a lease records what another one runs meanwhile.
		"postgres-record-without-attempt-guard": func(c *chaos.Config) { c.Tasks, c.Slow, c.Busy, c.Long = 150, 40, 0, 3 },
		// Ids come again when the connections to RabbitMQ break, and from those who look for what is left over.
		"postgres-claim-without-state-guard": func(c *chaos.Config) {
			c.Kills = 4
			c.Cluster.Kinds = []schedule.Kind{
				{Fault: "broker-kill", Target: "broker", Count: 1, Takes: brokerStart},
				{Fault: "link-deaf", Target: "broker", Count: 2, For: 3 * time.Second},
			}
		},
		// Twins come in one call.
		"postgres-key-as-check-then-insert": func(c *chaos.Config) { c.Kills = 1 },
		// What was asked to stop must not be queued when its process dies.
		"postgres-cancel-without-mark": func(c *chaos.Config) { c.Kills, c.Tasks = 10, 1500 },
		// What runs on the node whose clock is behind is taken from it, until it seems to be poison.
		"postgres-lease-by-node-clock": func(c *chaos.Config) { c.Busy = 90; c.Restarts = 1; c.Pauses = 10 },
		// An answer gets lost, and the task is there.
		"postgres-accept-again-with-new-id": faults(schedule.Kind{Fault: "link-deaf", Target: "store", Count: 4, For: 4 * time.Second}),
	}
}

func TestEachMutantOfPostgresHasARun(t *testing.T) {
	t.Parallel()
	list, err := mutants.All()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		if _, there := ordeals()[m.Name]; strings.HasPrefix(m.Name, "postgres-") && !there {
			t.Errorf("no run on the cluster is made for %s", m.Name)
		}
	}
}

// TestEachMutantOfTheClusterIsCaught is make chaos-mutants-cluster: it takes out one guard after the other,
// which the checker must notice, and makes the same runs with all guards, in which it must find nothing.
func TestEachMutantOfTheClusterIsCaught(t *testing.T) {
	if os.Getenv(asked) == "" {
		t.Skipf("takes a quarter of an hour: %s=1 runs it", asked)
	}
	for _, mutant := range slices.Sorted(maps.Keys(ordeals())) {
		set := ordeals()[mutant]
		t.Run(mutant, func(t *testing.T) {
			binary := build.Mutant(t, mutant)
			began := time.Now()
			for seed := range uint64(rounds) {
				if found := ordeal(t, set, binary, mutant, seed+1); found != "" {
					fmt.Fprintf(t.Output(), "caught after %v: %s\n", time.Since(began).Round(time.Second), found)
					return
				}
			}
			t.Error("SURVIVED")
		})
		t.Run("guarded-"+mutant, func(t *testing.T) {
			if found := ordeal(t, set, build.ForTest(t), "", 1); found != "" {
				t.Error(found)
			}
		})
	}
}

// ordeal makes a run on a cluster of its own, and returns what is found, if it is something.
func ordeal(t *testing.T, set func(c *chaos.Config), binary, mutant string, seed uint64) (found string) {
	t.Helper()
	t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
		_, cluster := newServers(t)
		c := chaos.Config{
			Binary: binary, Dir: t.TempDir(), Seed: seed, Mutant: mutant, Tasks: 800, Busy: 20,
			Every: time.Second, Drain: 2 * time.Minute, Cluster: cluster,
		}
		set(&c)
		var out bytes.Buffer
		verdict, err := chaos.Run(t.Context(), c, &out)
		if err != nil {
			t.Fatalf("%v\n%s", err, out.String())
		}
		i := slices.IndexFunc(verdict.Violations, func(v check.Violation) bool {
			return mutant == "" || v.Promise != check.Endless
		})
		if i >= 0 {
			found = fmt.Sprintf("%d violations, such as %.200v", len(verdict.Violations), verdict.Violations[i])
		}
		if i >= 0 && mutant == "" {
			t.Log(out.String())
		}
	})
	return found
}
