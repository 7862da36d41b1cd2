package server_test

import (
	"context"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/store/postgres/server"
)

// TestSettingsAreTheSameWithAndWithoutAPooler also checks that only direct connections use prepared statements.
func TestSettingsAreTheSameWithAndWithoutAPooler(t *testing.T) {
	t.Parallel()
	db := testenv.StartPostgres(t)
	bouncer := testenv.StartPgBouncer(t, db)
	for name, c := range map[string]struct {
		url      string
		prepared bool
	}{
		"directly":          {db.URL(), true},
		"through PgBouncer": {bouncer.Through(db, db.URL()), false},
	} {
		s, err := server.Open(t.Context(), server.Config{URL: c.url + "&search_path=it%27s&work_mem=7MB", Timeout: time.Minute, Steps: fstest.MapFS{}})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer s.Close()
		for range 3 {
			err := s.Work(t.Context(), func(ctx context.Context, conn *pgx.Conn) error {
				var one, prepared int
				var path, scan, plans, mem, timeout string
				if err := conn.QueryRow(ctx, "SELECT $1::int", 1).Scan(&one); err != nil {
					return err
				}
				err := conn.QueryRow(ctx, `SELECT current_setting('search_path'), current_setting('enable_seqscan'), current_setting('plan_cache_mode'),
					current_setting('work_mem'), current_setting('statement_timeout'), (SELECT count(*) FROM pg_prepared_statements WHERE $1::int = 1)`, one).
					Scan(&path, &scan, &plans, &mem, &timeout, &prepared)
				if path != "it's" || scan != "off" || plans != "force_generic_plan" || mem != "7MB" || timeout != "45s" || (prepared > 0) != c.prepared {
					t.Errorf("%s: %q %q %q %q %q, %d prepared statements", name, path, scan, plans, mem, timeout, prepared)
				}
				return err
			})
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			err = s.List(t.Context(), func(ctx context.Context, conn *pgx.Conn) error {
				var scan, plans string
				err := conn.QueryRow(ctx, "SELECT current_setting('enable_seqscan'), current_setting('plan_cache_mode')").Scan(&scan, &plans)
				if scan != "off" || plans != "auto" {
					t.Errorf("%s: lists have enable_seqscan %q and plan_cache_mode %q", name, scan, plans)
				}
				return err
			})
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
