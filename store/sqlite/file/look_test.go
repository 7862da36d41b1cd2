package file

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

func TestALookTellsHowAFileIsAndChangesNothing(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	if _, err := Look(t.Context(), path, (&owner{}).config(path).Steps); !os.IsNotExist(err) {
		t.Errorf("a file that is not there: %v", err)
	}
	f, o := openAt(t, path)
	if err := f.Write(t.Context(), add("one")); err != nil {
		t.Fatal(err)
	}
	r, err := Look(t.Context(), path, o.config(path).Steps)
	if err != nil || r.Version != 1 || r.Known != 1 || r.Mode != 0o600 || r.Journal != "wal" || r.Sync != 2 || r.Found != nil || !r.CheckedAll {
		t.Errorf("one that is open: %+v, %v", r, err)
	}
	if r.HeldBy != strconv.Itoa(os.Getpid()) {
		t.Errorf("it is held by %q", r.HeldBy)
	}
	if got := words(t, f); len(got) != 1 {
		t.Errorf("it has %v", got)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err = Look(t.Context(), path, o.config(path).Steps); err != nil || r.HeldBy != "" || r.Version != 1 {
		t.Errorf("one that was closed: %+v, %v", r, err)
	}
	left, err := filepath.Glob(filepath.Dir(path) + "/*")
	if err != nil || len(left) > 4 { // the file, its lock, and what SQLite has beside a file that is read
		t.Errorf("beside it there is %v", left)
	}
}

func TestALookFindsDamageInItsTime(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	o := &owner{}
	spoil(t, path)
	if r, err := Look(t.Context(), path, o.config(path).Steps); err == nil && r.Found == nil {
		t.Errorf("a damaged file: %+v", r)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r, err := Look(ctx, path, o.config(path).Steps); err == nil && r.CheckedAll {
		t.Errorf("without time: %+v", r)
	}
}
