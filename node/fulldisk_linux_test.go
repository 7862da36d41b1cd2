package node_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/store/sqlite"
	"github.com/posta-tasks/posta/task"
)

// smallDisk mounts a file system of 40 MiB. It needs permission to mount, which make check has.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=40m"); err != nil {
		if os.Getenv(testenv.Check) == "1" {
			t.Fatalf("a small file system cannot be mounted: %v", err)
		}
		t.Skipf("a small file system cannot be mounted, so no disk gets full here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmounting %s: %v", dir, err)
		}
	})
	return dir
}

// openOn starts a node with its tasks and large bodies on a disk.
func openOn(t *testing.T, dir string) (*visitor, *sqlite.Store) {
	t.Helper()
	kept, err := sqlite.Open(sqlite.Config{Path: filepath.Join(dir, "posta.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kept.Close() })
	blobs, err := blob.OpenDir(filepath.Join(dir, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { blobs.Close() })
	server := openStage(t, node.Config{Durable: &durable.Config{Store: kept, Blobs: blobs, RunsSuspects: true}})
	v := visit(t, server.addr)
	if err := v.conn.SetDeadline(time.Now().Add(5 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	return v, kept
}

// fill enqueues payloads of a size until one is refused, and returns the ids of the tasks.
func fill(t *testing.T, v *visitor, bytes int) (ids []string) {
	t.Helper()
	for range 40 << 20 / bytes {
		v.send(`{"id":"f","op":"enqueue","action":"echo","delay":3600,"payload":"` + strings.Repeat("x", bytes) + `"}` + "\n")
		line, err := v.next()
		if err != nil {
			t.Fatal(err)
		}
		id, accepted := strings.CutPrefix(line, `{"id":"f","status":"scheduled","task":"`)
		if !accepted {
			if !strings.HasPrefix(line, `{"id":"f","status":"error","code":"unavailable"`) {
				t.Errorf("the reply to an enqueue on a full disk is %s", short(line))
			}
			return ids
		}
		ids = append(ids, id[:26])
	}
	t.Fatal("the disk does not get full")
	return nil
}

func TestANodeOnAFullDiskRefusesTasksAndContinues(t *testing.T) {
	t.Parallel()
	for name, bytes := range map[string]int{"rows": task.InlineBytes / 2, "bodies": 8 * task.InlineBytes} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := smallDisk(t)
			ballast := filepath.Join(dir, "ballast")
			if err := os.WriteFile(ballast, make([]byte, 10<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			var accepted []string
			t.Run("full", func(t *testing.T) {
				v, _ := openOn(t, dir)
				accepted = fill(t, v, bytes)
				last := accepted[len(accepted)-1]
				v.ask(last, `{"id":1,"op":"get","task":"ID","payload":true}`, `{"id":1,"status":"scheduled","task":"ID",…xxx…}`)
				v.ask("", `{"id":2,"op":"list","limit":1}`, `{"id":2,"status":"done","result":{"ok":true,"tasks":[{…}],…}}`)
				v.ask("", `{"id":3,"action":"upper","payload":"hola"}`, `{"id":3,"status":"done","result":{"ok":true,"data":"HOLA"}}`)
				if err := os.Remove(ballast); err != nil {
					t.Fatal(err)
				}
				accepted = append(accepted, v.accepted(`"action":"echo","delay":3600,"payload":"`+strings.Repeat("x", bytes)+`"`, "scheduled"))
				id := v.accepted(`"action":"echo","payload":"`+strings.Repeat("y", bytes)+`"`, "queued")
				v.ask(id, `{"id":4,"op":"wait","task":"ID"}`, `{"id":4,"status":"done","task":"ID",…yyy…}`)
			})
			v, kept := openOn(t, dir)
			found, err := kept.Get(t.Context(), accepted)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range found {
				if f.State != task.Scheduled {
					t.Fatalf("%s is %q", f.ID, f.State)
				}
				v.send(`{"id":5,"op":"get","task":"` + f.ID + `","payload":true}` + "\n")
				if line, err := v.next(); err != nil || !strings.HasSuffix(line, `"payload":"`+strings.Repeat("x", bytes)+`"}`) {
					t.Fatalf("%s differs from the accepted task: %s (%v)", f.ID, short(line), err)
				}
			}
		})
	}
}
