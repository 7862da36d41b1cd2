package blob_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/blob/blobtest"
	"github.com/posta-tasks/posta/internal/testenv"
)

// TestMain has the tests wait beside each other, which most of them do.
func TestMain(m *testing.M) {
	testenv.Overlap(16)
	goleak.VerifyTestMain(m)
}

// storage opens a directory for the suite.
func storage(t *testing.T, folder string) blobtest.Storage {
	t.Helper()
	open := func() blob.Blobs {
		d, err := blob.OpenDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	return blobtest.Storage{
		Blobs: open(),
		Again: open,
		Spoil: func(key blob.Key, edit func([]byte) []byte) {
			file := filepath.Join(folder, filepath.FromSlash(key.String()))
			stored, err := os.ReadFile(file)
			if err == nil {
				err = os.WriteFile(file, edit(stored), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		CutOff: func() {
			file, err := os.CreateTemp(filepath.Join(folder, "tmp"), "")
			if err == nil {
				_, err = file.WriteString("half of a bo")
				file.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
		},
	}
}

// TestDir is not parallel, since the suite begins with a look at the process's memory.
func TestDir(t *testing.T) {
	blobtest.Run(t, blobtest.Driver{Open: func(t *testing.T) blobtest.Storage {
		return storage(t, filepath.Join(t.TempDir(), "blobs"))
	}})
}

func TestADirectoryIsForItsOwnerAlone(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	folder := filepath.Join(top, "data", "blobs")
	d := storage(t, folder)
	defer d.Close()
	for _, key := range []blob.Key{blob.Payload(blobtest.ID(1)), blob.Result(blobtest.ID(1), 1)} {
		if _, err := d.Put(t.Context(), key, strings.NewReader("{}"), 10); err != nil {
			t.Fatal(err)
		}
	}
	files := 0
	err := filepath.WalkDir(filepath.Join(top, "data"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		want := fs.FileMode(0o600)
		if entry.IsDir() {
			want = 0o700
		} else {
			files++
		}
		if err == nil && info.Mode().Perm() != want {
			t.Errorf("%s has the mode %o, want %o", path, info.Mode().Perm(), want)
		}
		return err
	})
	if err != nil || files != 2 {
		t.Errorf("%d files, %v", files, err)
	}
}

func TestADirectoryLeavesAloneWhatIsNotItsOwn(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	task := blobtest.ID(1)
	foreign := []string{"lost+found/x", "README", task + "/notes", task + "/01/result", task + "/1/payload", "tmp/young", strings.ToLower(task) + "/payload"}
	for _, name := range foreign {
		file := filepath.Join(folder, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d := storage(t, folder)
	defer d.Close()
	for found, err := range d.List(t.Context(), farAhead()) {
		t.Errorf("%v is listed, %v", found, err)
	}
	if n, err := d.RemoveUnfinished(t.Context(), farAhead().AddDate(-2, 0, 0)); n != 0 || err != nil {
		t.Errorf("%d unfinished Puts were removed, %v", n, err)
	}
	for _, name := range foreign {
		if _, err := os.Stat(filepath.Join(folder, filepath.FromSlash(name))); err != nil {
			t.Error(err)
		}
	}
}

func TestNoLinkLeadsOutOfTheDirectory(t *testing.T) {
	t.Parallel()
	outside, folder := t.TempDir(), filepath.Join(t.TempDir(), "blobs")
	d := storage(t, folder)
	defer d.Close()
	if err := os.Symlink(outside, filepath.Join(folder, blobtest.ID(1))); err != nil {
		t.Skip(err)
	}
	if _, err := d.Put(t.Context(), blob.Payload(blobtest.ID(1)), strings.NewReader("{}"), 10); err == nil {
		t.Error("a body was put behind a link")
	}
	if list, err := os.ReadDir(outside); err != nil || len(list) != 0 {
		t.Errorf("outside there are %v, %v", list, err)
	}
}

func TestAFileIsNoDirectory(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "blobs")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{file, filepath.Join(file, "deeper")} {
		if d, err := blob.OpenDir(name); err == nil {
			d.Close()
			t.Errorf("%s was opened", name)
		}
	}
}
