package durable

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/task"
)

// anyAge is a time that no body is as young as.
func anyAge() time.Time { return time.Now().Add(time.Hour) }

// storageWith is a directory with these bodies.
func storageWith(t *testing.T, keys ...blob.Key) *blob.Dir {
	t.Helper()
	dir, err := blob.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	for _, key := range keys {
		if _, err := dir.Put(t.Context(), key, strings.NewReader("x"), 1); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// bodiesIn lists what is in it.
func bodiesIn(t *testing.T, dir *blob.Dir) []string {
	t.Helper()
	kept := map[string]bool{}
	for found, err := range dir.List(t.Context(), anyAge()) {
		if err != nil {
			t.Fatal(err)
		}
		kept[found.Key.String()] = true
	}
	return slices.Sorted(maps.Keys(kept))
}

func orphanID(n int) string { return fmt.Sprintf("01J%023d", n) }

func TestABodyStaysAsLongAsATaskHasItOrMayStillHaveIt(t *testing.T) {
	t.Parallel()
	large := task.Body{Size: 1, SHA256: "x"}
	known := map[string]task.Task{
		orphanID(1): {ID: orphanID(1), Payload: large, State: task.Queued},
		orphanID(2): {ID: orphanID(2), State: task.Running, Fence: 2},                // may still record a result
		orphanID(3): {ID: orphanID(3), State: task.Done, Fence: 2, Result: large},    // has one
		orphanID(4): {ID: orphanID(4), State: task.Scheduled, Fence: 1},              // its attempt failed
		orphanID(7): {ID: orphanID(7), State: task.Queued, Reserved: "n1", Fence: 1}, // may be about to record one
		orphanID(5): {ID: orphanID(5), State: task.Done, Fence: 1, Payload: task.Body{Inline: []byte("1")}},
	}
	rows := func(_ context.Context, ids []string) ([]task.Task, error) {
		list := make([]task.Task, len(ids))
		for i, id := range ids {
			list[i] = known[id]
		}
		return list, nil
	}
	kept := []blob.Key{blob.Payload(orphanID(1)), blob.Result(orphanID(2), 2), blob.Result(orphanID(3), 2), blob.Result(orphanID(7), 1)}
	gone := []blob.Key{
		blob.Result(orphanID(2), 1), blob.Result(orphanID(3), 1), blob.Result(orphanID(4), 1), blob.Payload(orphanID(5)), blob.Result(orphanID(5), 1), blob.Payload(orphanID(6)),
	}
	for i := range 300 { // more than a page
		gone = append(gone, blob.Payload(orphanID(1000+i)))
	}
	dir := storageWith(t, append(gone, kept...)...)
	if err := deleteOrphans(t.Context(), dir, rows, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if n := len(bodiesIn(t, dir)); n != len(kept)+len(gone) {
		t.Errorf("of young bodies %d are left", n)
	}
	if err := deleteOrphans(t.Context(), dir, rows, anyAge()); err != nil {
		t.Fatal(err)
	}
	want := []string{kept[0].String(), kept[1].String(), kept[2].String(), kept[3].String()}
	if got := bodiesIn(t, dir); !slices.Equal(got, want) {
		t.Errorf("left are %q, want %q", got, want)
	}
}

func TestNothingIsDeletedWhenTheRowsAreNotKnown(t *testing.T) {
	t.Parallel()
	dir, away := storageWith(t, blob.Payload(orphanID(1))), errors.New("away")
	rows := func(context.Context, []string) ([]task.Task, error) { return nil, away }
	if err := deleteOrphans(t.Context(), dir, rows, anyAge()); !errors.Is(err, away) {
		t.Errorf("got %v", err)
	}
	if n := len(bodiesIn(t, dir)); n != 1 {
		t.Errorf("%d bodies are left", n)
	}
}
