package nemesis_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/posta-tasks/posta/chaos/history"
	"github.com/posta-tasks/posta/chaos/nemesis"
)

func wish(seed uint64) nemesis.Wish {
	return nemesis.Wish{
		Seed: seed, Targets: []string{"n1", "n2"}, Kills: 30, Points: []string{"a", "b"}, Pauses: 5, Long: 2, Restart: 4, Every: time.Second,
	}
}

func TestAPlanFollowsFromItsSeed(t *testing.T) {
	t.Parallel()
	if !slices.Equal(nemesis.Make(wish(1)), nemesis.Make(wish(1))) {
		t.Error("the same seed gives another plan")
	}
	if slices.Equal(nemesis.Make(wish(1)), nemesis.Make(wish(2))) {
		t.Error("another seed gives the same plan")
	}
}

func TestAPlanHasWhatWasWished(t *testing.T) {
	t.Parallel()
	plan := nemesis.Make(wish(3))
	count := map[string]int{}
	for _, s := range plan {
		count[s.Fault]++
		if s.After > 4*time.Second {
			t.Errorf("%v comes late", s)
		}
	}
	if count[nemesis.Kill]+count[nemesis.KillAt] != 30 || count[nemesis.KillAt] != 10 || count[nemesis.Pause] != 7 || count[nemesis.Restart] != 4 {
		t.Errorf("%v", count)
	}
	if long := nemesis.Length(plan); long < 32*time.Second {
		t.Errorf("two long pauses and the rest take %v", long)
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
	faults := nemesis.Faults{"knock": func(_ context.Context, s nemesis.Step) error {
		done = append(done, s.Target)
		return nil
	}}
	plan := []nemesis.Step{{Fault: "knock", Target: "a"}, {Fault: "knock", Target: "b"}}
	if err := nemesis.Run(t.Context(), plan, faults, happened); err != nil {
		t.Fatal(err)
	}
	if err := happened.Close(); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(done) != "[a b]" {
		t.Errorf("done %v", done)
	}
	if err := nemesis.Run(t.Context(), []nemesis.Step{{Fault: "flood"}}, faults, happened); err == nil {
		t.Error("a fault that the system does not know is passed over")
	}
}
