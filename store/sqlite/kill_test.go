package sqlite_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/sqlite"
	"github.com/posta-tasks/posta/task"
)

// These environment variables tell a run of this program that it will be killed, and what to do until then.
const (
	victimFile  = "POSTA_SQLITE_VICTIM_FILE"
	victimRound = "POSTA_SQLITE_VICTIM_ROUND"
	victimFills = "POSTA_SQLITE_VICTIM_FILLS"
)

// TestVictim works on a store until it is killed, and prints what the store has answered. The tests below start
// it.
func TestVictim(t *testing.T) {
	path := os.Getenv(victimFile)
	if path == "" {
		t.Skip("it runs only in a process that TestAKillOfTheProcessLosesNothing starts")
	}
	s := open(t, sqlite.Config{Path: path})
	if _, err := s.Recover(t.Context(), "", nil); err != nil {
		t.Fatal(err)
	}
	var round, fills int
	_, _ = fmt.Sscan(os.Getenv(victimRound), &round)
	_, _ = fmt.Sscan(os.Getenv(victimFills), &fills)
	var ids atomic.Int64
	ids.Store(int64(round) * 1_000_000)
	if fills > 0 {
		for range fills / 1000 {
			mustAccept(t, s, drafts(&ids, 1000))
		}
		fmt.Println("filled")
		<-time.After(time.Hour)
		return
	}
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for !t.Failed() {
				workAndPrint(t, s, drafts(&ids, 1+rand.IntN(5)))
			}
		})
	}
	wait.Wait()
}

// workAndPrint runs tasks, and prints what was answered after each step.
func workAndPrint(t *testing.T, s *sqlite.Store, tasks []task.Task) {
	mustAccept(t, s, tasks)
	var output strings.Builder
	for _, t := range tasks {
		fmt.Fprintln(&output, "accepted", t.ID, 0)
	}
	fmt.Print(output.String())
	outcomes, err := work(s, len(tasks)-1) // one task stays queued
	if err != nil {
		t.Error(err)
	}
	output.Reset()
	for _, o := range outcomes {
		fmt.Fprintln(&output, "recorded", o.ID, o.Fence)
	}
	fmt.Print(output.String())
}

// victim is a process that will be killed.
type victim struct {
	*exec.Cmd
	lines *bufio.Scanner
}

func startVictim(t *testing.T, environment ...string) victim {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestVictim$")
	cmd.Env = append(os.Environ(), environment...)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return victim{cmd, bufio.NewScanner(out)}
}

// killed reads the given number of lines, kills the process, and returns all that it has printed.
func (v victim) killed(t *testing.T, lines int) (output []string) {
	t.Helper()
	for v.lines.Scan() {
		if output = append(output, v.lines.Text()); len(output) == lines {
			if err := v.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := v.Wait(); err == nil || len(output) < lines {
		t.Fatalf("the process ended before it was killed: %v\n%s", err, strings.Join(output[max(0, len(output)-20):], "\n"))
	}
	return output
}

func TestAKillOfTheProcessLosesNothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tasks.db")
	attempts := map[string]int{} // by id; 0: accepted
	for round := range 12 {
		v := startVictim(t, victimFile+"="+path, fmt.Sprint(victimRound, "=", round))
		for _, line := range v.killed(t, 200+rand.IntN(600)) {
			var what, id string
			var attempt int
			if n, _ := fmt.Sscan(line, &what, &id, &attempt); n == 3 && len(id) == len("01JE")+22 {
				attempts[id] = max(attempts[id], attempt)
			}
		}
	}
	s := open(t, sqlite.Config{Path: path})
	recorded := 0
	for id, attempt := range attempts {
		found, err := s.Get(t.Context(), []string{id})
		switch {
		case err != nil:
			t.Fatal(err)
		case found[0].ID != id:
			t.Errorf("%s was accepted and is missing", id)
		case attempt > 0 && (found[0].State != task.Done || found[0].Attempt != attempt || len(found[0].Result.Inline) == 0):
			t.Errorf("%s was recorded with attempt %d, but is %s with attempt %d", id, attempt, found[0].State, found[0].Attempt)
		}
		if attempt > 0 {
			recorded++
		}
	}
	if len(attempts) < 1000 || recorded < 500 {
		t.Errorf("only %d accepted and %d recorded: too few for this test", len(attempts), recorded)
	}
	sameCounts(t, s)
}

// sameCounts compares the stored counts with the tasks.
func sameCounts(t *testing.T, s *sqlite.Store) {
	t.Helper()
	kept, err := s.Queues(t.Context())
	if err != nil || len(kept) != 1 {
		t.Fatalf("queues %+v, %v", kept, err)
	}
	counted := map[task.State]int64{}
	query := store.Query{Limit: 10_000}
	for more := true; more; more = query.Cursor != "" {
		page, err := s.List(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range page.Tasks {
			counted[item.State]++
		}
		query.Cursor = page.Cursor
	}
	q := kept[0]
	got := []int64{q.Scheduled, q.Queued, q.Running, q.Failed, q.Finished}
	want := []int64{
		counted[task.Scheduled], counted[task.Queued], counted[task.Running], counted[task.Failed],
		counted[task.Done] + counted[task.Failed],
	}
	if !slices.Equal(got, want) {
		t.Errorf("counts %v, want %v", got, want)
	}
}

// TestAStoreWithAHundredThousandQueuedTasksIsRightAfterAKill checks the counts. How long such a store takes to open is
// measured by BenchmarkOpen.
func TestAStoreWithAHundredThousandQueuedTasksIsRightAfterAKill(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tasks.db")
	startVictim(t, victimFile+"="+path, victimFills+"=100000").killed(t, 1)
	s := open(t, sqlite.Config{Path: path})
	got, err := s.Claim(t.Context(), store.Claim{Node: "n1", Actions: []string{"upper"}, Limit: 1})
	if err != nil || len(got) != 1 || got[0].ID != fmt.Sprintf("01JE%022d", 0) {
		t.Fatalf("claimed %+v, %v", got, err)
	}
	if q, err := s.Queues(t.Context()); err != nil || q[0].Queued != 100_000 || q[0].Running != 0 {
		t.Errorf("queues %+v, %v", q, err)
	}
}

func TestABackupOfARunningStoreContainsAllThatWasAnsweredBefore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, sqlite.Config{Path: filepath.Join(dir, "tasks.db")})
	var ids atomic.Int64
	before := drafts(&ids, 500)
	mustAccept(t, s, before)
	ctx, stop := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	busy.Go(func() {
		for ctx.Err() == nil {
			mustAccept(t, s, drafts(&ids, 10))
			_, _ = work(s, 5)
		}
	})
	err := s.Backup(t.Context(), filepath.Join(dir, "copy.db"))
	stop()
	busy.Wait()
	if err != nil {
		t.Fatal(err)
	}
	restored := open(t, sqlite.Config{Path: filepath.Join(dir, "copy.db")})
	for _, asked := range before {
		found, err := restored.Get(t.Context(), []string{asked.ID})
		if err != nil || string(found[0].Payload.Inline) != string(asked.Payload.Inline) {
			t.Fatalf("%s: %+v, %v", asked.ID, found, err)
		}
	}
	sameCounts(t, restored)
	if _, err := work(restored, 1); err != nil {
		t.Error(err)
	}
}
