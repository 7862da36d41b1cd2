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
		clock := storetest.HandClock()
		return store.NewMemory(store.MemoryConfig{Now: clock.Now, Steady: clock.Steady, Limits: limits}), clock
	})
}

// TestMemoryOnAClockThatGoesOn has a clock that goes on whenever it is read: those of
// databases do not stand still between two calls.
func TestMemoryOnAClockThatGoesOn(t *testing.T) {
	t.Parallel()
	var reads sync.Map // by test, since the clocks of its stores go on together
	storetest.Run(t, func(t *testing.T, limits store.Limits) (store.Store, storetest.Clock) {
		clock := storetest.HandClock()
		clock.Jump = nil
		read, _ := reads.LoadOrStore(t, new(atomic.Int64))
		stopped := clock.Now
		clock.Now = func() time.Time {
			return stopped().Add(time.Duration(read.(*atomic.Int64).Add(1)) * 50 * time.Microsecond)
		}
		return store.NewMemory(store.MemoryConfig{Now: clock.Now, Limits: limits}), clock
	})
}

// TestMemoryKeepsToTheModelInABubble has a clock that everybody in the bubble waits for.
func TestMemoryKeepsToTheModelInABubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		storetest.Model(t, func(_ *testing.T, limits store.Limits) (store.Store, storetest.Clock) {
			clock := storetest.Clock{Now: time.Now, Advance: func(d time.Duration) { <-time.After(d) }}
			return store.NewMemory(store.MemoryConfig{Now: clock.Now, Limits: limits}), clock
		})
	})
}

// TestMemoryKeepsToTheModelForAHundredThousandSteps runs the test above again, since rapid
// has only flags to say how long.
func TestMemoryKeepsToTheModelForAHundredThousandSteps(t *testing.T) {
	t.Parallel()
	testenv.NeedTime(t, 5*time.Second)
	run := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.run", "^TestMemoryKeepsToTheModelInABubble$",
		"-rapid.nofailfile", "-rapid.checks=4200")
	output, err := run.CombinedOutput()
	said := regexp.MustCompile(`(\d+) steps`).FindSubmatch(output)
	if err != nil || said == nil {
		t.Fatalf("%v\n%s", err, output)
	}
	if steps, _ := strconv.Atoi(string(said[1])); steps < 100_000 {
		t.Errorf("these were only %d steps", steps)
	}
}

func TestMemoryLivesInTheTimeOfItsBubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := store.NewMemory(store.MemoryConfig{})
		later := task.Options{Queue: "default", RunAt: time.Now().Add(time.Hour)}
		if _, err := s.Accept(t.Context(), []task.Task{{ID: "1", Options: later}}); err != nil {
			t.Fatal(err)
		}
		tended, err := s.Tend(t.Context(), 1)
		if err != nil || len(tended.Promoted) != 0 || !tended.Next.Equal(later.RunAt) {
			t.Fatalf("before its time: %+v, %v", tended, err)
		}
		<-time.After(time.Until(tended.Next))
		if tended, err = s.Tend(t.Context(), 1); err != nil || len(tended.Promoted) != 1 {
			t.Fatalf("at its time: %+v, %v", tended, err)
		}
	})
}

func TestThirteenTurnsAreEightHighFourNormalAndOneLow(t *testing.T) {
	t.Parallel()
	count := map[task.Priority]int{}
	for n := range 13 {
		order := store.Turn(n)
		count[order[0]]++
		if order[0] == order[1] || order[1] == order[2] || order[0] == order[2] {
			t.Errorf("turn %d looks at %v", n, order)
		}
	}
	if count[task.High] != 8 || count[task.Normal] != 4 || count[task.Low] != 1 {
		t.Errorf("turns %v", count)
	}
}

// mutantVariable tells a run of this test's program which mutant it has.
const mutantVariable = "POSTA_STORE_MUTANT"

// TestMutant runs the suite on the mutant that the environment names; it is for the test
// below, which wants to see it fail.
func TestMutant(t *testing.T) {
	name := os.Getenv(mutantVariable)
	i := slices.IndexFunc(store.Mutants(), func(m store.Mutant) bool { return m.Name == name })
	if i < 0 {
		t.Skip("no mutant is named: TestTheSuiteCatchesEachMutant does that")
	}
	storetest.Run(t, func(_ *testing.T, limits store.Limits) (store.Store, storetest.Clock) {
		clock := storetest.HandClock()
		memory := store.NewMemory(store.MemoryConfig{Now: clock.Now, Limits: limits})
		return store.Mutants()[i].Break(memory), clock
	})
}

// TestTheSuiteCatchesEachMutant runs this program again for each, since a suite that
// fails would fail this test as well.
func TestTheSuiteCatchesEachMutant(t *testing.T) {
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
				// What shows in a race only has so many chances to show.
				run := exec.CommandContext(ctx, os.Args[0], "-test.run", "^TestMutant$/^"+strings.ReplaceAll(theme, " ", "_")+"$",
					"-test.count=40", "-test.failfast", "-rapid.nofailfile", "-rapid.shrinktime=0", "-rapid.checks=1000")
				run.Env = append(os.Environ(), mutantVariable+"="+m.Name)
				output, err := run.CombinedOutput()
				if err == nil || !strings.Contains(string(output), "--- FAIL: TestMutant/") {
					t.Errorf("it was not caught: %v\n%s", err, output)
				}
			})
		}
	}
}
