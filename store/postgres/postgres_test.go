package postgres_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/postgres"
	"github.com/posta-tasks/posta/store/storetest"
)

// database is a server for a test, and the schemas that its parts have.
type database struct {
	*testenv.Postgres
	made atomic.Int64
}

func startDatabase(t testing.TB, settings ...string) *database {
	t.Helper()
	return &database{Postgres: testenv.StartPostgres(t, append([]string{"max_connections=500"}, settings...)...)}
}

// schema gives a URL with a schema of its own.
func (d *database) schema() string {
	return fmt.Sprintf("%s&search_path=test_%d", d.URL(), d.made.Add(1))
}

// patience is how long calls may take in tests that are not about that.
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

// handClock replaces the clock of a schema by one that goes on when it is told to.
func handClock(t testing.TB, url string) storetest.Clock {
	t.Helper()
	var mu sync.Mutex
	now := time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.FixedZone("", 3600))
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	_, err = c.Exec(t.Context(), fmt.Sprintf("CREATE TABLE hands AS SELECT %d::bigint AS now; "+
		"CREATE OR REPLACE FUNCTION clock_ms() RETURNS bigint LANGUAGE sql VOLATILE AS 'SELECT now FROM hands'", now.UnixMilli()))
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
			if _, err := c.Exec(context.Background(), "UPDATE hands SET now = $1", now.UnixMilli()); err != nil {
				t.Errorf("set the clock: %v", err)
			}
		},
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	db := startDatabase(t)
	storetest.Run(t, func(t *testing.T, limits store.Limits) (store.Store, storetest.Clock) {
		url := db.schema()
		s := open(t, postgres.Config{URL: url, Limits: limits})
		return s, handClock(t, url)
	})
}

// TestStoreBehindPgBouncer is TestStore through a PgBouncer in transaction mode, which gives each
// transaction to another session.
func TestStoreBehindPgBouncer(t *testing.T) {
	t.Parallel()
	db := startDatabase(t)
	bouncer := testenv.StartPgBouncer(t, db.Postgres)
	storetest.Run(t, func(t *testing.T, limits store.Limits) (store.Store, storetest.Clock) {
		url := db.schema()
		s := open(t, postgres.Config{URL: bouncer.Through(db.Postgres, url), Limits: limits})
		return s, handClock(t, url)
	})
}
