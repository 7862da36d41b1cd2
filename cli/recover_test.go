package cli

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/sqlite"
	"github.com/posta-tasks/posta/task"
)

// TestAStartTakesBackOnlyTasksOfItsOwnActions: workers that outlived the process may still run the others.
func TestAStartTakesBackOnlyTasksOfItsOwnActions(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "posta.db")
	before, err := sqlite.Open(sqlite.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	var drafts []task.Task
	for _, action := range []string{"own", "upper", "remote"} {
		drafts = append(drafts, task.Task{ID: "01JE" + action, Action: action, Options: task.Options{
			Queue: "default", Timeout: time.Minute, MaxAttempts: 1, Keep: time.Hour, KeepFailed: time.Hour,
		}})
	}
	if _, err := before.Accept(t.Context(), drafts); err != nil {
		t.Fatal(err)
	}
	claimed, err := before.Claim(t.Context(), store.Claim{Node: "n1", Actions: []string{"own", "upper", "remote"}, Limit: 3})
	if err != nil || len(claimed) != 3 {
		t.Fatal(claimed, err)
	}
	if err := before.Close(); err != nil { // as if the process had died: it gives nothing back
		t.Fatal(err)
	}
	for _, c := range []struct {
		own []actions.Action
		now map[string]string // the node that has each task
	}{
		{[]actions.Action{{Name: "own"}}, map[string]string{"own": "", "upper": "n1", "remote": "n1"}},
		{nil, map[string]string{"own": "", "upper": "", "remote": "n1"}}, // nil means the built-in actions
	} {
		s, err := openStore(t.Context(), "sqlite://"+path, "--store", c.own, store.Limits{}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		for action, node := range c.now {
			got, err := s.Get(t.Context(), []string{"01JE" + action})
			if err != nil || got[0].Reserved != node || got[0].Suspect != (node == "") {
				t.Errorf("%s is reserved for %q, suspect:%t, %v; want %q", action, got[0].Reserved, got[0].Suspect, err, node)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
