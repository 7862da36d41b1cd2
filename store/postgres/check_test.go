package postgres_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posta-tasks/posta/store/postgres"
)

func TestCheckReportsOnASchemaAndCreatesNone(t *testing.T) {
	t.Parallel()
	url := startDatabase(t).schema()
	for range 2 {
		r, err := postgres.Check(t.Context(), url)
		if err != nil || r.Version != 0 || r.Known == 0 || r.Ahead.Abs() > time.Minute || len(r.Lacks) > 0 {
			t.Fatalf("an empty database: %+v, %v", r, err)
		}
	}
	open(t, postgres.Config{URL: url})
	r, err := postgres.Check(t.Context(), url)
	if err != nil || r.Version != r.Known || r.Accepts == 0 || len(r.Lacks) > 0 || len(r.Unsafe) > 0 {
		t.Errorf("a database with a store: %+v, %v", r, err)
	}
	if r.Release < postgres.Oldest || r.PerNode < 5 || r.Limit < 200 || r.Free < r.PerNode || r.Free > r.Limit || r.Encrypted {
		t.Errorf("%+v", r)
	}
	if _, err := postgres.Check(t.Context(), "postgres://u@127.0.0.1:1/d"); err == nil || !postgres.Away(err) || postgres.Code(err) != "" {
		t.Errorf("an unreachable server: %v", err)
	}
}

// TestCheckReportsMissingRightsAndUnsafeSettings connects with a role that lacks rights, and with settings that
// may lose tasks.
func TestCheckReportsMissingRightsAndUnsafeSettings(t *testing.T) {
	t.Parallel()
	url := startDatabase(t).schema()
	open(t, postgres.Config{URL: url})
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	schema := ""
	if err := c.QueryRow(t.Context(), "SELECT current_schema").Scan(&schema); err != nil {
		t.Fatal(err)
	}
	role := "guest_of_" + schema
	for _, text := range []string{
		"CREATE ROLE " + role + " LOGIN CONNECTION LIMIT 7",
		"ALTER ROLE " + role + " SET synchronous_commit = off",
		"GRANT USAGE ON SCHEMA " + schema + " TO " + role,
		"GRANT SELECT ON ALL TABLES IN SCHEMA " + schema + " TO " + role,
	} {
		if _, err := c.Exec(t.Context(), text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	r, err := postgres.Check(t.Context(), strings.Replace(url, "posta@", role+"@", 1))
	if err != nil {
		t.Fatal(err)
	}
	lacks := strings.Join(r.Lacks, "; ")
	if !strings.Contains(lacks, "CREATE on the schema "+schema) || !strings.Contains(lacks, "INSERT on ") || strings.Contains(lacks, "SELECT on ") {
		t.Errorf("missing rights: %q", lacks)
	}
	if strings.Join(r.Unsafe, "; ") != "synchronous_commit is off" || r.Limit != 7 || r.Free < 5 || r.Free > 7 {
		t.Errorf("%+v", r)
	}
	wrong := strings.Replace(url, "/postgres?", "/nowhere?", 1)
	if _, err := postgres.Check(t.Context(), wrong); postgres.Code(err) != "3D000" || postgres.Away(err) {
		t.Errorf("a database that is not there: %v", err)
	}
}
