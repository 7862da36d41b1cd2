package postgres_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/postgres"
	"github.com/posta-tasks/posta/store/storetest"
)

// database is a server for a test, in which each store gets a schema of its own.
type database struct {
	*testenv.Postgres
	made atomic.Int64
}

func startDatabase(t testing.TB, settings ...string) *database {
	t.Helper()
	return &database{Postgres: testenv.StartPostgres(t, append([]string{"max_connections=500"}, settings...)...)}
}

// schema returns a URL with a new schema.
func (d *database) schema() string {
	return fmt.Sprintf("%s&search_path=test_%d", d.URL(), d.made.Add(1))
}

// patience bounds the calls of tests that are not about timeouts.
const patience = time.Minute

func open(t testing.TB, cfg postgres.Config) *postgres.Store {
	t.Helper()
	if cfg.Timeout == 0 {
		cfg.Timeout = patience
	}
	s, err := postgres.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// manualClock replaces the clock of a schema by one that only Advance moves.
func manualClock(t testing.TB, url string) storetest.Clock {
	t.Helper()
	c, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return manualClockOver(t, c, "")
}

// manualClockOver is manualClock over existing connections. schema is empty if their search_path has it.
func manualClockOver(t testing.TB, c *pgxpool.Pool, schema string) storetest.Clock {
	t.Helper()
	if schema != "" {
		schema += "."
	}
	var mu sync.Mutex
	now := time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.FixedZone("", 3600))
	_, err := c.Exec(t.Context(), fmt.Sprintf("DROP TABLE IF EXISTS %[1]smanual_clock; CREATE TABLE %[1]smanual_clock AS SELECT %[2]d::bigint AS now; "+
		"CREATE OR REPLACE FUNCTION %[1]sclock_ms() RETURNS bigint LANGUAGE sql VOLATILE AS 'SELECT now FROM %[1]smanual_clock'", schema, now.UnixMilli()),
		pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatal(err)
	}
	return storetest.Clock{
		Now: func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return now
		},
		Advance: func(d time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			now = now.Add(d)
			if _, err := c.Exec(context.Background(), "UPDATE "+schema+"manual_clock SET now = $1", now.UnixMilli()); err != nil {
				t.Errorf("set the clock: %v", err)
			}
		},
	}
}

// schemas manages the schemas of a suite. When a test ends, its schema is emptied for another test, which costs
// less than another migration.
type schemas struct {
	*database
	pool *pgxpool.Pool

	mu   sync.Mutex
	free []string
}

// suiteDatabase starts a server for a suite. It need not survive a power failure; tests that kill servers start
// their own.
func suiteDatabase(t *testing.T) *schemas {
	t.Helper()
	db := startDatabase(t, "fsync=off", "full_page_writes=off")
	pool, err := pgxpool.New(t.Context(), db.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return &schemas{database: db, pool: pool}
}

// take returns an empty schema for a test.
func (s *schemas) take(t *testing.T) (name string) {
	t.Helper()
	s.mu.Lock()
	if n := len(s.free); n > 0 {
		name, s.free = s.free[n-1], s.free[:n-1]
	} else {
		name = fmt.Sprintf("test_%d", s.made.Add(1))
	}
	s.mu.Unlock()
	t.Cleanup(func() {
		if t.Failed() {
			return // a call may still be running
		}
		if _, err := s.pool.Exec(context.Background(), strings.ReplaceAll(empty, "SCHEMA", name), pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Errorf("empty the schema: %v", err)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.free = append(s.free, name)
	})
	return name
}

// empty is the SQL that brings a schema to its state after the migrations.
const empty = `
DO $$ DECLARE part text; BEGIN
	FOR part IN SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'SCHEMA' AND c.relname ~ '^finished_[0-9]+$'
	LOOP EXECUTE format('DROP TABLE SCHEMA.%I', part); END LOOP;
END $$;
DELETE FROM SCHEMA.tasks; DELETE FROM SCHEMA.keys; DELETE FROM SCHEMA.queues; DELETE FROM SCHEMA.counts; DELETE FROM SCHEMA.nodes; DELETE FROM SCHEMA.access_keys; DELETE FROM SCHEMA.audit; DELETE FROM SCHEMA.operations;
UPDATE SCHEMA.sweep SET until = 0, last_id = '';
UPDATE SCHEMA.pauses SET version = 1`

// open opens a store for a test of the suite. url converts the URL of the server to the one that the store
// uses.
func (s *schemas) open(t *testing.T, limits store.Limits, url func(string) string) (store.Store, storetest.Clock) {
	t.Helper()
	name := s.take(t)
	kept := open(t, postgres.Config{URL: url(s.URL() + "&search_path=" + name), Limits: limits})
	return kept, manualClockOver(t, s.pool, name)
}

func TestMain(m *testing.M) {
	storetest.FewSteps()
	os.Exit(m.Run())
}

func TestStore(t *testing.T) {
	t.Parallel()
	db := suiteDatabase(t)
	storetest.Run(t, func(t *testing.T, limits store.Limits) (store.Store, storetest.Clock) {
		return db.open(t, limits, func(url string) string { return url })
	})
}

// TestStoreBehindPgBouncer is TestStore through a PgBouncer in transaction mode, which may run each transaction
// in another session.
func TestStoreBehindPgBouncer(t *testing.T) {
	t.Parallel()
	db := suiteDatabase(t)
	bouncer := testenv.StartPgBouncer(t, db.Postgres)
	storetest.Run(t, func(t *testing.T, limits store.Limits) (store.Store, storetest.Clock) {
		return db.open(t, limits, func(url string) string { return bouncer.Through(db.Postgres, url) })
	})
}
