package blob_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/blob/blobtest"
)

const (
	// killedFolder tells a run of this test's program which directory it puts bodies into.
	killedFolder = "POSTA_BLOB_KILLED"
	// killedFirst tells it the number of its first task.
	killedFirst = "POSTA_BLOB_FIRST"

	kills   = 20
	putters = 4
	// longestLife bounds how long a process lives after its first answer.
	longestLife = 30 * time.Millisecond
)

// killedSize follows from the number of a task, as its body does.
func killedSize(n int) int64 { return int64(n*7919) % (200 << 10) }

// TestKilled is the process that is killed: it puts bodies, deletes each third, and says
// what was answered.
func TestKilled(t *testing.T) {
	folder := os.Getenv(killedFolder)
	if folder == "" {
		t.Skip("no directory is named: TestEveryBodyIsWholeHoweverOftenTheProcessIsKilled does that")
	}
	d, err := blob.OpenDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var first int
	fmt.Sscan(os.Getenv(killedFirst), &first)
	var all sync.WaitGroup
	for i := range putters {
		all.Go(func() {
			for n := first + i; ; n += putters {
				key := blob.Payload(blobtest.ID(n))
				if _, err := d.Put(t.Context(), key, blobtest.Body(uint64(n), killedSize(n)), 1<<20); err != nil {
					t.Error(err)
					return
				}
				if n%3 == 0 {
					fmt.Println("deleting", n)
					d.Delete(t.Context(), []blob.Key{key})
					continue
				}
				fmt.Println("put", n)
			}
		})
	}
	all.Wait()
}

func TestEveryBodyIsWholeHoweverOftenTheProcessIsKilled(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "blobs")
	answered, next := map[int]bool{}, 0
	for range kills {
		for _, n := range livesAndDies(t, folder, next) {
			answered[n] = true
			next = max(next, n+1)
		}
		next += 2 * putters // what it was at, and may have put without saying
	}
	d, err := blob.OpenDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	found := 0
	for body, err := range d.List(t.Context(), farAhead()) {
		if err != nil {
			t.Fatal(err)
		}
		found++
		var n int
		fmt.Sscanf(body.Key.Task[4:], "%d", &n)
		wantWhole(t, d, n)
		delete(answered, n)
	}
	for n := range answered {
		t.Errorf("%s was answered and is not there", blobtest.ID(n))
	}
	left, err := d.RemoveUnfinished(t.Context(), farAhead())
	if err != nil {
		t.Error(err)
	}
	if files, err := os.ReadDir(filepath.Join(folder, "tmp")); err != nil || len(files) > 0 {
		t.Errorf("%d files remain in tmp, %v", len(files), err)
	}
	t.Logf("%d kills, %d bodies whole, %d leftovers removed", kills, found, left)
	if found < kills {
		t.Errorf("only %d bodies were put", found)
	}
}

// livesAndDies lets a process put bodies for a while after its first answer, kills it, and
// gives the numbers of those that were answered and not deleted.
func livesAndDies(t *testing.T, folder string, first int) []int {
	t.Helper()
	process := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestKilled$", "-test.v")
	process.Env = append(os.Environ(), killedFolder+"="+folder, fmt.Sprintf("%s=%d", killedFirst, first))
	output, err := process.StdoutPipe()
	if err == nil {
		err = process.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var answered []int
	var said strings.Builder
	lines := bufio.NewScanner(io.TeeReader(output, &said))
	for lines.Scan() {
		var n int
		switch _, err := fmt.Sscanf(lines.Text(), "put %d", &n); {
		case err != nil:
			continue
		case len(answered) == 0:
			time.AfterFunc(rand.N(longestLife), func() { process.Process.Kill() })
		}
		answered = append(answered, n)
	}
	process.Wait()
	if len(answered) == 0 {
		t.Fatalf("it put nothing:\n%s", &said)
	}
	return answered
}

func wantWhole(t *testing.T, d *blob.Dir, n int) {
	t.Helper()
	meter := blob.Measure(t.Context(), blobtest.Body(uint64(n), killedSize(n)), 1<<20)
	if _, err := io.Copy(io.Discard, meter); err != nil {
		t.Fatal(err)
	}
	stream, err := d.Get(t.Context(), blob.Payload(blobtest.ID(n)), meter.Sum())
	if err != nil {
		t.Error(err)
		return
	}
	defer stream.Close()
	if _, err := io.Copy(io.Discard, stream); err != nil {
		t.Errorf("body %d: %v", n, err)
	}
}
