package server_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/store/postgres/server"
	"github.com/posta-tasks/posta/task"
)

// mostCalls is how often a call is made that fails because of a concurrent one.
const mostCalls = 6

// start opens a server with a table of two accounts, 1 and 2, whose balances are 0.
func start(t *testing.T) *server.Server {
	t.Helper()
	db := testenv.StartPostgres(t, "deadlock_timeout=50ms")
	s, err := server.Open(t.Context(), server.Config{URL: db.URL(), Timeout: time.Minute, Steps: fstest.MapFS{
		"0001_accounts.sql": {Data: []byte("-- accepts 1\nCREATE TABLE accounts (number int, has int); INSERT INTO accounts VALUES (1, 0), (2, 0)")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// TestACallThatCollidesWithAnotherIsRepeated has the server refuse calls with errors after which they are
// rolled back.
func TestACallThatCollidesWithAnotherIsRepeated(t *testing.T) {
	t.Parallel()
	s := start(t)
	for name, c := range map[string]struct {
		sqlstate      string
		refused, want int // calls
		code          task.Code
	}{
		"a deadlock, twice":              {"40P01", 2, 3, ""},
		"a serialization failure, twice": {"40001", 2, 3, ""},
		"endless deadlocks":              {"40P01", 1000, mostCalls, task.Unavailable},
		"endless serialization failures": {"40001", 1000, mostCalls, task.Unavailable},
		"a division by zero":             {"22012", 1, 1, task.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			calls := 0
			err := s.Work(t.Context(), func(ctx context.Context, conn *pgx.Conn) error {
				calls++
				return server.Tx(ctx, conn, func(tx pgx.Tx) error {
					if calls > c.refused {
						return nil
					}
					_, err := tx.Exec(ctx, fmt.Sprintf("DO $$ BEGIN RAISE EXCEPTION 'so' USING ERRCODE = '%s'; END $$", c.sqlstate))
					return err
				})
			})
			if calls != c.want || err != nil && task.CodeOf(err) != c.code || err == nil && c.code != "" {
				t.Errorf("%d calls, %v; want %d and %q", calls, err, c.want, c.code)
			}
		})
	}
}

// TestBothCallsOfADeadlockSucceed has two calls lock the same rows in opposite orders.
func TestBothCallsOfADeadlockSucceed(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, level := range []string{"READ COMMITTED", "SERIALIZABLE"} {
		var calls atomic.Int32
		var both sync.WaitGroup
		met := [2]chan struct{}{make(chan struct{}), make(chan struct{})}
		for mine, order := range [][2]int{{1, 2}, {2, 1}} {
			first := true
			both.Go(func() {
				err := s.Work(context.Background(), func(ctx context.Context, c *pgx.Conn) error {
					calls.Add(1)
					return server.Tx(ctx, c, func(tx pgx.Tx) error {
						if _, err := tx.Exec(ctx, "SET TRANSACTION ISOLATION LEVEL "+level); err != nil {
							return err
						}
						for i, number := range order {
							if _, err := tx.Exec(ctx, "UPDATE accounts SET has = has + 1 WHERE number = $1", number); err != nil {
								return err
							}
							if i == 0 && first {
								first = false
								close(met[mine])
								select {
								case <-met[1-mine]:
								case <-ctx.Done():
									return ctx.Err()
								}
							}
						}
						return nil
					})
				})
				if err != nil {
					t.Errorf("%s: %v", level, err)
				}
			})
		}
		both.Wait()
		if n := calls.Load(); n < 3 {
			t.Errorf("%s: %d calls were made: there was no deadlock", level, n)
		}
	}
	sum := 0
	err := s.Read(t.Context(), func(ctx context.Context, c *pgx.Conn) error {
		return c.QueryRow(ctx, "SELECT sum(has) FROM accounts").Scan(&sum)
	})
	if err != nil || sum != 8 {
		t.Errorf("%v; the sum of the accounts is %d, want 8: two calls changed two accounts each, twice", err, sum)
	}
}
