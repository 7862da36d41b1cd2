package file

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

func TestInspectReportsOnAFileAndChangesNothing(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	if _, err := Inspect(t.Context(), path, (&owner{}).config(path).Migrations); !os.IsNotExist(err) {
		t.Errorf("a file that is not there: %v", err)
	}
	f, o := openAt(t, path)
	if err := f.Write(t.Context(), add("one")); err != nil {
		t.Fatal(err)
	}
	r, err := Inspect(t.Context(), path, o.config(path).Migrations)
	if err != nil || r.Version != 1 || r.Known != 1 || r.Mode != 0o600 || r.Journal != "wal" || r.Sync != 2 || r.Found != nil || !r.CheckedAll {
		t.Errorf("an open file: %+v, %v", r, err)
	}
	if r.HeldBy != strconv.Itoa(os.Getpid()) {
		t.Errorf("held by %q", r.HeldBy)
	}
	if got := words(t, f); len(got) != 1 {
		t.Errorf("words %v", got)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err = Inspect(t.Context(), path, o.config(path).Migrations); err != nil || r.HeldBy != "" || r.Version != 1 {
		t.Errorf("a closed file: %+v, %v", r, err)
	}
	left, err := filepath.Glob(filepath.Dir(path) + "/*")
	if err != nil || len(left) > 4 { // the file, its lock, and two files that SQLite keeps for readers
		t.Errorf("files in the directory: %v", left)
	}
}

func TestInspectFindsDamageUnlessItsTimeEnds(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	o := &owner{}
	spoil(t, path)
	if r, err := Inspect(t.Context(), path, o.config(path).Migrations); err == nil && r.Found == nil {
		t.Errorf("no damage was found: %+v", r)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r, err := Inspect(ctx, path, o.config(path).Migrations); err == nil && r.CheckedAll {
		t.Errorf("after its time the check is reported as complete: %+v", r)
	}
}
