package history_test

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/posta-tasks/posta/lab/chaos/history"
)

func TestWhatWasWrittenIsRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	logs, err := history.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := history.Run{
		About:    history.About{Seed: 7, Plan: []string{"+1s kill n1"}, Drained: true},
		Clients:  []history.Event{{At: 1, Conn: 2, ID: 3, Kind: history.Invoke, Ask: &history.Ask{Op: "get", Task: "t"}}},
		Happened: []history.Occurrence{{At: 1, What: history.Up, Target: "n1", PID: 2}},
		Store:    []history.Record{{Task: "t", Status: "done", Entries: []history.Entry{{Status: "queued", Seq: 1}}}},
	}
	logs.Clients.Add(want.Clients[0])
	logs.Happened.Add(want.Happened[0])
	logs.Store.Add(want.Store[0])
	if err := logs.Close(); err != nil {
		t.Fatal(err)
	}
	if err := history.Describe(dir, want.About); err != nil {
		t.Fatal(err)
	}
	got, err := history.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("%+v, want %+v", *got, want)
	}
}

func TestADamagedLineIsAnErrorWithItsPlace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"run.json": "{}", history.JournalFile: "{\"pid\":1}\n{\"pid\"\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := history.Load(dir)
	if err == nil || err.Error()[:len("journal.jsonl, line 2")] != "journal.jsonl, line 2" {
		t.Errorf("the error is %v", err)
	}
}
