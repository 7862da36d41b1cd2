package postgres_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/oklog/ulid/v2"

	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/postgres"
	"github.com/posta-tasks/posta/task"
)

// drafts returns n ordinary tasks with new ids.
func drafts(n int) []task.Task {
	list := make([]task.Task, n)
	for i := range list {
		list[i] = task.Task{
			ID: ulid.Make().String(), Action: "upper", Payload: task.Body{Inline: []byte(`"texto de prueba"`)},
			Options: task.Options{Queue: "default", Timeout: time.Minute, MaxAttempts: 5, Keep: time.Hour},
		}
	}
	return list
}

// work claims tasks and records that they have succeeded.
func work(s *postgres.Store, node string, n int) ([]store.Outcome, error) {
	got, err := s.Claim(context.Background(), store.Claim{Node: node, Actions: []string{"echo", "upper", "sleep", "fib"}, Limit: n})
	if err != nil {
		return nil, err
	}
	outcomes := make([]store.Outcome, len(got))
	for i, t := range got {
		outcomes[i] = store.Outcome{
			ID: t.ID, Fence: t.Fence, Change: task.Succeed, Result: task.Body{Inline: []byte(`{"ok":true,"data":"TEXTO DE PRUEBA"}`)},
		}
	}
	_, err = s.Record(context.Background(), outcomes)
	return outcomes, err
}

func mustAccept(t testing.TB, s *postgres.Store, tasks []task.Task) {
	t.Helper()
	answers, err := s.Accept(context.Background(), tasks)
	if err != nil {
		t.Errorf("accept: %v", err)
		return
	}
	for _, a := range answers {
		if a.Duplicate || a.Refusal != nil {
			t.Errorf("accept: %+v", a)
		}
	}
}

// sameCounts compares the stored counts with the tasks.
func sameCounts(t *testing.T, s *postgres.Store) {
	t.Helper()
	kept, err := s.Queues(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	counted := map[string][4]int64{}
	query := store.Query{Limit: 10_000}
	for more := true; more; more = query.Cursor != "" {
		page, err := s.List(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range page.Tasks {
			c := counted[item.Queue]
			if i := slices.Index([]task.State{task.Scheduled, task.Queued, task.Running, task.Failed}, item.State); i >= 0 {
				c[i]++
			}
			counted[item.Queue] = c
		}
		query.Cursor = page.Cursor
	}
	for _, q := range kept {
		if got := [4]int64{q.Scheduled, q.Queued, q.Running, q.Failed}; got != counted[q.Name] {
			t.Errorf("queue %s counts %v, and has %v", q.Name, got, counted[q.Name])
		}
	}
}

// TestStoresShareTheWork has three stores, as if in three processes, that accept and work on the same queues.
// Some tasks have keys that all of them use.
func TestStoresShareTheWork(t *testing.T) {
	t.Parallel()
	url := startDatabase(t).schema()
	const batches, batch = 12, 50
	var mu sync.Mutex
	claims := map[string]int{}
	var all sync.WaitGroup
	for n := range 3 {
		s := open(t, postgres.Config{URL: url})
		for range 2 {
			all.Go(func() {
				for b := range batches {
					tasks := drafts(batch)
					for i := range tasks {
						tasks[i].Queue = fmt.Sprint("q", (n+i)%3)
					}
					for i := range 10 {
						// Each uses the keys in another order, which must not make them wait for each other.
						tasks[i].Key, tasks[i].Queue = fmt.Sprint("k", b, "-", (i*(n+3))%10), "keyed"
					}
					if _, err := s.Accept(context.Background(), tasks); err != nil {
						t.Errorf("accept: %v", err)
					}
					outcomes, err := work(s, fmt.Sprint("n", n), batch)
					if err != nil {
						t.Errorf("work: %v", err)
					}
					mu.Lock()
					for _, o := range outcomes {
						claims[o.ID]++
					}
					mu.Unlock()
				}
			})
		}
	}
	all.Wait()
	s := open(t, postgres.Config{URL: url})
	for more := true; more; {
		outcomes, err := work(s, "last", 500)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range outcomes {
			claims[o.ID]++
		}
		more = len(outcomes) > 0
	}
	if want := 6*batches*(batch-10) + batches*10; len(claims) != want {
		t.Errorf("%d tasks ran, want %d", len(claims), want)
	}
	for id, n := range claims {
		if n != 1 {
			t.Errorf("%s was claimed %d times although it was never given back", id, n)
		}
	}
	sameCounts(t, s)
}

// acknowledged is what a store has answered to callers while its server is killed.
type acknowledged struct {
	mu       sync.Mutex
	accepted map[string]bool
	recorded map[string]int // attempt
}

// workUntil runs tasks until stop is closed. Errors are expected.
func (a *acknowledged) workUntil(s *postgres.Store, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		tasks := drafts(5)
		_, err := s.Accept(context.Background(), tasks)
		outcomes, failed := work(s, "n1", 4)
		a.mu.Lock()
		for _, t := range tasks {
			if err == nil {
				a.accepted[t.ID] = true
			}
		}
		for _, o := range outcomes {
			if failed == nil {
				a.recorded[o.ID] = o.Fence
			}
		}
		a.mu.Unlock()
	}
}

func (a *acknowledged) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.recorded)
}

func TestAKillOfTheServerLosesNothing(t *testing.T) {
	t.Parallel()
	db := startDatabase(t)
	url := db.schema()
	s := open(t, postgres.Config{URL: url})
	a := &acknowledged{accepted: map[string]bool{}, recorded: map[string]int{}}
	for range 3 {
		stop := make(chan struct{})
		var busy sync.WaitGroup
		for range 4 {
			busy.Go(func() { a.workUntil(s, stop) })
		}
		before := a.count()
		testenv.Eventually(t, patience, func() error {
			if n := a.count() - before; n < 50 {
				return fmt.Errorf("%d recorded", n)
			}
			return nil
		})
		db.Kill()
		close(stop)
		db.Start()
		busy.Wait()
	}
	for id := range a.accepted {
		found, err := s.Get(t.Context(), []string{id})
		if err != nil {
			t.Fatal(err)
		}
		if found[0].ID != id {
			t.Errorf("%s was accepted and is missing", id)
		}
		if attempt := a.recorded[id]; attempt > 0 && (found[0].State != task.Done || found[0].Attempt != attempt) {
			t.Errorf("%s was recorded with attempt %d, but is %s with attempt %d", id, attempt, found[0].State, found[0].Attempt)
		}
	}
	t.Logf("%d accepted, %d recorded", len(a.accepted), len(a.recorded))
	sameCounts(t, s)
}

func TestStatementsAreFewerThanTasks(t *testing.T) {
	t.Parallel()
	db := startDatabase(t, "shared_preload_libraries=pg_stat_statements")
	s := open(t, postgres.Config{URL: db.schema()})
	c, err := pgx.Connect(t.Context(), db.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	mustAccept(t, s, drafts(1))
	if _, err := c.Exec(t.Context(), "CREATE EXTENSION pg_stat_statements"); err != nil {
		t.Fatal(err)
	}
	const rounds, batch = 10, 64
	for range rounds {
		tasks := drafts(batch)
		for i := range tasks[:batch/2] {
			tasks[i].Key = tasks[i].ID
		}
		mustAccept(t, s, tasks)
		outcomes, err := work(s, "n1", batch)
		if err != nil || len(outcomes) != batch {
			t.Fatalf("%d worked, %v", len(outcomes), err)
		}
		if _, err := s.Maintain(t.Context(), 1000); err != nil {
			t.Fatal(err)
		}
	}
	var statements int
	err = c.QueryRow(t.Context(), "SELECT sum(calls)::int FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat_statements%'").Scan(&statements)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d statements for %d tasks", statements, rounds*batch)
	if statements*5 >= rounds*batch {
		t.Errorf("%d statements for %d tasks, want fewer than one for five tasks", statements, rounds*batch)
	}
}

// TestTheTablesDoNotGrowWithThePast runs tasks, lets their keep end, and compares the sizes of the tables.
func TestTheTablesDoNotGrowWithThePast(t *testing.T) {
	t.Parallel()
	url := startDatabase(t, "autovacuum_naptime=1s").schema()
	s := open(t, postgres.Config{URL: url})
	clock := manualClock(t, url)
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	var sizes, partitions []int64
	for range 12 {
		for range 2 {
			mustAccept(t, s, drafts(500))
			if outcomes, err := work(s, "n1", 500); err != nil || len(outcomes) != 500 {
				t.Fatalf("%d worked, %v", len(outcomes), err)
			}
		}
		clock.Advance(30 * time.Minute)
		for more := true; more; {
			maintained, err := s.Maintain(t.Context(), 1000)
			if err != nil {
				t.Fatal(err)
			}
			more = maintained.More
		}
		// Autovacuum does the same, but may be too late for a test of seconds.
		if _, err := c.Exec(t.Context(), "VACUUM"); err != nil {
			t.Fatal(err)
		}
		var size, count int64
		err := c.QueryRow(t.Context(), `SELECT sum(pg_total_relation_size(oid)), sum((relname ~ '^finished_')::int)
			FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace`).Scan(&size, &count)
		if err != nil {
			t.Fatal(err)
		}
		sizes, partitions = append(sizes, size), append(partitions, count)
	}
	t.Logf("sizes %v, partitions %v", sizes, partitions)
	clock.Advance(2 * time.Hour)
	for range 2 {
		if _, err := s.Maintain(t.Context(), 10_000); err != nil {
			t.Fatal(err)
		}
	}
	left := 0
	if err := c.QueryRow(t.Context(), "SELECT count(*) FROM finished").Scan(&left); err != nil || left > 0 {
		t.Errorf("%d tasks are still on disk after their keep, %v", left, err)
	}
	if slices.Max(partitions) > 4 {
		t.Errorf("there were up to %d partitions", slices.Max(partitions))
	}
	// When a file shrinks is up to vacuum, but it must not grow with the tasks of the past.
	if early, late := slices.Max(sizes[3:7]), sizes[11]; late > early*3/2 {
		t.Errorf("the tables grew from %d bytes to %d", early, late)
	}
	sameCounts(t, s)
}

func TestFourProcessesMigrateAtOnce(t *testing.T) {
	t.Parallel()
	url := startDatabase(t).schema()
	var all sync.WaitGroup
	secrets := make([][]byte, 4)
	for i := range secrets {
		all.Go(func() {
			s, err := postgres.Open(context.Background(), postgres.Config{URL: url, Timeout: patience})
			if err != nil {
				t.Errorf("open: %v", err)
				return
			}
			secrets[i] = s.Secret()
			mustAccept(t, s, drafts(3))
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
	all.Wait()
	s := open(t, postgres.Config{URL: url})
	if q, err := s.Queues(t.Context()); err != nil || len(q) != 1 || q[0].Queued != 12 {
		t.Errorf("queues %+v, %v", q, err)
	}
	for _, secret := range secrets {
		if !bytes.Equal(secret, s.Secret()) {
			t.Errorf("the processes have the secrets %x, and another one %x", secrets, s.Secret())
		}
	}
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	for _, later := range []struct {
		accepts int
		opens   bool
	}{{1, true}, {98, false}} {
		if _, err := c.Exec(t.Context(), "UPDATE schema_version SET version = 99, accepts = $1", later.accepts); err != nil {
			t.Fatal(err)
		}
		s, err := postgres.Open(t.Context(), postgres.Config{URL: url})
		if (err == nil) != later.opens {
			t.Errorf("a schema of version 99 that accepts %d: %v", later.accepts, err)
		}
		if err == nil {
			s.Close()
		}
	}
}

func TestACallToADatabaseThatHangsIsUnavailable(t *testing.T) {
	t.Parallel()
	db := startDatabase(t)
	url := db.schema()
	s := open(t, postgres.Config{URL: url, Timeout: 2 * time.Second})
	patient := open(t, postgres.Config{URL: url})
	mustAccept(t, patient, drafts(1))
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	tx, err := c.Begin(t.Context())
	if err == nil {
		_, err = tx.Exec(t.Context(), "LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
	}
	if err != nil {
		t.Fatal(err)
	}
	asked := drafts(1)
	if _, err := s.Accept(t.Context(), asked); task.CodeOf(err) != task.Unavailable {
		t.Errorf("behind a lock: %v", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if found, err := patient.Get(t.Context(), []string{asked[0].ID}); err != nil || found[0].ID != "" {
		t.Errorf("the refused task is stored: %+v, %v", found, err)
	}
	db.Pause()
	_, err = s.Accept(t.Context(), drafts(1))
	db.Resume()
	if code := task.CodeOf(err); code != task.Unavailable && code != task.UnknownOutcome {
		t.Errorf("paused: %v", err)
	}
	mustAccept(t, patient, drafts(1))
}

func TestOpenRefusesAnInvalidOrUnreachableDatabase(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "mysql://x", "postgres://u:geheim@127.0.0.1:1/x?sslmode=disable", "postgres://u:geheim@host:port:1/"} {
		s, err := postgres.Open(t.Context(), postgres.Config{URL: url})
		if err == nil {
			s.Close()
			t.Errorf("%q was opened", url)
		} else if strings.Contains(err.Error(), "geheim") {
			t.Errorf("%q: the password is in %v", url, err)
		}
	}
}
