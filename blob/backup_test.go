package blob_test

import (
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/blob/blobtest"
)

func TestABackupHasEveryBody(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	from, err := blob.OpenDir(filepath.Join(folder, "from"))
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := blob.OpenDir(filepath.Join(folder, "to"))
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	sums := map[blob.Key]blob.Sum{}
	for key, body := range map[blob.Key]string{
		blob.Payload(blobtest.ID(1)): "one", blob.Result(blobtest.ID(1), 2): "", blob.Payload(blobtest.ID(2)): strings.Repeat("x", 1<<20),
	} {
		if sums[key], err = from.Put(t.Context(), key, strings.NewReader(body), 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // one that is repeated finds them there
		count, bytes, err := from.Backup(t.Context(), to)
		if count != 3 || bytes != 1<<20+3 || err != nil {
			t.Errorf("%d bodies with %d bytes, %v", count, bytes, err)
		}
	}
	for key, sum := range sums {
		body, err := to.Get(t.Context(), key, sum)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, body); n != sum.Size || err != nil {
			t.Errorf("%s has %d bytes, %v", key, n, err)
		}
		body.Close()
	}
	to.Close()
	if _, _, err := from.Backup(t.Context(), to); !errors.Is(err, blob.ErrUnavailable) {
		t.Errorf("a backup to what is closed gives %v", err)
	}
}
