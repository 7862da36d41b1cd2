package sqlite_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/posta-tasks/posta/store/sqlite"
	"github.com/posta-tasks/posta/task"
)

// smallDisk mounts a file system of a few megabytes. It needs the right to mount, which make check has.
func smallDisk(t *testing.T, megabytes int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", megabytes)); err != nil {
		if os.Getenv("POSTA_CHECK") == "1" {
			t.Fatalf("a small file system cannot be mounted: %v", err)
		}
		t.Skipf("a small file system cannot be mounted, so there is no disk to fill: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmounting %s: %v", dir, err)
		}
	})
	return dir
}

// fill accepts tasks until the disk is full, and returns the ids of those that were accepted.
func fill(t *testing.T, s *sqlite.Store, ids *atomic.Int64) (accepted []string) {
	t.Helper()
	for range 2000 {
		batch := drafts(ids, 4)
		for i := range batch {
			batch[i].Payload.Inline = []byte(`"` + strings.Repeat("x", 10_000) + `"`)
		}
		_, err := s.Accept(t.Context(), batch)
		if err == nil {
			for _, b := range batch {
				accepted = append(accepted, b.ID)
			}
			continue
		}
		if task.CodeOf(err) != task.Unavailable || !strings.Contains(err.Error(), "disk is full") {
			t.Errorf("on a full disk: %v", err)
		}
		return accepted
	}
	t.Fatal("the disk does not become full")
	return nil
}

func TestAFullDiskOnlyRefusesAccepts(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t, 40)
	path, ballast := filepath.Join(dir, "tasks.db"), filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 10<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, sqlite.Config{Path: path})
	var ids atomic.Int64
	accepted := fill(t, s, &ids)
	sameCounts(t, s)
	if found, err := s.Get(t.Context(), accepted[:1]); err != nil || len(found[0].Payload.Inline) < 10_000 {
		t.Errorf("a read on a full disk: %v", err)
	}

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	more := fill(t, s, &ids)
	if len(more) == 0 {
		t.Error("nothing is accepted after space was freed")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, sqlite.Config{Path: path})
	found, err := s.Get(t.Context(), append(accepted, more...))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if f.State != task.Queued || len(f.Payload.Inline) < 10_000 {
			t.Fatalf("%s differs from what was accepted", f.ID)
		}
	}
	sameCounts(t, s)
}
