package schedule_test

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/posta-tasks/posta/lab/chaos/history"
	"github.com/posta-tasks/posta/lab/chaos/schedule"
)

func wish(seed uint64) schedule.Config {
	return schedule.Config{
		Seed: seed, Targets: []string{"n1", "n2"}, Kills: 30, Points: []string{"a", "b"}, Pauses: 5, Long: 2, Restart: 4, Every: time.Second,
	}
}

func TestAPlanFollowsFromItsSeed(t *testing.T) {
	t.Parallel()
	if !slices.Equal(schedule.Make(wish(1)), schedule.Make(wish(1))) {
		t.Error("the same seed gives another plan")
	}
	if slices.Equal(schedule.Make(wish(1)), schedule.Make(wish(2))) {
		t.Error("another seed gives the same plan")
	}
}

func TestAPlanHasWhatWasWished(t *testing.T) {
	t.Parallel()
	plan := schedule.Make(wish(3))
	count := map[string]int{}
	for _, s := range plan {
		count[s.Fault]++
		if s.After > 4*time.Second {
			t.Errorf("%v comes late", s)
		}
	}
	if count[schedule.Kill]+count[schedule.KillAt] != 30 || count[schedule.KillAt] != 10 || count[schedule.Pause] != 7 || count[schedule.Restart] != 4 {
		t.Errorf("%v", count)
	}
	if long := schedule.Length(plan); long < 32*time.Second {
		t.Errorf("two long pauses and the rest take %v", long)
	}
}

// untold is for plans that nobody follows.
func untold(int, schedule.Step) {}

func TestTheLastStepsOfAPlanComeInPairs(t *testing.T) {
	t.Parallel()
	w := wish(4)
	w.More, w.Pairs = []schedule.Kind{{Fault: "flood", Target: "cellar", Count: 20, For: time.Second}}, 40
	plan, floods, pairs := schedule.Make(w), 0, 0
	for i, s := range plan {
		if s.Fault == "flood" {
			if floods++; s.Target != "cellar" || s.For <= 0 || s.For > time.Second {
				t.Errorf("%v", s)
			}
		}
		if !s.Along {
			continue
		}
		if pairs++; i <= len(plan)*6/10 || plan[i-1].Along || plan[i-1].Target == s.Target || s.After > 2*time.Second {
			t.Errorf("step %d, %v, begins together with %v", i+1, s, plan[max(i-1, 0)])
		}
	}
	if floods != 20 || pairs < len(plan)*2/10-1 {
		t.Errorf("%d floods and %d pairs of %d steps", floods, pairs, len(plan))
	}
}

func TestStepsThatBeginTogetherWaitForNoOther(t *testing.T) {
	t.Parallel()
	happened, err := history.Append(filepath.Join(t.TempDir(), "happened.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer happened.Close()
	met := make(chan struct{})
	faults := schedule.Faults{
		"wait": func(ctx context.Context, _ schedule.Step) error {
			select {
			case <-met:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		},
		"meet": func(context.Context, schedule.Step) error { close(met); return nil },
	}
	if err := schedule.Run(t.Context(), []schedule.Step{{Fault: "wait"}, {Fault: "meet", Along: true}}, faults, happened, untold); err != nil {
		t.Error(err)
	}
}

func TestAPlanIsDoneInItsOrderAndNoted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	happened, err := history.Append(filepath.Join(dir, "happened.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var done []string
	faults := schedule.Faults{"knock": func(_ context.Context, s schedule.Step) error {
		done = append(done, s.Target)
		return nil
	}}
	plan := []schedule.Step{{Fault: "knock", Target: "a"}, {Fault: "knock", Target: "b"}}
	var reported []int
	if err := schedule.Run(t.Context(), plan, faults, happened, func(begun int, _ schedule.Step) { reported = append(reported, begun) }); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(reported, []int{1, 2}) {
		t.Errorf("reported %v", reported)
	}
	if err := happened.Close(); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(done) != "[a b]" {
		t.Errorf("done %v", done)
	}
	if err := schedule.Run(t.Context(), []schedule.Step{{Fault: "flood"}}, faults, happened, untold); err == nil {
		t.Error("a fault that the system does not know is passed over")
	}
	faults["leave"] = func(context.Context, schedule.Step) error { runtime.Goexit(); return nil }
	if err := schedule.Run(t.Context(), []schedule.Step{{Fault: "leave"}}, faults, happened, untold); err == nil {
		t.Error("a fault that ends its goroutine is passed over")
	}
}
