package postgres

// sqlImportNames creates the queues that do not exist.
const sqlImportNames = `INSERT INTO queues (name) SELECT DISTINCT a.name FROM unnest($1::text[]) AS a(name)
	WHERE NOT EXISTS (SELECT FROM queues q WHERE q.name = a.name) ORDER BY a.name ON CONFLICT (name) DO NOTHING`

// sqlImportTasks writes rows as they are and returns the ids of those that it has written: the tasks whose id
// does not exist, and which are not past the point that the retention has reached. 0 in due and lease means
// NULL.
var sqlImportTasks = "WITH " + clock + `,
	asked AS MATERIALIZED (SELECT a.id, a.state::smallint, suspect, cancelling, priority::smallint, q.number AS queue,
			attempt::int, failures::int, crashes::int, max_attempts::int, keep, created, changed, run_at, expires,
			nullif(due, 0) AS due, nullif(lease, 0) AS lease, coalesce(action, '') AS action, key, node, spec, progress, outcome,
			history, payload, reserved::int, unentered::int, keep_failed, owner,
			CASE a.state WHEN 5 THEN greatest(keep_failed, 1) ELSE greatest(keep, 1) END AS retention,
			CASE WHEN a.state > 3 THEN changed + CASE a.state WHEN 5 THEN greatest(keep_failed, 1) ELSE greatest(keep, 1) END END AS gone, shard
		FROM unnest($1::text[], $2::text[], $3::bigint[], $4::boolean[], $5::boolean[], $6::bigint[], $7::bigint[], $8::bigint[],
			$9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[],
			$17::bigint[], $18::text[], $19::text[], $20::text[], $21::bytea[], $22::bytea[], $23::bytea[], $24::bytea[], $25::bytea[],
			$26::bigint[], $27::bigint[], $28::bigint[], $29::text[])
			AS a(id, name, state, suspect, cancelling, priority, attempt, failures, crashes, max_attempts, keep, created,
				changed, run_at, expires, due, lease, action, key, node, spec, progress, outcome, history, payload, reserved, unentered,
				keep_failed, owner)
		JOIN queues q ON q.name = a.name, clock),
	fresh AS MATERIALIZED (SELECT a.* FROM asked a, sweep s WHERE NOT EXISTS (SELECT FROM tasks t WHERE ` + found("t.id", "a.id") + `)
		AND NOT EXISTS (SELECT FROM finished f WHERE ` + found("f.id", "a.id") + ` AND NOT ` + gone + `)
		AND (a.gone IS NULL OR (a.gone, a.id) > (s.until, s.last_id))),
	open AS (INSERT INTO tasks (` + columns + `, ` + own + `) SELECT ` + columns + `, ` + own + ` FROM fresh WHERE gone IS NULL),
	ended AS (INSERT INTO finished (` + columns + `, bucket, gone)
		SELECT ` + columns + `, bucket_of(gone, retention), gone FROM fresh WHERE gone IS NOT NULL),
	keyed AS (INSERT INTO keys (queue, key, id) SELECT queue, key, id FROM fresh WHERE key IS NOT NULL AND state <> 6),
	born AS (SELECT queue, state, 0 AS before, shard FROM fresh),
	counted AS (` + count("born", "count(*) AS kept, count(*) AS accepted") + `)
	SELECT id FROM fresh`

// asQueues reads the parameters of the statements below.
const asQueues = "unnest($1::text[], $2::boolean[], $3::bigint[], $4::bigint[]) AS a(name, paused, accepted, finished)"

// sqlImportPaused sets whether queues are paused, and creates the paused ones.
const sqlImportPaused = "INSERT INTO queues (name, paused) SELECT a.name, a.paused FROM " + asQueues + `
	WHERE a.paused OR EXISTS (SELECT FROM queues q WHERE q.name = a.name)
	ON CONFLICT (name) DO UPDATE SET paused = excluded.paused`

// sqlImportTotals sets how many tasks queues have accepted and finished. It adds the difference to one row of
// their counts.
const sqlImportTotals = `INSERT INTO counts AS c (queue, shard, scheduled, queued, running, failed, kept, accepted, finished)
	SELECT q.number, 0, 0, 0, 0, 0, 0, a.accepted - coalesce(sum(n.accepted), 0), a.finished - coalesce(sum(n.finished), 0)
	FROM ` + asQueues + ` JOIN queues q ON q.name = a.name LEFT JOIN counts n ON n.queue = q.number
	GROUP BY q.number, a.accepted, a.finished
	ON CONFLICT (queue, shard) DO UPDATE SET accepted = c.accepted + excluded.accepted, finished = c.finished + excluded.finished`
