package postgres_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/posta-tasks/posta/store/postgres"
	"github.com/posta-tasks/posta/store/postgres/server"
)

// TestAPlanThatWasMadeForAnEmptyTableReadsLittleOfALargeOne measures the statements which a node executes again and again
// over the whole store. Connections keep their plans for long, so a plan may be older than all the tasks.
func TestAPlanThatWasMadeForAnEmptyTableReadsLittleOfALargeOne(t *testing.T) {
	t.Parallel()
	const mostBlocks = 400
	const (
		some  = "'{00000000000000000000000003,00000000000000000000000010,00000000000000000000000502}'"
		three = "'{1,1,1}'"
		texts = "'{a,a,a}'"
		bytes = `'{"\\x00","\\x00","\\x00"}'`
		bools = "'{f,f,f}'"
		turns = "'{1,2,3,4,5,6,7,8,9,10,11,12,13,14,15}'"
	)
	type statement struct{ name, text, arguments string }
	statements := []statement{
		{"a list of queues", postgres.ListQueues, ""},
		{"waiting actions", postgres.ListWaiting, ""},
		{"what is due next", postgres.NextDue, ""},
		{"the retention", postgres.ExpireFinished, "(10, 1)"},
		{"expiry", postgres.ExpireTasks, "(10, '', '', '')"},
		{"promotion", postgres.PromoteTasks, "(10, '', '')"},
		{"a claim", postgres.ClaimOrdinaryNext, "('{}', '{}', 5, 5, '{late}', 'n', 1000, '{5}', " + turns + ", 5)"},
		{"a claim of nothing", postgres.ClaimOrdinaryNext, "('{}', '{}', 5, 5, '{none}', 'n', 1000, '{5}', " + turns + ", 5)"},
		{"a claim by id", postgres.ClaimOrdinaryNamed, "('{}', '{}', 5, 5, '{early}', 'n', 1000, '{5}', " + some + ")"},
		{"a claim of suspects", postgres.ClaimSuspectsNext, "('{}', '{}', 5, 5, '{early}', 'n', 1000, '{5}', " + turns + ", 5, '{}')"},
		{"enqueue", postgres.AcceptTasks, "('{new1,new2,new3}', '{q1,q1,q2}', " + texts + ", " + three + ", " + three + ", " + three + ", '{0,0,0}', '{0,0,0}', '{k1,k2,new}', " +
			bytes + ", " + bytes + ", '{9999999,9999999,9999999}', 0, '', '', '', '{a,NULL,NULL}', 1000, '{0,0,0}', " + three + ", '{NULL,ana,NULL}')"},
		{"the tasks of keys", postgres.FindHolders, "('{q1,q1,q2}', '{k1,k2,k3}')"},
		{"freed keys", postgres.FreeKeys, "(" + some + ")"},
		{"entry", postgres.EnterTasks, "(" + some + ", " + three + ", " + three + ", " + bytes + ")"},
		{"heartbeats", postgres.RenewLeases, "(" + some + ", " + three + ", " + bytes + ", 'n', 1000)"},
		{"adoption", postgres.AdoptTasks, "(" + some + ", " + three + ", " + bytes + ", 'n', 1000, '')"},
		{"outcomes", postgres.RecordOutcomes, "(" + some + ", " + three + ", '{0,0,0}', " + three + ", " + bytes + ", " + bytes + ", " + bytes + ", " +
			`'{"\\x00","\\x00","\\x00","\\x00","\\x00","\\x00","\\x00","\\x00"}', '', ` + three + ", " + bools + ", " + bools + ", " + bytes + ")"},
		{"a reap of a node", postgres.ReapTasks, "(10, NULL, 'other', '', '', '', '', '', NULL)"},
		{"a reap of claims", postgres.ReapClaims, "(10, 1, 'n', '', '', '', '', '', " + some + ", " + three + ")"},
		{"cancel", postgres.CancelTasks, "(" + some + ", '', '')"},
		{"retry", postgres.RetryTasks, "(" + some + ", '', '')"},
		{"tasks by id", postgres.TasksByID, "(" + some + ")"},
	}
	for name, l := range postgres.Listings() {
		owner := ""
		if name == "an owner" {
			owner = ", 'ana'"
		}
		statements = append(statements,
			statement{"a list of " + name, l.List, "('~', '', 0::smallint, '', 51, '', 0, 0" + owner + ")"},
			statement{"how far a list looks of " + name, l.Floor, "('~', '', 99" + owner + ")"})
	}
	url := startDatabase(t, "autovacuum=off").schema()
	open(t, postgres.Config{URL: url})
	conn, exec := planner(t, url)
	exec("INSERT INTO queues (name) SELECT 'q' || i FROM generate_series(1, 3) AS i")
	exec("ANALYZE; CREATE TABLE finished_all PARTITION OF finished DEFAULT")
	for i, s := range statements {
		if _, err := conn.Prepare(t.Context(), fmt.Sprint("asked", i), s.text); err != nil {
			t.Fatal(err)
		}
		exec(fmt.Sprintf("EXPLAIN EXECUTE asked%d%s", i, s.arguments)) // makes the plan
	}
	measure := func(size int) {
		t.Helper()
		for i, s := range statements {
			exec("BEGIN")
			var text string
			if err := conn.QueryRow(t.Context(), fmt.Sprintf("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE asked%d%s", i, s.arguments)).Scan(&text); err != nil {
				t.Fatalf("%s: %v", s.name, err)
			}
			exec("ROLLBACK")
			var plans []struct{ Plan plan }
			if err := json.Unmarshal([]byte(text), &plans); err != nil || len(plans) != 1 {
				t.Fatalf("%v: %s", err, text)
			}
			if blocks := plans[0].Plan.blocks(); blocks > mostBlocks {
				t.Errorf("beside %d tasks %s reads %d blocks, more than %d:\n%s", size, s.name, blocks, mostBlocks, text)
			}
		}
	}
	measure(0)
	have := 0
	for _, size := range []int{1_000, 1_000_000} {
		fill(exec, have+1, size)
		have = size
		measure(size)
	}
}

// planner returns a connection that plans statements as those of the store do, and a function that executes a text on it.
func planner(t *testing.T, url string) (conn *pgx.Conn, exec func(text string)) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	exec = func(text string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	exec("SET jit = off; SET plan_cache_mode = force_generic_plan")
	for name, value := range server.PlannerSettings() {
		exec("SET " + name + " = " + value)
	}
	return conn, exec
}

// fill adds the tasks from first to last. 1 in 10 is scheduled, 100 run, and the others wait. As many tasks have
// finished, and have keys, but at most 100,000. Five tasks of the action "late" are newer than all the others.
func fill(exec func(text string), first, last int) {
	exec(fmt.Sprintf(`INSERT INTO tasks (id, state, suspect, cancelling, priority, queue, attempt, failures, crashes, max_attempts, keep, created,
			changed, run_at, expires, due, lease, action, node, spec, history)
		SELECT lpad(i::text, 26, '0'), CASE WHEN i %% 10 = 0 THEN 1 WHEN running THEN 3 ELSE 2 END, false, false, 1, 1 + i %% 2, running::int,
			0, 0, 5, 0, 1, 1, 0, 0, CASE WHEN i %% 10 = 0 THEN 99999999999999 END, CASE WHEN running THEN 99999999999999 END, 'early',
			CASE WHEN running THEN 'n' END, '', ''
		FROM generate_series(%d, %d) AS i, LATERAL (SELECT i %% 10 = 3 AND i <= 1000 AS running) AS r`, first, last))
	exec(fmt.Sprintf(`INSERT INTO keys SELECT 1, 'k' || i, lpad(i::text, 26, '0') FROM generate_series(%[1]d, %[2]d) AS i;
		INSERT INTO finished (id, state, suspect, cancelling, priority, queue, attempt, failures, crashes, max_attempts, keep, created,
			changed, run_at, expires, action, spec, history, bucket, gone)
		SELECT 'f' || lpad(i::text, 25, '0'), 4, false, false, 1, 1 + i %% 2, 1, 0, 0, 5, 0, 1, 1, 0, 0, 'early', '', '', 0, 99999999999999 + i
		FROM generate_series(%[1]d, %[2]d) AS i`, first, min(last, 100_000)))
	if first == 1 {
		exec(`INSERT INTO tasks (id, state, suspect, cancelling, priority, queue, attempt, failures, crashes, max_attempts, keep, created,
			changed, run_at, expires, due, action, spec, history)
			SELECT 'z' || lpad(i::text, 25, '0'), 2, false, false, 1, 3, 0, 0, 0, 5, 0, 1, 1, 0, 0, NULL, 'late', '', '' FROM generate_series(1, 5) AS i`)
		exec("INSERT INTO counts SELECT number, 0, 10, 10, 0, 0, 20, 20, 0 FROM queues")
	}
}

// plan is a node of a plan, with the blocks that it and the nodes below it have read. What a part of a WITH reads does not
// always count in the nodes above it.
type plan struct {
	Hit   int `json:"Shared Hit Blocks"`
	Read  int `json:"Shared Read Blocks"`
	Plans []plan
}

func (p plan) blocks() int {
	most := p.Hit + p.Read
	for _, below := range p.Plans {
		most = max(most, below.blocks())
	}
	return most
}
