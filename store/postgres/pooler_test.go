package postgres_test

import (
	"strings"
	"testing"

	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/store/postgres"
)

// TestSettingsThatAPoolerRefusesArePermanentErrors starts a node with settings that PgBouncer refuses.
func TestSettingsThatAPoolerRefusesArePermanentErrors(t *testing.T) {
	t.Parallel()
	db := startDatabase(t)
	bouncer := testenv.StartPgBouncer(t, db.Postgres)
	for _, option := range []string{"&pgbouncer=false", "&options=-c%20work_mem%3D7MB", "&pgbouncer=perhaps"} {
		s, err := postgres.Open(t.Context(), postgres.Config{URL: bouncer.Through(db.Postgres, db.schema()) + option})
		if err == nil {
			s.Close()
		}
		if err == nil || postgres.Away(err) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", option, err)
		}
		if problem, fix := postgres.Explain(err); option == "&pgbouncer=false" && (!strings.Contains(problem, "PgBouncer") || !strings.Contains(fix, "pgbouncer=false")) {
			t.Errorf("explained as %q, %q", problem, fix)
		}
	}
}

// TestAPoolerIsDetected runs a store through PgBouncer with stock settings, with settings that drop unknown
// parameters, and with a URL that names the pooler.
func TestAPoolerIsDetected(t *testing.T) {
	t.Parallel()
	db := startDatabase(t)
	for name, c := range map[string]struct{ setting, option string }{
		"stock settings":       {"", ""},
		"in session mode":      {"pool_mode = session", ""},
		"dropped parameters":   {"ignore_startup_parameters = search_path,statement_timeout,idle_in_transaction_session_timeout,jit,enable_seqscan,enable_indexonlyscan,enable_hashjoin,enable_mergejoin,plan_cache_mode", ""},
		"named by the URL":     {"", "&pgbouncer=true"},
		"a setting in the URL": {"", "&work_mem=7MB"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testenv.StartPgBouncer(t, db.Postgres, c.setting).Through(db.Postgres, db.schema()) + c.option
			s := open(t, postgres.Config{URL: url})
			tasks := drafts(3)
			mustAccept(t, s, tasks)
			if n, err := work(s, "n", 3); err != nil || len(n) != 3 {
				t.Errorf("%d of 3 tasks ran, %v", len(n), err)
			}
			r, err := postgres.Check(t.Context(), url)
			if err != nil || !r.Pooled || r.Version != r.Known || len(r.Lacks) > 0 {
				t.Errorf("the check returned %+v, %v", r, err)
			}
		})
	}
}
