package postgres

// sqlLockCounts waits for running statements that change tasks, and makes later ones wait. Each of them writes
// to counts before it reads the other tables, so that it sees the state after the wait.
const sqlLockCounts = "LOCK TABLE counts IN SHARE ROW EXCLUSIVE MODE"

// buckets lists the existing partitions.
const buckets = `(SELECT substring(c.relname FROM '\d+$')::bigint AS bucket
	FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'finished'::regclass) AS p`

// sqlExpiredPartitions lists the partitions in which all tasks are past their keep.
const sqlExpiredPartitions = "SELECT bucket FROM " + buckets + ", sweep s WHERE bucket_end(bucket) <= least(s.until, clock_ms())"

// sqlRaiseRetention moves the retention to $1: all tasks that were kept until then are past their keep.
const sqlRaiseRetention = "UPDATE sweep SET until = $1, last_id = '' WHERE until < $1"

// ahead is the condition that the retention has not reached a finished task. It is a range of the index on gone
// and id, so that rows which are past their keep but still on disk are not read.
const ahead = "(f.gone, f.id) > ((SELECT until FROM sweep), (SELECT last_id FROM sweep))"

// sqlExpireFinished moves the retention past at most $1 finished tasks that were kept until $2, and returns
// them.
var sqlExpireFinished = `WITH clock AS MATERIALIZED (SELECT floor(random() * 16)::smallint AS shard),
	gone AS MATERIALIZED (SELECT row_number() OVER (ORDER BY f.gone, f.id) AS ord, f.state::bigint AS before, f.* FROM (
		SELECT f.* FROM finished f WHERE ` + ahead + ` AND f.gone <= $2 ORDER BY f.gone, f.id LIMIT $1) AS f),
	swept AS (UPDATE sweep SET until = g.gone, last_id = g.id FROM (SELECT gone, id FROM gone ORDER BY ord DESC LIMIT 1) AS g),
	freed AS (DELETE FROM keys k USING gone g WHERE ` + found("k.queue", "g.queue") + ` AND k.key = g.key AND k.id = g.id),
	counted AS (INSERT INTO counts AS c (queue, shard, scheduled, queued, running, failed, kept, accepted, finished)
		SELECT queue, shard, 0, 0, 0, -sum((state = 5)::int), -count(*), 0, 0 FROM gone, clock GROUP BY queue, shard ORDER BY queue
		ON CONFLICT (queue, shard) DO UPDATE SET failed = c.failed + excluded.failed, kept = c.kept + excluded.kept)
	SELECT ord, before, ` + finishedColumns + ` FROM gone ORDER BY ord`
