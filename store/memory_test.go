package store_test

import (
	"context"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/storetest"
	"github.com/posta-tasks/posta/task"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(_ *testing.T, limits store.Limits) (store.Store, storetest.Clock) {
		clock := storetest.ManualClock()
		return store.NewMemory(store.MemoryConfig{Now: clock.Now, Steady: clock.Steady, Limits: limits}), clock
	})
}

// TestMemoryOnAClockThatGoesOn uses a clock that advances whenever it is read, since the clock of a database
// does not stand still between two calls.
func TestMemoryOnAClockThatGoesOn(t *testing.T) {
	t.Parallel()
	var reads sync.Map // by test, since all stores of a test share a clock
	storetest.Run(t, func(t *testing.T, limits store.Limits) (store.Store, storetest.Clock) {
		clock := storetest.ManualClock()
		clock.Jump = nil
		read, _ := reads.LoadOrStore(t, new(atomic.Int64))
		stopped := clock.Now
		clock.Now = func() time.Time {
			return stopped().Add(time.Duration(read.(*atomic.Int64).Add(1)) * 50 * time.Microsecond)
		}
		return store.NewMemory(store.MemoryConfig{Now: clock.Now, Limits: limits}), clock
	})
}

// TestMemoryFollowsTheModelInABubble uses the clock of a synctest bubble.
func TestMemoryFollowsTheModelInABubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		storetest.Model(t, func(_ *testing.T, limits store.Limits) (store.Store, storetest.Clock) {
			clock := storetest.Clock{Now: time.Now, Advance: func(d time.Duration) { <-time.After(d) }}
			return store.NewMemory(store.MemoryConfig{Now: clock.Now, Limits: limits}), clock
		})
	})
}

// TestMemoryFollowsTheModelForAHundredThousandSteps runs the test above in another process, since the number of
// steps is a flag of rapid.
func TestMemoryFollowsTheModelForAHundredThousandSteps(t *testing.T) {
	t.Parallel()
	testenv.NeedTime(t, 5*time.Second)
	run := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.run", "^TestMemoryFollowsTheModelInABubble$",
		"-rapid.nofailfile", "-rapid.checks=4200")
	output, err := run.CombinedOutput()
	match := regexp.MustCompile(`(\d+) steps`).FindSubmatch(output)
	if err != nil || match == nil {
		t.Fatalf("%v\n%s", err, output)
	}
	if steps, _ := strconv.Atoi(string(match[1])); steps < 100_000 {
		t.Errorf("only %d steps", steps)
	}
}

func TestMemoryUsesTheClockOfItsBubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := store.NewMemory(store.MemoryConfig{})
		later := task.Options{Queue: "default", RunAt: time.Now().Add(time.Hour)}
		if _, err := s.Accept(t.Context(), []task.Task{{ID: "1", Options: later}}); err != nil {
			t.Fatal(err)
		}
		maintained, err := s.Maintain(t.Context(), 1)
		if err != nil || len(maintained.Promoted) != 0 || !maintained.Next.Equal(later.RunAt) {
			t.Fatalf("before its time: %+v, %v", maintained, err)
		}
		<-time.After(time.Until(maintained.Next))
		if maintained, err = s.Maintain(t.Context(), 1); err != nil || len(maintained.Promoted) != 1 {
			t.Fatalf("at its time: %+v, %v", maintained, err)
		}
	})
}

func TestThirteenTurnsAreEightHighFourNormalAndOneLow(t *testing.T) {
	t.Parallel()
	count := map[task.Priority]int{}
	for n := range 13 {
		order := task.Turn(n)
		count[order[0]]++
		if order[0] == order[1] || order[1] == order[2] || order[0] == order[2] {
			t.Errorf("turn %d looks at %v", n, order)
		}
	}
	if count[task.High] != 8 || count[task.Normal] != 4 || count[task.Low] != 1 {
		t.Errorf("turns %v", count)
	}
}

// mutantVariable is the environment variable that names the mutant that TestMutant tests.
const mutantVariable = "POSTA_STORE_MUTANT"

// TestMutant runs the suite on the mutant that the environment names. TestTheSuiteDetectsEachMutant starts it
// and expects it to fail.
func TestMutant(t *testing.T) {
	name := os.Getenv(mutantVariable)
	i := slices.IndexFunc(store.Mutants(), func(m store.Mutant) bool { return m.Name == name })
	if i < 0 {
		t.Skip("it runs only when TestTheSuiteDetectsEachMutant starts it")
	}
	storetest.Run(t, func(_ *testing.T, limits store.Limits) (store.Store, storetest.Clock) {
		clock := storetest.ManualClock()
		memory := store.NewMemory(store.MemoryConfig{Now: clock.Now, Limits: limits})
		return store.Mutants()[i].Break(memory), clock
	})
}

// TestTheSuiteDetectsEachMutant runs this program again for each mutant, since the failing suite would
// otherwise fail this test.
func TestTheSuiteDetectsEachMutant(t *testing.T) {
	t.Parallel()
	for _, m := range store.Mutants() {
		themes := []string{m.Caught}
		if m.Model {
			themes = append(themes, "model")
		}
		for _, theme := range themes {
			t.Run(m.Name+" by "+theme, func(t *testing.T) {
				t.Parallel()
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
				defer cancel()
				// A race may need several runs to show.
				run := exec.CommandContext(ctx, os.Args[0], "-test.run", "^TestMutant$/^"+strings.ReplaceAll(theme, " ", "_")+"$",
					"-test.count=40", "-test.failfast", "-rapid.nofailfile", "-rapid.shrinktime=0", "-rapid.checks=1000")
				run.Env = append(os.Environ(), mutantVariable+"="+m.Name)
				output, err := run.CombinedOutput()
				if err == nil || !strings.Contains(string(output), "--- FAIL: TestMutant/") {
					t.Errorf("the suite does not detect it: %v\n%s", err, output)
				}
			})
		}
	}
}
