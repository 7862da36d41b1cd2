package postgres

// sqlAcceptTasks stores the tasks that are new and fit into their queues, in their order. It returns stored
// tasks with a state, and those that do not fit without one. It does not return the others, nor tasks whose
// queue does not exist.
//
// A finished task may have the same id. For young ids the statement searches only the two partitions that could
// contain it; older ids were searched before.
//
// A task with a node is reserved for it at once, if it can be claimed.
var sqlAcceptTasks = "WITH " + clock + `,
	wanted AS MATERIALIZED (SELECT a.*, CASE WHEN delay > 0 THEN now + delay ELSE start_at END AS run_at,
			CASE WHEN expires_in > 0 THEN now + expires_in ELSE 0 END AS expires
		FROM unnest($1::text[], $2::text[], $3::text[], $4::smallint[], $5::int[], $6::bigint[], $7::bigint[], $8::bigint[],
			$9::text[], $10::bytea[], $11::bytea[], $12::bigint[], $17::text[], $19::bigint[], $20::bigint[], $21::text[]) WITH ORDINALITY
			AS a(id, name, action, priority, max_attempts, keep, start_at, expires_in, key, spec, payload, bound, node, delay, keep_failed, owner, ord),
			clock),
	asked AS MATERIALIZED (SELECT a.*, q.number AS queue, now, shard,
			CASE WHEN a.run_at > now THEN 1 WHEN node IS NULL OR q.paused OR a.expires BETWEEN 1 AND now THEN 2 ELSE 3 END::smallint AS state
		FROM wanted a JOIN queues q ON q.name = a.name, clock),
	fresh AS MATERIALIZED (SELECT a.*, row_number() OVER (PARTITION BY queue ORDER BY ord) AS place FROM asked a
		WHERE NOT EXISTS (SELECT FROM tasks t WHERE ` + found("t.id", "a.id") + `)
		AND NOT EXISTS (SELECT FROM (VALUES (keep, 0), (keep, 10), (keep_failed, 0), (keep_failed, 10)) AS back(keep, n) JOIN finished f
			ON f.bucket = bucket_of(now + back.keep, back.keep) - back.n, sweep s WHERE ` + found("f.id", "a.id") + ` AND NOT ` + gone + `)
		AND (a.key IS NULL OR NOT EXISTS (SELECT FROM keys k WHERE ` + found("k.queue", "a.queue") + ` AND k.key = a.key))),
	rooms AS MATERIALIZED (SELECT f.queue, f.bound - coalesce(sum(c.scheduled + c.queued + c.running), 0) - $13 AS room
		FROM (SELECT DISTINCT queue, bound FROM fresh) f LEFT JOIN counts c ON c.queue = f.queue GROUP BY f.queue, f.bound),
	fitting AS MATERIALIZED (SELECT f.*, place <= room AS fits FROM fresh f JOIN rooms r ON r.queue = f.queue),
	keyed AS (INSERT INTO keys (queue, key, id) SELECT queue, key, id FROM fitting
		WHERE fits AND key IS NOT NULL ORDER BY queue, key ON CONFLICT DO NOTHING RETURNING queue, key),
	made AS (INSERT INTO tasks (id, state, suspect, cancelling, priority, queue, attempt, failures, crashes, max_attempts, keep,
			created, changed, run_at, expires, due, lease, action, key, node, spec, history, payload, reserved, unentered, keep_failed, owner)
		SELECT id, state, false, false, priority, queue, (state = 3)::int, 0, 0, max_attempts, keep, now, now, run_at, expires,
			CASE WHEN state = 3 THEN NULL WHEN state = 1 AND (expires = 0 OR run_at <= expires) THEN run_at WHEN expires <> 0 THEN expires END,
			CASE WHEN state = 3 THEN now + $18 END, action, key, CASE WHEN state = 3 THEN node END, spec,
			CASE state WHEN 1 THEN $14::bytea ELSE $15::bytea END || int8send(now) || $16::bytea, payload,
			(state = 3)::int, (state = 3)::int, keep_failed, owner
		FROM fitting f WHERE fits AND (key IS NULL OR (queue, key) IN (SELECT queue, key FROM keyed))
		ORDER BY id ON CONFLICT (id) DO NOTHING RETURNING id, queue, state, created),
	born AS (SELECT m.queue, m.state, 0 AS before, shard FROM made m, clock),
	counted AS (` + count("born", "count(*) AS kept, count(*) AS accepted") + `)
	SELECT id, state, created FROM made UNION ALL SELECT id, NULL, NULL FROM fitting WHERE NOT fits`

// sqlFindHolders finds tasks by key.
var sqlFindHolders = `WITH asked AS MATERIALIZED (SELECT a.ord, q.number AS queue, a.key
		FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS a(name, key, ord) JOIN queues q ON q.name = a.name)
	SELECT a.ord, k.id FROM asked a JOIN keys k ON ` + found("k.queue", "a.queue") + " AND k.key = a.key"

// sqlFreeKeys deletes the keys of cancelled tasks. It locks the tasks, so that none is retried meanwhile.
var sqlFreeKeys = `WITH ended AS MATERIALIZED (SELECT f.id, f.queue, f.key FROM finished f WHERE f.id = ANY($1) AND f.state = 6 ORDER BY f.id FOR UPDATE)
	DELETE FROM keys k USING ended e WHERE ` + found("k.queue", "e.queue") + " AND k.key = e.key AND k.id = e.id"
