package statement

import (
	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/task"
)

// marked is what a cancellation makes of the mark.
var marked = map[bool]string{false: "l.state = 3", true: "l.cancelling"}[fail.Mutant("postgres-cancel-without-mark")]

// CancelTasks cancels what waits and marks what runs; the mark is no entry of the history.
var CancelTasks = change(`asked AS MATERIALIZED (SELECT * FROM unnest($1::text[]) WITH ORDINALITY AS a(asked, ord)),
	locked AS MATERIALIZED (SELECT t.*, a.ord FROM tasks t JOIN asked a ON t.id = a.asked
		WHERE `+allowed("t.state", task.Cancel)+` AND NOT t.cancelling ORDER BY t.id FOR UPDATE OF t)`,
	sets{
		"state":      "CASE l.state WHEN 3 THEN l.state ELSE 6 END::smallint",
		"cancelling": marked,
		"suspect":    "l.suspect AND l.state = 3",
		"due":        "NULL::bigint",
		"outcome":    "CASE l.state WHEN 3 THEN l.outcome END",
		"changed":    "CASE l.state WHEN 3 THEN l.changed ELSE " + at + " END",
		"history":    "CASE l.state WHEN 3 THEN l.history ELSE l.history || $2::bytea || int8send(" + at + ") || $3::bytea END",
	}, "")

// RetryTasks takes finished tasks back.
var RetryTasks = "WITH " + clock + `,
	asked AS MATERIALIZED (SELECT * FROM unnest($1::text[]) WITH ORDINALITY AS a(asked, ord)),
	swept AS MATERIALIZED (SELECT * FROM sweep FOR SHARE),
	locked AS MATERIALIZED (SELECT f.*, a.ord FROM finished f JOIN asked a ON f.id = a.asked, swept s
		WHERE NOT ` + gone + ` ORDER BY f.id FOR UPDATE OF f),
	` + sets{
	"state": "2::smallint", "suspect": "false", "cancelling": "false", "failures": "0", "crashes": "0",
	"run_at": at, "expires": "0::bigint", "due": "NULL::bigint", "lease": "NULL::bigint",
	"outcome": "NULL::bytea", "progress": "NULL::bytea",
}.entry("$2::bytea", "$3::bytea").next() + `,
	left_finished AS (DELETE FROM finished f USING locked l WHERE f.bucket = l.bucket AND f.gone = l.gone AND f.id = l.id),
	back AS (INSERT INTO tasks (` + columns + `) SELECT ` + columns + ` FROM next),
	counted AS (` + count("next", "") + `)
	SELECT ord, before, ` + taskColumns + ` FROM next ORDER BY ord`
