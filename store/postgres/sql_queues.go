package postgres

import (
	"fmt"
)

// sqlForgetQueues drops queues that have no task. The caller has locked counts.
const sqlForgetQueues = `WITH empty AS MATERIALIZED (SELECT q.number FROM queues q WHERE NOT q.paused AND q.number = ANY($1)
		AND NOT EXISTS (SELECT FROM counts c WHERE c.queue = q.number GROUP BY c.queue HAVING sum(c.kept) > 0)),
	uncounted AS (DELETE FROM counts c USING empty e WHERE c.queue = e.number)
	DELETE FROM queues q USING empty e WHERE q.number = e.number`

// sqlListQueues sums up the counts, and finds the queued task with the lowest id. It goes from action to
// action, as the indexes are sorted.
//
// In counts, reserved tasks are running, as nodes of the previous release need it; here they are queued.
var sqlListQueues = `WITH reserved AS MATERIALIZED (SELECT queue, count(*) AS n, min(id) AS id FROM tasks WHERE state = 3 AND ` + isReserved + ` GROUP BY queue)
	SELECT q.name, q.paused, sum(c.scheduled)::bigint, (sum(c.queued) + coalesce(r.n, 0))::bigint, (sum(c.running) - coalesce(r.n, 0))::bigint,
		sum(c.failed)::bigint, sum(c.accepted)::bigint, sum(c.finished)::bigint,
		CASE WHEN sum(c.queued) + coalesce(r.n, 0) > 0 THEN (SELECT CASE WHEN t.run_at = 0 THEN t.created ELSE t.run_at END FROM tasks t WHERE t.id = (
			SELECT least(r.id, min(first.id)) FROM (VALUES (0), (1), (2)) AS p(priority), LATERAL (
				` + firstIn("NOT suspect") + " UNION ALL " + firstIn("suspect") + `) AS first)) END, clock_ms()
	FROM queues q LEFT JOIN counts c ON c.queue = q.number LEFT JOIN reserved r ON r.queue = q.number GROUP BY q.number, r.n, r.id
	HAVING q.paused OR sum(c.kept) > 0 ORDER BY q.name`

// sqlListWaiting returns the actions of scheduled and queued tasks by queue. It goes from action to action, as
// sqlListQueues does.
var sqlListWaiting = `SELECT DISTINCT q.name, w.action FROM queues q, LATERAL (
		SELECT each.action FROM (VALUES (0), (1), (2)) AS p(priority), LATERAL (` +
	actionsIn("state = 2 AND NOT suspect AND queue = q.number AND priority = p.priority") + " UNION ALL " +
	actionsIn("state = 2 AND suspect AND queue = q.number AND priority = p.priority") + `) AS each
		UNION ALL ` + actionsIn("state = 1 AND queue = q.number") + `) AS w
	WHERE w.action IS NOT NULL ORDER BY 1, 2`

// actionsIn finds the distinct actions of tasks, and one NULL.
func actionsIn(condition string) string {
	return fmt.Sprintf(`SELECT a.action FROM (WITH RECURSIVE each(action) AS (SELECT min(action) FROM tasks WHERE %[1]s
			UNION ALL SELECT (SELECT min(action) FROM tasks WHERE %[1]s AND action > each.action) FROM each WHERE each.action IS NOT NULL)
		SELECT action FROM each) AS a`, condition)
}

// firstIn finds the queued task of a priority with the lowest id.
func firstIn(guard string) string {
	lane := "FROM tasks WHERE state = 2 AND " + guard + " AND queue = q.number AND priority = p.priority"
	return fmt.Sprintf(`SELECT min((SELECT min(id) %[1]s AND action = each.action)) AS id FROM (
		WITH RECURSIVE each(action) AS (SELECT min(action) %[1]s
			UNION ALL SELECT (SELECT min(action) %[1]s AND action > each.action) FROM each WHERE each.action IS NOT NULL)
		SELECT action FROM each) AS each`, lane)
}

const (
	// sqlRaisePauses raises the version of the paused queues.
	sqlRaisePauses = "UPDATE pauses SET version = version + 1 RETURNING version"
	// sqlSetPaused sets whether queue $1 is paused, if the queue exists, and returns whether it was. The caller has locked counts.
	sqlSetPaused = `UPDATE queues q SET paused = $2 FROM (SELECT number, paused FROM queues WHERE name = $1 FOR UPDATE) AS old WHERE q.number = old.number
		AND (q.paused OR EXISTS (SELECT FROM counts c WHERE c.queue = q.number GROUP BY c.queue HAVING sum(c.kept) > 0)) RETURNING q.number, old.paused`
	// sqlListPaused returns the version and the paused queues.
	sqlListPaused = "SELECT version, array(SELECT name FROM queues WHERE paused ORDER BY name) FROM pauses"

	// sqlForgetNodes deletes nodes that have sent no heartbeat for $1 milliseconds.
	sqlForgetNodes = "DELETE FROM nodes WHERE seen <= clock_ms() - $1"
	// sqlBeatNode writes the row of node $1. $2 is JSON about the node without the opening brace. The statement
	// adds the time of the first heartbeat of this process. After $3 milliseconds without a heartbeat, a
	// process counts as new.
	sqlBeatNode = `INSERT INTO nodes AS n (name, seen, about) SELECT $1, now, '{"since":' || now || ',' || $2::text FROM clock_ms() AS now
		ON CONFLICT (name) DO UPDATE SET seen = excluded.seen, about = '{"since":' || coalesce(
			CASE WHEN n.about::json ->> 'Started' = excluded.about::json ->> 'Started' AND n.seen > excluded.seen - $3::bigint
			THEN n.about::json ->> 'since' END,
			excluded.seen::text) || ',' || $2::text`
	// sqlLiveNodes returns the nodes with a heartbeat in the last $1 milliseconds.
	sqlLiveNodes = "SELECT about, seen FROM nodes WHERE seen > clock_ms() - $1 ORDER BY name"
)
