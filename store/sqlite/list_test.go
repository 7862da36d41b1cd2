package sqlite_test

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/sqlite"
	"github.com/posta-tasks/posta/task"
)

// TestAListFindsItsTasksByItsIndex checks the plans: none reads the whole table, and only the few running tasks are sorted.
func TestAListFindsItsTasksByItsIndex(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tasks.db")
	if err := open(t, sqlite.Config{Path: path}).Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for index, query := range map[string]store.Query{
		"sqlite_autoindex_tasks_1 (id>? AND id<?)": {},
		"owners (owner=? AND id>? AND id<?)":       {Owner: "ana", State: task.Failed},
		"failed (id>? AND id<?)":                   {State: task.Failed, Action: "upper"},
		"cancelled (id>? AND id<?)":                {State: task.Cancelled},
		"delayed (id>? AND id<?)":                  {State: task.Scheduled, Queue: "mail"},
		"due (state=? AND due>?)":                  {State: task.Running},
	} {
		list, floor := sqlite.Listing(query)
		for _, text := range []string{list, floor} {
			got := planOf(t, db, text)
			if !strings.Contains(got, "INDEX "+index) || strings.Contains(got, "SCAN") || strings.Contains(got, "B-TREE") != (query.State == task.Running) {
				t.Errorf("%s is read by\n%s", index, got)
			}
		}
	}
}

// planOf returns the plan of a statement, a step a line.
func planOf(t *testing.T, db *sql.DB, text string) string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+text, "~", "", "", 1, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var steps []string
	for rows.Next() {
		var id, parent, unused int
		var step string
		if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, step)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return strings.Join(steps, "\n")
}
