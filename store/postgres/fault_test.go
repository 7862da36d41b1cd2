package postgres_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posta-tasks/posta/internal/pgproxy"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/postgres"
	"github.com/posta-tasks/posta/task"
)

// accepting is a text that only the statement that stores tasks contains.
const accepting = "made AS (INSERT INTO tasks"

// accept accepts tasks and returns the code of the error.
func accept(s *postgres.Store, tasks []task.Task) ([]store.Accepted, task.Code) {
	answers, err := s.Accept(context.Background(), tasks)
	if err != nil {
		return nil, task.CodeOf(err)
	}
	return answers, ""
}

// TestALostAnswerIsAnUnknownOutcome loses the answer to a statement, the answer to a COMMIT, and the requests
// themselves. The caller cannot know which of them was lost, and must ask again. If something is lost before
// the COMMIT, the outcome is known: nothing was done.
func TestALostAnswerIsAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	db := startDatabase(t)
	for name, c := range map[string]struct {
		losing  pgproxy.Losing
		marker  string
		backlog int // with a small one, accepts lock their queues in a transaction of several statements
		code    task.Code
		stored  bool
	}{
		"the answer to a statement":       {pgproxy.Answer, accepting, 0, task.UnknownOutcome, true},
		"the statement":                   {pgproxy.Request, accepting, 0, task.UnknownOutcome, false},
		"the answer to a COMMIT":          {pgproxy.Answer, "commit", 100, task.UnknownOutcome, true},
		"the COMMIT":                      {pgproxy.Request, "commit", 100, task.UnknownOutcome, false},
		"a statement before COMMIT":       {pgproxy.Request, "LOCK TABLE counts", 100, task.Unavailable, false},
		"the answer to one before COMMIT": {pgproxy.Answer, "LOCK TABLE counts", 100, task.Unavailable, false},
		"the answer to a BEGIN":           {pgproxy.Answer, "begin", 100, task.Unavailable, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, proxy := db.schema(), pgproxy.New(t, db.Addr())
			cfg := postgres.Config{URL: proxy.Through(url), Limits: store.Limits{Backlog: c.backlog}}
			s, witness := open(t, cfg), open(t, postgres.Config{URL: url})
			mustAccept(t, s, drafts(1)) // creates the queue
			tasks := drafts(3)
			for i, key := range []string{"a", "b", ""} {
				tasks[i].Key = key
			}
			proxy.Lose(c.losing, c.marker, 1)
			if _, code := accept(s, tasks); code != c.code || proxy.Remaining() > 0 {
				t.Errorf("the code is %q with %d messages not lost yet; want %s", code, proxy.Remaining(), c.code)
			}
			ids := []string{tasks[0].ID, tasks[1].ID, tasks[2].ID}
			if n := stored(t, witness, ids); n != 0 && !c.stored || n != 3 && c.stored {
				t.Errorf("%d of 3 tasks are stored, want all: %t", n, c.stored)
			}
			answers, code := accept(s, tasks)
			for i, a := range answers {
				if a.Task.ID != tasks[i].ID || a.Duplicate != c.stored || a.Refusal != nil || c.stored && !a.SameRequest {
					t.Errorf("after a repeat, task %d is %+v, duplicate: %t", i, a.Task, a.Duplicate)
				}
			}
			if code != "" || stored(t, witness, ids) != 3 {
				t.Errorf("after a repeat: %q, %d stored", code, stored(t, witness, ids))
			}
			// A client that repeats only the keys gets the first tasks.
			others := drafts(2)
			others[0].Key, others[1].Key = "b", "a"
			if answers, code = accept(s, others); code != "" || answers[0].Task.ID != ids[1] || answers[1].Task.ID != ids[0] || !answers[0].Duplicate {
				t.Errorf("by key: %q, %+v", code, answers)
			}
			if n := total(t, witness); n != 4 {
				t.Errorf("the queue has %d tasks, want 4", n)
			}
		})
	}
}

// stored counts the queued tasks among those with the given ids.
func stored(t *testing.T, s *postgres.Store, ids []string) (n int) {
	t.Helper()
	found, err := s.Get(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if f.State == task.Queued {
			n++
		}
	}
	return n
}

// total returns the number of queued tasks by the counts of the queues.
func total(t *testing.T, s *postgres.Store) (n int64) {
	t.Helper()
	queues, err := s.Queues(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range queues {
		n += q.Queued
	}
	return n
}

// TestARecordWhoseAnswerIsLostIsMadeOnce loses the answer to the end of a task. Repeated, the record is stale,
// and the task keeps its first result.
func TestARecordWhoseAnswerIsLostIsMadeOnce(t *testing.T) {
	t.Parallel()
	db := startDatabase(t)
	url, proxy := db.schema(), pgproxy.New(t, db.Addr())
	s := open(t, postgres.Config{URL: proxy.Through(url)})
	mustAccept(t, s, drafts(2))
	if _, err := work(s, "n", 1); err != nil { // creates the partition
		t.Fatal(err)
	}
	got, err := s.Claim(t.Context(), store.Claim{Node: "n", Actions: []string{"upper"}, Limit: 1})
	if err != nil || len(got) != 1 {
		t.Fatalf("%d claimed, %v", len(got), err)
	}
	outcome := store.Outcome{ID: got[0].ID, Fence: got[0].Fence, Change: task.Succeed, Result: task.Body{Inline: []byte(`1`)}}
	proxy.Lose(pgproxy.Answer, "INSERT INTO finished", 1)
	if _, err := s.Record(t.Context(), []store.Outcome{outcome}); task.CodeOf(err) != task.UnknownOutcome || proxy.Remaining() > 0 {
		t.Errorf("the record returned %v with %d messages not lost yet", err, proxy.Remaining())
	}
	outcome.Result.Inline = []byte(`2`)
	if _, err := s.Record(t.Context(), []store.Outcome{outcome}); err != nil {
		t.Error(err)
	}
	found, err := s.Get(t.Context(), []string{outcome.ID})
	if err != nil || found[0].State != task.Done || string(found[0].Result.Inline) != `1` {
		t.Errorf("%+v, %v", found, err)
	}
}

// TestAMissingPartitionIsNotLogged creates a partition. It also checks that a damaged row is logged, and does
// not affect others.
func TestAMissingPartitionIsNotLogged(t *testing.T) {
	t.Parallel()
	db := startDatabase(t)
	url := db.schema()
	var logged strings.Builder
	s := open(t, postgres.Config{URL: url, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	mustAccept(t, s, drafts(3))
	logged.Reset()
	if _, err := work(s, "n", 1); err != nil || logged.Len() > 0 {
		t.Errorf("%v, and the log is %q", err, logged.String())
	}
	got, err := s.Claim(t.Context(), store.Claim{Node: "n", Actions: []string{"upper"}, Limit: 2})
	if err != nil || len(got) != 2 {
		t.Fatalf("%d claimed, %v", len(got), err)
	}
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	if _, err := c.Exec(t.Context(), `UPDATE tasks SET spec = '\xff' WHERE id = $1`, got[0].ID); err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{false, true} {
		_, err := s.Record(t.Context(), []store.Outcome{{ID: got[i].ID, Fence: got[i].Fence, Change: task.Succeed}})
		if (err == nil) != want || err != nil && task.CodeOf(err) != task.Internal {
			t.Errorf("the record of task %d: %v", i, err)
		}
	}
	if !strings.Contains(logged.String(), got[0].ID) {
		t.Errorf("the log does not name the damaged row: %q", logged.String())
	}
}

// TestAStandbyIsAbandonedForTheServerThatAcceptsWrites makes one server refuse writes, as after a failover, and
// another one accept them.
func TestAStandbyIsAbandonedForTheServerThatAcceptsWrites(t *testing.T) {
	t.Parallel()
	first, second := startDatabase(t), startDatabase(t)
	both := strings.Replace(first.URL(), first.Addr(), first.Addr()+","+second.Addr(), 1)
	direct := map[*database]*postgres.Store{}
	for _, db := range []*database{first, second} {
		direct[db] = open(t, postgres.Config{URL: db.URL()})
		mustAccept(t, direct[db], drafts(1)) // creates the queue
	}
	s := open(t, postgres.Config{URL: both})
	from, to := first, second
	for range 2 { // there and back
		// Use all kinds of connections, including those for heartbeats and lists.
		mustAccept(t, s, drafts(1))
		if _, err := s.Renew(t.Context(), "n", nil); err != nil {
			t.Fatal(err)
		}
		readOnly(t, to, false)
		readOnly(t, from, true)
		tasks := drafts(1)
		if _, code := accept(s, tasks); code != task.Unavailable {
			t.Errorf("the standby returned %q, want %s, since nothing was done", code, task.Unavailable)
		}
		mustAccept(t, s, tasks)
		if n := stored(t, direct[to], []string{tasks[0].ID}); n != 1 {
			t.Errorf("the next accept did not reach the server that accepts writes")
		}
		if n := stored(t, s, []string{tasks[0].ID}); n != 1 {
			t.Error("the next read went to the standby")
		}
		from, to = to, from
	}
}

// readOnly makes a server accept writes or not. When it returns, the sessions of the server know it.
func readOnly(t *testing.T, db *database, only bool) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), db.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	setting := "off"
	if only {
		setting = "on"
	}
	for _, sql := range []string{"ALTER SYSTEM SET default_transaction_read_only = " + setting, "SELECT pg_reload_conf()"} {
		if _, err := c.Exec(t.Context(), "SET default_transaction_read_only = off"); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	testenv.Eventually(t, 2*time.Minute, func() error {
		fresh, err := pgx.Connect(t.Context(), db.URL())
		if err != nil {
			return err
		}
		defer fresh.Close(context.Background())
		var now string
		if err := fresh.QueryRow(t.Context(), "SHOW default_transaction_read_only").Scan(&now); err != nil {
			return err
		}
		if now != setting {
			return context.DeadlineExceeded
		}
		return nil
	})
}
