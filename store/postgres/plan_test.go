package postgres_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/posta-tasks/posta/store/postgres"
)

// TestPlansUseTheIndexesBesideALargeBacklog checks that the planner, whose statistics show a huge paused queue,
// does not make statements read all of its tasks to find the few that may run.
func TestPlansUseTheIndexesBesideALargeBacklog(t *testing.T) {
	t.Parallel()
	url := startDatabase(t).schema()
	s := open(t, postgres.Config{URL: url})
	for range 20 {
		list := drafts(1_000)
		for i := range list {
			list[i].Queue = "backlog"
		}
		mustAccept(t, s, list)
	}
	mustAccept(t, s, drafts(10))
	if _, err := work(s, "n1", 5); err != nil { // creates a partition
		t.Fatal(err)
	}
	conn, exec := planner(t, url)
	exec("ANALYZE tasks")
	fronts := planOf(t, conn, postgres.ClaimOrdinaryNext)
	_, fronts, _ = strings.Cut(fronts, "CTE fronts")
	fronts, _, _ = strings.Cut(fronts, "CTE candidates")
	if !strings.Contains(fronts, "using claimable on tasks") {
		t.Errorf("a claim finds its tasks by\n%s", fronts)
	}
	for name, text := range map[string]string{"what is due next": postgres.NextDue, "the retention": postgres.ExpireFinished} {
		if plan := planOf(t, conn, text); !strings.Contains(plan, "Index Cond: (ROW(gone, id) > ROW(") && !strings.Contains(plan, "Index Cond: ((ROW(gone, id) > ROW(") {
			t.Errorf("%s reads tasks that are past their keep:\n%s", name, plan)
		}
	}
	for name, text := range map[string]string{"renew": postgres.RenewLeases, "adopt": postgres.AdoptTasks, "reap": postgres.ReapClaims} {
		plan := planOf(t, conn, text)
		if !strings.Contains(plan, "using tasks_pkey on tasks") || strings.Contains(plan, "Seq Scan on tasks") || strings.Contains(plan, "using claimable") {
			t.Errorf("%s does not find its tasks by id only:\n%s", name, plan)
		}
	}
	for _, line := range strings.Split(planOf(t, conn, postgres.ListQueues), "\n") {
		if strings.Contains(line, "using tasks_pkey on tasks ") && !strings.Contains(line, "on tasks t ") { // table t is read by id
			t.Errorf("the list of queues finds its tasks by\n%s", line)
		}
	}
}

// planOf returns the generic plan of a statement.
func planOf(t *testing.T, conn *pgx.Conn, text string) string {
	t.Helper()
	prepared, err := conn.Prepare(t.Context(), "asked", text)
	if err != nil {
		t.Fatal(err)
	}
	arguments := strings.TrimSuffix(strings.Repeat("NULL, ", len(prepared.ParamOIDs)), ", ")
	if arguments != "" {
		arguments = "(" + arguments + ")"
	}
	rows, err := conn.Query(t.Context(), "EXPLAIN EXECUTE asked"+arguments)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "DEALLOCATE asked"); err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}
