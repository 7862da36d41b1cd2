package blob_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/posta-tasks/posta/blob/blobtest"
	"github.com/posta-tasks/posta/internal/testenv"
)

// TestAFullDiskRefusesAndRecovers has a file system of its own of a few megabytes.
func TestAFullDiskRefusesAndRecovers(t *testing.T) {
	t.Parallel()
	mount := smallDisk(t, 4<<20)
	blobtest.Full(t, storage(t, filepath.Join(mount, "blobs")), func(left int64) func() {
		return fill(t, filepath.Join(mount, "ballast"), left)
	}, true)
}

// smallDisk mounts a tmpfs until the test ends.
func smallDisk(t *testing.T, size int64) string {
	t.Helper()
	lacking := func(why string) {
		if os.Getenv(testenv.Check) == "1" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		lacking("a full disk is tried on a tmpfs, which only root may mount, on Linux")
	}
	folder := t.TempDir()
	mount := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d,mode=700", size), "posta-test", folder)
	if output, err := mount.CombinedOutput(); err != nil {
		lacking(fmt.Sprintf("mount a tmpfs: %v: %s", err, output))
	}
	t.Cleanup(func() {
		if output, err := exec.Command("umount", folder).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, output)
		}
	})
	return folder
}

// fill writes a file until the disk is full, and cuts so much of it off again.
func fill(t *testing.T, name string, left int64) (restore func()) {
	t.Helper()
	file, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	size := int64(0)
	for full := false; !full; { // a tmpfs counts by processor, and may be full a little early
		n, err := io.Copy(file, io.LimitReader(zeroes{}, 1<<30))
		if err == nil {
			t.Fatal(errors.New("the disk is larger than a gigabyte"))
		}
		size += n
		full = n == 0
	}
	if err := file.Truncate(max(size-left, 0)); err != nil {
		t.Fatal(err)
	}
	return func() { os.Remove(name) }
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { return len(p), nil }
