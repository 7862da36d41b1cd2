package postgres_test

import (
	"strings"
	"testing"

	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/store/postgres"
)

// TestSettingsThatAPoolerRefusesAreFinal has a node start as if there were no pooler.
func TestSettingsThatAPoolerRefusesAreFinal(t *testing.T) {
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
		if says, fix := postgres.Explain(err); option == "&pgbouncer=false" && (!strings.Contains(says, "PgBouncer") || !strings.Contains(fix, "pgbouncer=false")) {
			t.Errorf("it says %q, %q", says, fix)
		}
	}
}

// TestAPoolerIsFoundOut has a store work through PgBouncer with stock settings, with settings that drop
// what it does not know, and with the URL's word for it.
func TestAPoolerIsFoundOut(t *testing.T) {
	t.Parallel()
	db := startDatabase(t)
	for name, c := range map[string]struct{ setting, option string }{
		"stock settings":         {"", ""},
		"in session mode":        {"pool_mode = session", ""},
		"settings are dropped":   {"ignore_startup_parameters = search_path,statement_timeout,idle_in_transaction_session_timeout,jit,enable_seqscan,enable_hashjoin,enable_mergejoin,plan_cache_mode", ""},
		"as the URL says":        {"", "&pgbouncer=true"},
		"a setting of the URL's": {"", "&work_mem=7MB"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testenv.StartPgBouncer(t, db.Postgres, c.setting).Through(db.Postgres, db.schema()) + c.option
			s := open(t, postgres.Config{URL: url})
			tasks := drafts(3)
			mustAccept(t, s, tasks)
			if n, err := work(s, "n", 3); err != nil || len(n) != 3 {
				t.Errorf("%d of 3 were worked, %v", len(n), err)
			}
			r, err := postgres.Check(t.Context(), url)
			if err != nil || !r.Pooled || r.Version != r.Known || len(r.Lacks) > 0 {
				t.Errorf("the check says %+v, %v", r, err)
			}
		})
	}
}
