package mutants_test

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/internal/testenv"
)

// catch says which test of which room must fail of a mutant.
type catch struct {
	room, test string
	points     string // what is asked for at points, so that chance does not decide
	apart      string // the command that runs it; "": make check does
}

// catches has each mutant. Where there is a choice it is the model that catches it.
func catches() map[string]catch {
	const model = "^TestStore$/^model$"
	cluster := catch{"lab/chaos", "^TestEachMutantOfTheClusterIsCaught$", "", "make chaos-mutants-cluster"}
	return map[string]catch{
		"answer-before-commit":                  {"store/sqlite", model, "commit.before=pause:1ms", ""},
		"record-without-attempt-guard":          {"store/sqlite", model, "", ""},
		"reap-as-read-then-write":               {"store/sqlite", model, "", ""},
		"claim-without-state-guard":             {"store/sqlite", model, "", ""},
		"key-as-check-then-insert":              {"store/sqlite", model, "", ""},
		"cancel-without-mark":                   {"store/sqlite", model, "", ""},
		"crash-counted-as-failure":              {"store/sqlite", model, "", ""},
		"sweeper-off":                           {"durable", "^TestATaskThatNobodyWasToldOfIsFoundWithinABeat$", "", ""},
		"blob-collector-ignores-references":     {"durable", "^TestBodiesWithoutARowAreCollectedAfterADayAndNoOthers$", "", ""},
		"postgres-answers-unsynced":             cluster,
		"postgres-record-without-attempt-guard": cluster,
		"postgres-claim-without-state-guard":    cluster,
		"postgres-key-as-check-then-insert":     cluster,
		"postgres-cancel-without-mark":          cluster,
		"postgres-lease-by-node-clock":          cluster,
		"postgres-accept-again-with-new-id":     cluster,
	}
}

func TestEachMutantHasATestThatCatchesIt(t *testing.T) {
	t.Parallel()
	for _, m := range fail.Mutants() {
		if catches()[m.Name].room == "" {
			t.Errorf("nothing catches %s: say in catches() which test does", m.Name)
		}
	}
	if len(catches()) != len(fail.Mutants()) {
		t.Error("catches() has a mutant that the list has not")
	}
}

var update = flag.Bool("update", false, "write the mutants into docs/reliability.md")

// TestThePageHasTheMutants compares docs/reliability.md with the list.
func TestThePageHasTheMutants(t *testing.T) {
	t.Parallel()
	name := filepath.Join(testenv.Root(t), "docs", "reliability.md")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	mutants := "| mutant | what is wrong then | caught by |\n|---|---|---|\n"
	for _, m := range fail.Mutants() {
		c := catches()[m.Name]
		by := "`" + c.room + "`: " + strings.NewReplacer("^", "", "$", "").Replace(c.test)
		if c.apart != "" {
			by = "`" + c.apart + "`"
		}
		mutants += "| `" + m.Name + "` | " + m.What + " | " + by + " |\n"
	}
	section := regexp.MustCompile(`(?s)(<!-- mutants:[^\n]*-->\n).*?(<!-- end -->)`)
	if !section.Match(text) {
		t.Fatal("docs/reliability.md has no place for the mutants")
	}
	want := section.ReplaceAllString(string(text), "${1}"+mutants+"${2}")
	if *update {
		err = os.WriteFile(name, []byte(want), 0o644)
	}
	if err != nil || (want != string(text) && !*update) {
		t.Errorf("docs/reliability.md is not up to date: go test -C lab ./mutants -run Page -update (%v)", err)
	}
}

// tests makes the program of a room's tests, with mutants in it.
type tests struct {
	dir string

	mu   sync.Mutex // guards the one below, and lets one program be made at a time
	made map[string]string
}

func (p *tests) of(t *testing.T, room string) string {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.made[room] == "" {
		binary := filepath.Join(p.dir, strings.ReplaceAll(room, "/", "_")+".test")
		command := exec.Command("go", "test", "-c", "-tags", "chaos", "-o", binary, "./"+room)
		command.Dir = testenv.Root(t)
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", command.Args, err, out)
		}
		p.made[room] = binary
	}
	return p.made[room]
}

// collectorFails is about a point that comes by once in an hour, so that only a test that lives
// in a bubble's time can wait for it.
const collectorFails = "a collector that failed comes again"

// TestEachMutantIsCaught runs, with each mutant that needs no command of its own, the test that must fail of it, and without
// a mutant the same test, which must pass: else it would show nothing.
func TestEachMutantIsCaught(t *testing.T) {
	t.Parallel()
	testenv.NeedTime(t, time.Minute)
	programs := &tests{dir: t.TempDir(), made: map[string]string{}}
	t.Run(collectorFails, func(t *testing.T) {
		c := catches()["blob-collector-ignores-references"]
		for points, passes := range map[string]bool{"orphans.found=error@1": true, "orphans.found=error": false} {
			c.points = points
			if out, err := c.run(t, programs.of(t, c.room), ""); passes != (err == nil) {
				t.Errorf("%s: %v\n%s", points, err, out)
			}
		}
	})
	t.Run("each", func(t *testing.T) {
		passed := map[catch]bool{}
		for mutant, c := range catches() {
			if c.apart != "" {
				continue
			}
			t.Run(mutant, func(t *testing.T) {
				t.Parallel()
				out, err := c.run(t, programs.of(t, c.room), mutant)
				if err == nil || !strings.Contains(out, "--- FAIL: "+strings.Trim(strings.Split(c.test, "/")[0], "^$")) {
					t.Errorf("it was not caught: %v\n%s", err, out)
				}
			})
			if passed[c] {
				continue
			}
			passed[c] = true
			t.Run("none, for "+mutant, func(t *testing.T) {
				t.Parallel()
				if out, err := c.run(t, programs.of(t, c.room), ""); err != nil || strings.Contains(out, "no tests to run") {
					t.Errorf("the test fails without a mutant: %v\n%s", err, out)
				}
			})
		}
	})
}

// run runs the test with a mutant.
func (c catch) run(t *testing.T, program, mutant string) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	args := []string{"-test.run", c.test}
	if strings.Contains(c.test, "model") {
		args = append(args, "-rapid.nofailfile", "-rapid.shrinktime=0")
		if mutant != "" {
			args = append(args, "-rapid.checks=1000")
		}
	}
	command := exec.CommandContext(ctx, program, args...)
	command.Dir = filepath.Join(testenv.Root(t), c.room)
	command.Env = append(os.Environ(), fail.MutantVariable+"="+mutant, fail.PointsVariable+"="+c.points)
	out, err := command.CombinedOutput()
	return string(out), err
}
