package statement

// KeepOut waits for the statements under way that change tasks, and keeps others waiting. All
// of them count, so it is the table of the counts that is locked; and they do so before they
// look at the tables, so what they see is what was there after the wait.
const KeepOut = "LOCK TABLE counts IN SHARE ROW EXCLUSIVE MODE"

// SweepTasks lets go of at most $1 finished tasks that have been kept until $2.
const SweepTasks = `WITH clock AS MATERIALIZED (SELECT floor(random() * 16)::smallint AS shard),
	gone AS MATERIALIZED (SELECT row_number() OVER (ORDER BY f.gone, f.id) AS ord, f.state::bigint AS before, f.* FROM (
		SELECT f.* FROM finished f, sweep s WHERE NOT ` + gone + ` AND f.gone <= $2 ORDER BY f.gone, f.id LIMIT $1) AS f),
	swept AS (UPDATE sweep SET until = g.gone, last_id = g.id FROM (SELECT gone, id FROM gone ORDER BY ord DESC LIMIT 1) AS g),
	freed AS (DELETE FROM keys k USING gone g WHERE k.queue = g.queue AND k.key = g.key AND k.id = g.id),
	counted AS (INSERT INTO counts AS c (queue, shard, scheduled, queued, running, failed, kept, accepted, finished)
		SELECT queue, shard, 0, 0, 0, -sum((state = 5)::int), -count(*), 0, 0 FROM gone, clock GROUP BY queue, shard ORDER BY queue
		ON CONFLICT (queue, shard) DO UPDATE SET failed = c.failed + excluded.failed, kept = c.kept + excluded.kept)
	SELECT ord, before, ` + taskColumns + ` FROM gone ORDER BY ord`
