package postgres

// sqlKeepOut waits for the statements under way that change tasks, and keeps others waiting. All
// of them count, so it is the table of the counts that is locked; and they do so before they
// look at the tables, so what they see is what was there after the wait.
const sqlKeepOut = "LOCK TABLE counts IN SHARE ROW EXCLUSIVE MODE"

// buckets are the partitions that there are.
const buckets = `(SELECT substring(c.relname FROM '\d+$')::bigint AS bucket
	FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'finished'::regclass) AS p`

// sqlOverBuckets lists the partitions whose last task has gone.
const sqlOverBuckets = "SELECT bucket FROM " + buckets + ", sweep s WHERE bucket_end(bucket) <= least(s.until, clock_ms())"

// sqlSweptUntil says that all have gone that were kept until $1.
const sqlSweptUntil = "UPDATE sweep SET until = $1, last_id = '' WHERE until < $1"

// ahead tells which finished tasks the sweep has not come to. It is a range of the index on gone and id, which begins behind
// all that has gone and is on the disk still.
const ahead = "(f.gone, f.id) > ((SELECT until FROM sweep), (SELECT last_id FROM sweep))"

// sqlSweepTasks lets go of at most $1 finished tasks that have been kept until $2.
const sqlSweepTasks = `WITH clock AS MATERIALIZED (SELECT floor(random() * 16)::smallint AS shard),
	gone AS MATERIALIZED (SELECT row_number() OVER (ORDER BY f.gone, f.id) AS ord, f.state::bigint AS before, f.* FROM (
		SELECT f.* FROM finished f WHERE ` + ahead + ` AND f.gone <= $2 ORDER BY f.gone, f.id LIMIT $1) AS f),
	swept AS (UPDATE sweep SET until = g.gone, last_id = g.id FROM (SELECT gone, id FROM gone ORDER BY ord DESC LIMIT 1) AS g),
	freed AS (DELETE FROM keys k USING gone g WHERE k.queue = g.queue AND k.key = g.key AND k.id = g.id),
	counted AS (INSERT INTO counts AS c (queue, shard, scheduled, queued, running, failed, kept, accepted, finished)
		SELECT queue, shard, 0, 0, 0, -sum((state = 5)::int), -count(*), 0, 0 FROM gone, clock GROUP BY queue, shard ORDER BY queue
		ON CONFLICT (queue, shard) DO UPDATE SET failed = c.failed + excluded.failed, kept = c.kept + excluded.kept)
	SELECT ord, before, ` + finishedColumns + ` FROM gone ORDER BY ord`
