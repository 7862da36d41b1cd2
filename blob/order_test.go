package blob

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// synced opens a directory that calls hook in the place of each sync, with the path of
// what is synced.
func synced(t *testing.T, hook func(path string) error) *Dir {
	t.Helper()
	folder := t.TempDir()
	d, err := OpenDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	d.sync = func(file *os.File) error {
		path, err := filepath.Rel(folder, file.Name())
		if err != nil {
			return err
		}
		return hook(filepath.ToSlash(path))
	}
	return d
}

const orderTask = "01JE0000000000000000000001"

// TestTheFileIsSyncedBeforeItIsSeenAndTheWayToItBeforeTheAnswer is what makes a body
// survive a power failure; the order cannot be seen from outside.
func TestTheFileIsSyncedBeforeItIsSeenAndTheWayToItBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	for _, key := range []Key{Payload(orderTask), Result(orderTask, 3)} {
		var order []string
		var d *Dir
		d = synced(t, func(path string) error {
			seen := "hidden"
			if _, err := d.root.Stat(key.String()); err == nil {
				seen = "seen"
			}
			if strings.HasPrefix(path, tmp+"/") {
				path = tmp
			}
			order = append(order, seen+" "+path)
			return nil
		})
		if _, err := d.Put(t.Context(), key, strings.NewReader("{}"), 10); err != nil {
			t.Fatal(err)
		}
		want := []string{"hidden tmp", "seen " + orderTask, "seen ."}
		if key.Attempt > 0 {
			want = slices.Insert(want, 1, "seen "+orderTask+"/3")
		}
		if !slices.Equal(order, want) {
			t.Errorf("%s: %q, want %q", key, order, want)
		}
		// Whoever put the same body may have died before it synced the way to it.
		order = nil
		if _, err := d.Put(t.Context(), key, strings.NewReader("{}"), 10); err != nil {
			t.Fatal(err)
		}
		want[0] = "seen tmp"
		if !slices.Equal(order, want) {
			t.Errorf("%s again: %q, want %q", key, order, want)
		}
	}
}

func TestWhatCannotBeSyncedIsNotAnswered(t *testing.T) {
	t.Parallel()
	for fails := range 3 {
		n := 0
		d := synced(t, func(string) error {
			if n++; n == fails+1 {
				return syscall.EIO
			}
			return nil
		})
		key := Payload(orderTask)
		_, err := d.Put(t.Context(), key, strings.NewReader("{}"), 10)
		if !errors.Is(err, ErrUnavailable) || !errors.Is(err, syscall.EIO) {
			t.Errorf("the sync %d fails: %v", fails, err)
		}
		if _, err := d.root.Stat(key.String()); fails == 0 && err == nil {
			t.Error("a body that was not synced is seen")
		}
		sum, err := d.Put(t.Context(), key, strings.NewReader("{}"), 10)
		if err != nil || sum.Size != 2 {
			t.Errorf("repeated: %v, %v", sum, err)
		}
		if n, err := d.RemoveUnfinished(t.Context(), time.Now().Add(time.Hour)); n != 0 || err != nil {
			t.Errorf("%d things were left, %v", n, err)
		}
	}
}
