package sqlite_test

import (
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/sqlite"
	"github.com/posta-tasks/posta/store/storetest"
)

// handClock is a clock that goes on when it is told to.
func handClock() storetest.Clock {
	var passed atomic.Int64
	start := time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.FixedZone("", 3600))
	return storetest.Clock{
		Now:     func() time.Time { return start.Add(time.Duration(passed.Load())) },
		Advance: func(d time.Duration) { passed.Add(int64(d)) },
	}
}

// open opens a store that is closed with the test.
func open(t testing.TB, cfg sqlite.Config) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T, limits store.Limits) (store.Store, storetest.Clock) {
		clock := handClock()
		return open(t, sqlite.Config{Path: filepath.Join(t.TempDir(), "tasks.db"), Limits: limits, Now: clock.Now}), clock
	})
}
