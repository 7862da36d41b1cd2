package sqlite_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/sqlite"
	"github.com/posta-tasks/posta/store/storetest"
	"github.com/posta-tasks/posta/task"
)

// open opens a store and closes it when the test ends.
func open(t testing.TB, cfg sqlite.Config) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestMain(m *testing.M) {
	storetest.FewSteps()
	os.Exit(m.Run())
}

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T, limits store.Limits) (store.Store, storetest.Clock) {
		clock := storetest.ManualClock()
		return open(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "tasks.db"), Limits: limits, Now: clock.Now, Steady: clock.Steady}), clock
	})
}

func TestAStoreIsTheSameAfterARestart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tasks.db")
	var queues []store.Queue
	var secret []byte
	for round := range 2 {
		s, err := sqlite.Open(sqlite.Config{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			mustAccept(t, s, drafts(new(atomic.Int64), 10))
			if _, err := work(s, 3); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Pause(t.Context(), "default", true); err != nil {
				t.Fatal(err)
			}
		}
		got, err := s.Queues(t.Context())
		got[0].OldestAge = 0
		if err != nil || round > 0 && !reflect.DeepEqual(got, queues) {
			t.Errorf("queues %+v, %v; before the restart %+v", got, err, queues)
		}
		if queues = got; round > 0 && !bytes.Equal(s.Secret(), secret) {
			t.Errorf("the secret is %x; before the restart %x", s.Secret(), secret)
		}
		secret = s.Secret()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if left, _ := filepath.Glob(path + "-*"); len(left) > 0 {
			t.Errorf("a clean stop leaves the files %v", left)
		}
	}
}

// TestClaimsFollowTheIDsOfManyTasks accepts more tasks than a window holds, in random order, and gives some
// back while others are claimed.
func TestClaimsFollowTheIDsOfManyTasks(t *testing.T) {
	t.Parallel()
	s := open(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "tasks.db")})
	tasks := drafts(new(atomic.Int64), 2000)
	by := store.Claim{Node: "n1", Actions: []string{"upper", "echo"}, Limit: 10}
	if got, err := s.Claim(t.Context(), by); err != nil || len(got) != 0 {
		t.Fatalf("an empty store: %d claimed, %v", len(got), err)
	}
	mixed := slices.Clone(tasks)
	rand.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
	for i := range mixed {
		if i%2 == 0 {
			mixed[i].Action = "echo"
		}
	}
	for batch := range slices.Chunk(mixed, 100) {
		mustAccept(t, s, batch)
	}
	for at := 0; at < len(tasks); {
		got, err := s.Claim(t.Context(), by)
		if err != nil || len(got) == 0 {
			t.Fatalf("after %d: %d claimed, %v", at, len(got), err)
		}
		back := 0
		for i, g := range got {
			if g.ID != tasks[at+i].ID {
				t.Fatalf("claim %d returned %s, want %s", at+i, g.ID, tasks[at+i].ID)
			}
			if i >= len(got)/2 && g.Fence == 1 {
				release := store.Outcome{ID: g.ID, Fence: g.Fence, Change: task.Release}
				if answers, err := s.Record(t.Context(), []store.Outcome{release}); err != nil || answers[0].Stale {
					t.Fatalf("release: %+v, %v", answers, err)
				}
				back++
			}
		}
		at += len(got) - back
	}
}

func TestTasksThatNoNodeCanRunDoNotHideThoseBehindThem(t *testing.T) {
	t.Parallel()
	s := open(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "tasks.db")})
	tasks := drafts(new(atomic.Int64), 3000)
	for i := range tasks[:2990] {
		tasks[i].Action = "render"
	}
	mustAccept(t, s, tasks)
	if outcomes, err := work(s, 100); err != nil || len(outcomes) != 10 {
		t.Errorf("%d tasks ran, %v", len(outcomes), err)
	}
}

// TestADamagedRowDoesNotStopTheOthers damages the row of one running task.
func TestADamagedRowDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tasks.db")
	s := open(t, sqlite.Config{Path: path})
	mustAccept(t, s, drafts(new(atomic.Int64), 2))
	got, err := s.Claim(t.Context(), store.Claim{Node: "n1", Actions: []string{"upper"}, Limit: 2})
	if err != nil || len(got) != 2 {
		t.Fatalf("claimed %d, %v", len(got), err)
	}
	db, err := sql.Open("sqlite", path)
	if err == nil {
		_, err = db.ExecContext(t.Context(), "UPDATE tasks SET spec = x'ff' WHERE id = ?", got[0].ID)
	}
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	outcomes := make([]store.Outcome, 2)
	for i := range got {
		outcomes[i] = store.Outcome{ID: got[i].ID, Fence: got[i].Fence, Change: task.Fail}
	}
	for _, some := range [][]store.Outcome{outcomes, outcomes[:1]} {
		if _, err := s.Record(t.Context(), some); err == nil || task.CodeOf(err) != task.Internal {
			t.Errorf("with the damaged row: %v", err)
		}
	}
	made, err := s.Record(t.Context(), outcomes[1:])
	if err != nil || made[0].Stale || made[0].Task.State != task.Failed {
		t.Errorf("the sound row: %+v, %v", made, err)
	}
}

func TestALongHistoryKeepsItsNewestEntries(t *testing.T) {
	t.Parallel()
	s := open(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "tasks.db")})
	tasks := drafts(new(atomic.Int64), 1)
	mustAccept(t, s, tasks)
	by := store.Claim{Node: "n1", Actions: []string{"upper"}, Limit: 1}
	const rounds = 300
	for range rounds {
		got, err := s.Claim(t.Context(), by)
		if err != nil || len(got) != 1 {
			t.Fatalf("claimed %d, %v", len(got), err)
		}
		release := store.Outcome{ID: got[0].ID, Fence: got[0].Fence, Change: task.Release}
		if _, err := s.Record(t.Context(), []store.Outcome{release}); err != nil {
			t.Fatal(err)
		}
	}
	found, err := s.Get(t.Context(), []string{tasks[0].ID})
	if err != nil || len(found[0].History) != task.HistoryEntries {
		t.Fatalf("%d entries, %v", len(found[0].History), err)
	}
	last := found[0].History[task.HistoryEntries-1]
	if last.Seq != 1+2*rounds || last.Attempt != rounds || last.State != task.Queued || last.Node != "n1" {
		t.Errorf("the newest entry is %+v", last)
	}
	for i, e := range found[0].History[1:] {
		if e.Seq != found[0].History[i].Seq+1 {
			t.Errorf("entry %d is followed by entry %d", found[0].History[i].Seq, e.Seq)
		}
	}
}

func TestOpenRefusesAStoreWithoutAPathOrDirectory(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"", filepath.Join(t.TempDir(), "nowhere", "tasks.db")} {
		if s, err := sqlite.Open(sqlite.Config{Path: path}); err == nil {
			s.Close()
			t.Errorf("%q was opened", path)
		}
	}
}

// TestTheAnswerToASuccessIsWhatIsStored compares the answer with what a reader finds, whatever happens between
// the claim and the record.
func TestTheAnswerToASuccessIsWhatIsStored(t *testing.T) {
	t.Parallel()
	between := map[string]func(s *sqlite.Store, ran task.Task){
		"nothing": func(*sqlite.Store, task.Task) {},
		"progress": func(s *sqlite.Store, ran task.Task) {
			_, _ = s.Renew(context.Background(), "n1", []store.Held{{
				ID: ran.ID, Fence: ran.Fence, Progress: &task.Progress{Percent: 50, Message: "half"},
			}})
		},
		"a cancel": func(s *sqlite.Store, ran task.Task) { _, _ = s.Cancel(context.Background(), []string{ran.ID}) },
		"an attempt before": func(s *sqlite.Store, ran task.Task) {
			_, _ = s.Record(context.Background(), []store.Outcome{{
				ID: ran.ID, Fence: ran.Fence, Change: task.Again, Code: task.ActionFailed, Error: "no",
			}})
			_, _ = s.Maintain(context.Background(), 10)
			_, _ = s.Claim(context.Background(), store.Claim{Node: "n2", Actions: []string{"upper"}, Limit: 1})
		},
	}
	for name, do := range between {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "tasks.db")})
			var first atomic.Int64
			asked := drafts(&first, 1)
			mustAccept(t, s, asked)
			got, err := s.Claim(t.Context(), store.Claim{Node: "n1", Actions: []string{"upper"}, Limit: 1})
			if err != nil || len(got) != 1 {
				t.Fatalf("claimed %d, %v", len(got), err)
			}
			do(s, got[0])
			now, err := s.Get(t.Context(), []string{asked[0].ID})
			if err != nil {
				t.Fatal(err)
			}
			answers, err := s.Record(t.Context(), []store.Outcome{{
				ID: asked[0].ID, Fence: now[0].Fence, Change: task.Succeed, Result: task.Body{Inline: []byte(`{"ok":true}`)},
			}})
			if err != nil || answers[0].Stale {
				t.Fatalf("%+v, %v", answers, err)
			}
			stored, err := s.Get(t.Context(), []string{asked[0].ID})
			if err != nil {
				t.Fatal(err)
			}
			want, answer := stored[0], answers[0].Task
			want.Payload, answer.Payload = task.Body{}, task.Body{}
			want.History, answer.History = want.History[len(want.History)-1:], answer.History[len(answer.History)-1:]
			if !reflect.DeepEqual(answer, want) {
				t.Errorf("answered %+v\nstored   %+v", answer, want)
			}
		})
	}
}

// TestAClaimGoesOnWhenALaneEndsWithItsWindow has a lane of exactly one window: a claim must still reach the
// lanes of lower priority.
func TestAClaimGoesOnWhenALaneEndsWithItsWindow(t *testing.T) {
	t.Parallel()
	s := open(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "tasks.db")})
	var first atomic.Int64
	high, low := drafts(&first, sqlite.WindowSize), drafts(&first, sqlite.WindowSize+10)
	for i := range high {
		high[i].Priority = task.High
	}
	mustAccept(t, s, high)
	mustAccept(t, s, low)
	got, err := s.Claim(t.Context(), store.Claim{Node: "n1", Actions: []string{"upper"}, Limit: 1_000})
	if want := len(high) + len(low); err != nil || len(got) != want {
		t.Errorf("claimed %d of %d, %v", len(got), want, err)
	}
}
