package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/lab/chaos/history"
)

// do runs an action as an attempt of task t, on a goroutine that it may end, and returns its result, what
// it left in the journal, and its error.
func do(t *testing.T, name string, attempt int, payload history.Payload) (result any, journal string, err error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	list, err := chaosActions(path)
	if err != nil {
		t.Fatal(err)
	}
	registry, err := actions.NewRegistry(list...)
	if err != nil {
		t.Fatal(err)
	}
	entry := registry.Lookup([]byte("chaos." + name))
	text, err := json.Marshal(payload)
	if entry == nil || err != nil {
		t.Fatalf("%s: %v, %v", name, entry, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { _ = recover() }()
		result, err = entry.Run(context.Background(), &actions.Call{Action: entry.Name, Payload: text, Task: "t", Attempt: attempt})
	}()
	<-done
	kept, errRead := os.ReadFile(path)
	if errRead != nil {
		t.Fatal(errRead)
	}
	return result, string(kept), err
}

func TestAnActionThatSucceedsNamesItsNonceAndItsAttempt(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"hash", "sleep", "flaky", "hang", "big", "progress"} {
		result, journal, err := do(t, name, 3, history.Payload{Nonce: "n", Fails: 2})
		if want := (history.Result{Hash: history.Hash("n"), Attempt: 3}); err != nil || result != want {
			t.Errorf("%s: %v, %v", name, result, err)
		}
		if strings.Count(journal, "\n") != 2 || !strings.Contains(journal, `"how":"start"`) || !strings.Contains(journal, `"how":"done"`) {
			t.Errorf("%s: journal %s", name, journal)
		}
	}
}

func TestAnActionThatDoesNotSucceedSaysHowInTheJournal(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]string{
		"flaky": history.Failed, "refuse": history.Failed, "panic": history.Broken, "goexit": history.Broken,
	} {
		_, journal, _ := do(t, name, 1, history.Payload{Nonce: "n", Fails: 1})
		if !strings.Contains(journal, `"how":"`+how+`"`) || !strings.Contains(journal, `"task":"t","attempt":1`) {
			t.Errorf("%s: journal %s", name, journal)
		}
	}
	if _, _, err := do(t, "refuse", 1, history.Payload{}); !actions.IsPermanent(err) {
		t.Errorf("refuse fails with %v, which is not permanent", err)
	}
}
