package postgres

import "github.com/posta-tasks/posta/task"

// sqlCancelTasks cancels waiting tasks and marks running ones; the mark adds no entry to the history.
var sqlCancelTasks = change(`asked AS MATERIALIZED (SELECT * FROM unnest($1::text[]) WITH ORDINALITY AS a(asked, ord)),
	locked AS MATERIALIZED (SELECT t.*, a.ord FROM tasks t JOIN asked a ON `+found("t.id", "a.asked")+`
		WHERE `+allowed("t.state", task.Cancel)+` AND NOT t.cancelling ORDER BY a.asked FOR UPDATE OF t)`,
	sets{
		"state":      "CASE l.state WHEN 3 THEN l.state ELSE 6 END::smallint",
		"cancelling": "l.state = 3",
		"suspect":    "l.suspect AND l.state = 3",
		"due":        "NULL::bigint",
		"outcome":    "CASE l.state WHEN 3 THEN l.outcome END",
		"changed":    "CASE l.state WHEN 3 THEN l.changed ELSE " + at + " END",
		"history":    "CASE l.state WHEN 3 THEN l.history ELSE l.history || $2::bytea || int8send(" + at + ") || $3::bytea END",
	}, "")

// sqlRetryTasks queues finished tasks again, and scheduled ones at once. A cancelled task takes its key back,
// and stays cancelled if another task has the key. The rows of keys are written in the order of the keys, as
// accepts write them. The previous release left a cancelled task its key.
var sqlRetryTasks = "WITH " + clock + `,
	asked AS MATERIALIZED (SELECT * FROM unnest($1::text[]) WITH ORDINALITY AS a(asked, ord)),
	swept AS MATERIALIZED (SELECT * FROM sweep FOR SHARE),
	ended AS MATERIALIZED (SELECT f.*, a.ord FROM finished f JOIN asked a ON ` + found("f.id", "a.asked") + `, swept s
		WHERE NOT ` + gone + ` ORDER BY a.asked FOR UPDATE OF f),
	taken AS (INSERT INTO keys (queue, key, id) SELECT queue, key, id FROM ended
		WHERE state = 6 AND key IS NOT NULL ORDER BY queue, key, id ON CONFLICT DO NOTHING RETURNING id),
	waits AS MATERIALIZED (SELECT t.*, a.ord FROM tasks t JOIN asked a ON ` + found("t.id", "a.asked") + `
		WHERE ` + byID(1) + ` ORDER BY a.asked FOR UPDATE OF t),
	locked AS MATERIALIZED (SELECT ` + columns + `, ` + own + `, ord FROM waits UNION ALL SELECT ` + columns + `, 0, 0, ord FROM ended e
		WHERE state <> 6 OR key IS NULL OR id IN (SELECT id FROM taken)
		OR EXISTS (SELECT FROM keys k WHERE ` + found("k.queue", "e.queue") + ` AND k.key = e.key AND k.id = e.id)),
	` + sets{
	"state": "2::smallint", "suspect": "false", "cancelling": "false", "run_at": at, "lease": "NULL::bigint",
	"failures": "CASE l.state WHEN 1 THEN l.failures ELSE 0 END", "crashes": "CASE l.state WHEN 1 THEN l.crashes ELSE 0 END",
	"expires": "CASE l.state WHEN 1 THEN l.expires ELSE 0 END", "due": "CASE l.state WHEN 1 THEN " + expiry + " END",
	"outcome": "CASE WHEN l.state IN (1, 5) THEN l.outcome END", "progress": "CASE l.state WHEN 1 THEN l.progress END",
}.entry("$2::bytea", "$3::bytea").next() + `,
	left_finished AS (DELETE FROM finished f USING ended e WHERE f.bucket = e.bucket AND ` + found("f.gone", "e.gone") + " AND " + found("f.id", "e.id") + `
		AND e.id IN (SELECT id FROM next)),
	back AS (INSERT INTO tasks (` + columns + `) SELECT ` + columns + ` FROM next WHERE before > 3),
	stayed AS (UPDATE tasks t SET ` + assigned("n", mutable) + ` FROM next n WHERE ` + found("t.id", "n.id") + ` AND n.before = 1),
	counted AS (` + count("next", "") + `)
	SELECT ord, before, ` + taskColumns + ` FROM next ORDER BY ord`
