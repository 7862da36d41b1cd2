package durable_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// logOf returns the lines of a log, and fails when one of them has a key twice.
func logOf(t *testing.T, text string) (lines []map[string]any) {
	t.Helper()
	for line := range strings.Lines(text) {
		if strings.Count(line, `"node":`) > 1 {
			t.Errorf("a key stands there twice: %s", line)
		}
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fields)
	}
	return lines
}

func TestTheLogTellsTheErrorOfEachAttemptThatFailed(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var text bytes.Buffer
		n := w.node("a", func(c *durable.Config) {
			c.Logger = slog.New(slog.NewJSONHandler(&text, &slog.HandlerOptions{Level: slog.LevelInfo})).With("node", "a")
		})
		failing := w.accept(n, "fail", task.Options{MaxAttempts: 2})
		w.finished(n, w.accept(n, "ok").ID)
		w.finished(n, failing.ID)
		n.end()
		var states []any
		for _, line := range logOf(t, text.String()) {
			if line["msg"] != "attempt failed" {
				continue
			}
			if line["error"] != "it did not work" || line["task"] != failing.ID || line["action"] != "fail" || line["queue"] != "default" || line["ran_on"] != nil {
				t.Errorf("got %v", line)
			}
			states = append(states, line["state"], line["attempt"])
		}
		if len(states) != 4 || states[0] != "scheduled" || states[1] != 1.0 || states[2] != "failed" || states[3] != 2.0 {
			t.Errorf("got %v", states)
		}
	})
}

func TestTheLogTellsOfTasksThatAreTakenOverFromADeadNode(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a := w.node("first", func(c *durable.Config) { c.Actions = []string{"minute"} })
		w.acceptMany(a, 3, "ok", task.Options{})
		a.end()
		if got, err := w.store.Claim(t.Context(), store.Claim{Node: "gone", Actions: []string{"ok"}, Limit: 3}); err != nil || len(got) != 3 {
			t.Fatal(got, err)
		}
		var text bytes.Buffer
		n := w.node("a", func(c *durable.Config) {
			c.Logger = slog.New(slog.NewJSONHandler(&text, nil)).With("node", "a")
		})
		w.after(task.LeaseTime + time.Second)
		n.end()
		told := 0
		for _, line := range logOf(t, text.String()) {
			if line["msg"] == "the tasks of a node that died are taken over" {
				told++
				if line["from"] != "gone" || line["queued"] != 3.0 || line["ended"] != 0.0 || line["node"] != "a" || line["level"] != "WARN" {
					t.Errorf("got %v", line)
				}
			}
		}
		if told != 1 {
			t.Errorf("told %d times:\n%s", told, text.String())
		}
	})
}
