package cli

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/blob"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// TestTasksAreTheSameAfterACopyToPostgreSQLAndBack copies what a posta up has left when it was killed from SQLite to
// PostgreSQL and back, with its blobs, and compares whole tasks and queues.
func TestTasksAreTheSameAfterACopyToPostgreSQLAndBack(t *testing.T) {
	t.Parallel()
	db := testenv.StartPostgres(t)
	dir, addr := t.TempDir(), testenv.FreeAddr(t)
	first, back := driversIn(filepath.Join(dir, "first")), driversIn(filepath.Join(dir, "back"))
	middle := drivers{store: db.URL(), blobs: "file://" + filepath.Join(dir, "middle")}
	up := testenv.Start(t, testenv.Posta(t), "up", "--data", filepath.Join(dir, "first"), "--listen", addr,
		"--nodes", "127.0.0.1:0", "--log-level", "error")
	testenv.Eventually(t, patience, testenv.Accepts(addr))
	c := dialSaid(t, addr)
	fillForCopy(t, c)
	up.Kill(t)

	copyStores(t, first, middle)
	copyStores(t, middle, back)
	want := readStore(t, first.store)
	if len(want.Tasks) < 5 {
		t.Fatalf("only %d tasks", len(want.Tasks))
	}
	for _, url := range []string{middle.store, back.store} {
		if got := readStore(t, url); !reflect.DeepEqual(got, want) {
			t.Errorf("in %s:\n%+v\nwant\n%+v", url, got, want)
		}
	}

	// A node continues in PostgreSQL: what ran when the first process was killed runs again. Meanwhile nothing is copied.
	addr = testenv.FreeAddr(t)
	testenv.Node(t, addr, "--store", middle.store, "--blobs", middle.blobs, "--drain-delay", "0", "--log-level", "error")
	c = dialSaid(t, addr)
	for _, one := range want.Tasks {
		if one.State == task.Running {
			if got := c.ask(t, `{"op":"wait","task":"`+one.ID+`"}`); got.Status != "done" {
				t.Errorf("what ran when its process was killed: %+v", got)
			}
		}
	}
	out, err := exec.CommandContext(t.Context(), testenv.Posta(t), "copy", middle.store, "sqlite://"+filepath.Join(dir, "live.db"), "--same-blobs").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "a node uses the store: node ") {
		t.Errorf("a store that a node uses: %v\n%s", err, out)
	}
}

// TestACopyHasTheResultOfATaskWhoseClaimWasGivenBack copies the result of a first attempt that was the second claim.
func TestACopyHasTheResultOfATaskWhoseClaimWasGivenBack(t *testing.T) {
	t.Parallel()
	from, err := blob.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	to, err := blob.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b := &bodyCopier{from: from, to: to}
	t.Cleanup(b.close)
	one := task.Task{ID: "01JE0000000000000000000001", State: task.Done, Attempt: 1, Fence: 2}
	sum, err := from.Put(t.Context(), blob.Result(one.ID, one.Fence), strings.NewReader("a result"), task.BlobBytes)
	if err != nil {
		t.Fatal(err)
	}
	one.Result = task.Body{Size: sum.Size, SHA256: sum.SHA256}
	if err := b.copy(t.Context(), &one); err != nil {
		t.Fatal(err)
	}
	stream, err := to.Get(t.Context(), blob.Result(one.ID, one.Fence), sum)
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.Close()
}

// fillForCopy has tasks in most states: done, failed, cancelled, scheduled, queued and running.
func fillForCopy(t *testing.T, c *saidConn) {
	t.Helper()
	for _, line := range []string{
		`{"op":"enqueue","action":"upper","payload":"now","key":"k","meta":{"a":"ä"},"priority":"high"}`,
		`{"op":"enqueue","action":"echo","payload":"` + strings.Repeat("x", 70_000) + `"}`,
		`{"op":"enqueue","action":"fib","payload":"no number","max_attempts":1}`,
	} {
		id := c.ask(t, line).Task
		if got := c.ask(t, `{"op":"wait","task":"`+id+`"}`); got.Status != "done" && got.Status != "failed" {
			t.Fatalf("%s: %+v", line, got)
		}
	}
	if got := c.ask(t, `{"op":"cancel","task":"`+c.ask(t, `{"op":"enqueue","action":"upper","delay":3600}`).Task+`"}`); got.Status == "error" {
		t.Fatalf("cancel: %+v", got)
	}
	c.ask(t, `{"op":"enqueue","action":"upper","delay":3600,"expires":7200,"queue":"later"}`)
	c.ask(t, `{"op":"enqueue","action":"nobody-has-it","queue":"mail"}`)
	c.ask(t, `{"op":"pause","queue":"mail"}`)
	sleeper := c.ask(t, `{"op":"enqueue","action":"sleep","payload":2}`).Task
	testenv.Eventually(t, patience, func() error {
		if got := c.ask(t, `{"op":"get","task":"`+sleeper+`"}`); got.Status != "running" {
			return fmt.Errorf("the task that sleeps is %s", got.Status)
		}
		return nil
	})
}

func copyStores(t *testing.T, from, to drivers) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), testenv.Posta(t), "copy", "--json", from.store, to.store,
		"--blobs-from", from.blobs, "--blobs-to", to.blobs).Output()
	var m moved
	if err == nil {
		err = json.Unmarshal(out, &m)
	}
	if err != nil || m.Tasks == 0 || m.Blobs != 2 {
		t.Fatalf("copy from %s: %v\n%s", from.store, err, out)
	}
}

// contents are all that a store has.
type contents struct {
	Tasks  []task.Task
	Queues []store.Queue
}

func readStore(t *testing.T, url string) (all contents) {
	t.Helper()
	k, err := openCopied(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer k.store.Close()
	page, err := k.store.List(t.Context(), store.Query{Limit: 1000})
	ids := make([]string, len(page.Tasks))
	for i := range page.Tasks {
		ids[i] = page.Tasks[i].ID
	}
	if err == nil {
		all.Tasks, err = k.store.Get(t.Context(), ids)
	}
	if err == nil {
		all.Queues, err = k.store.Queues(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	for i := range all.Queues {
		all.Queues[i].OldestAge = 0 // it depends on when one looks
	}
	return all
}
