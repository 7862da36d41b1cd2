package postgres

import (
	"fmt"

	"github.com/posta-tasks/posta/task"
)

// expiresText is the time at which a task expires in the format of time.RFC3339. It always has expiresLength
// characters, so the statement can write it into packed columns.
const (
	expiresText   = `convert_to(to_char(to_timestamp(l.expires / 1000) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), 'UTF8')`
	expiresLength = len("2006-01-02T15:04:05Z")
)

// Maintenance. The tasks that have been due longest come first. Rows that another transaction has locked are
// skipped until the next call.
var (
	sqlExpireTasks = change("locked AS MATERIALIZED (SELECT t.*, row_number() OVER () AS ord FROM ("+
		due(allowed("t.state", task.Expire)+" AND t.due <= (SELECT now FROM clock) AND "+late, "t.due")+") AS t)",
		sets{
			"state": "5::smallint", "outcome": "$4::bytea || " + expiresText + ` || '\x0000'::bytea`,
		}.ended().entry("$2::bytea", "$3::bytea || "+expiresText), "")
	sqlPromoteTasks = change("locked AS MATERIALIZED (SELECT t.*, row_number() OVER () AS ord FROM ("+
		due(allowed("t.state", task.Promote)+" AND t.due <= (SELECT now FROM clock) AND NOT "+late, "t.due")+") AS t)",
		sets{
			"state": "2::smallint", "due": expiry,
		}.entry("$2::bytea", "$3::bytea"), "")

	// sqlReapTasks takes tasks from nodes whose leases have ended. If $2 is not null, it takes them whatever
	// their leases are, from the node $3, or from all nodes if $3 is empty. A task of a process that is alive
	// does not become a suspect (task.LeaseLively). If $9 is not null, it takes only tasks of these actions.
	sqlReapTasks = reap(due("t.state = 3 AND ($2::bigint IS NOT NULL OR t.lease <= now) AND ($3 = '' OR t.node = $3) AND ($9::text[] IS NULL OR t.action = ANY($9))", "t.lease"))

	// sqlReapClaims takes the tasks of claims from the node $3. $9 has the ids and $10 the fences; $2 is not null.
	sqlReapClaims = reap("SELECT t.* FROM tasks t JOIN (SELECT DISTINCT * FROM unnest($9::text[], $10::int[]) AS u(asked, fence)) AS a ON " + found("t.id", "a.asked") + " WHERE " + byID(3) +
		" AND t.attempt = a.fence AND t.node = $3 ORDER BY a.asked LIMIT $1 FOR UPDATE OF t")
)

// reap returns a statement that takes tasks from nodes. picked selects and locks them.
func reap(picked string) string {
	return change("picked AS MATERIALIZED ("+picked+"),"+
		fmt.Sprintf(`judged AS MATERIALIZED (SELECT t.*, row_number() OVER () AS ord, $2::bigint IS NULL AND EXISTS (SELECT FROM nodes r, clock
				WHERE r.name = t.node AND r.seen > now - %d AND (r.about::json ->> 'since')::bigint <= t.lease - %d) AS lives FROM picked t),
			locked AS MATERIALIZED (SELECT t.*, CASE WHEN cancelling THEN 6 WHEN suspect AND NOT lives AND crashes + 1 >= %d THEN 5
				ELSE 2 END AS becomes, %s AND NOT lives AS begins, %[4]s AND lives AND NOT cancelling AS silent FROM judged t)`, task.LeaseLively.Milliseconds(), task.LeaseTime.Milliseconds(), task.MaxCrashes, isReserved),
		sets{}.ended().with("state", "becomes::smallint").with("suspect", "becomes = 2 AND (l.suspect OR NOT lives)").
			with("crashes", "l.crashes + (l.suspect AND NOT lives AND becomes <> 6)::int").
			with("outcome", "CASE becomes WHEN 6 THEN NULL WHEN 5 THEN $7::bytea ELSE l.outcome END").
			with("due", "CASE WHEN silent THEN "+expiry+" END").
			begins(fmt.Sprintf("greatest(l.lease - %d, l.changed)", task.LeaseTime.Milliseconds()), `'\x00'::bytea`,
				"CASE becomes WHEN 6 THEN $4::bytea WHEN 5 THEN $5::bytea ELSE $6::bytea END", "$8::bytea"), "")
}

// due selects and locks at most $1 tasks.
func due(guard, since string) string {
	return "SELECT t.* FROM clock, tasks t WHERE " + guard + " ORDER BY " + since + ", t.id LIMIT $1 FOR UPDATE OF t SKIP LOCKED"
}

// sqlNextDue returns the time, and when the next waiting, running and finished task is due, or the next
// partition can be dropped.
const sqlNextDue = `SELECT clock_ms(), (SELECT min(due) FROM tasks WHERE due IS NOT NULL), (SELECT min(lease) FROM tasks WHERE state = 3),
	least((SELECT f.gone FROM finished f WHERE ` + ahead + ` ORDER BY f.gone, f.id LIMIT 1),
		(SELECT min(bucket_end(bucket)) FROM ` + buckets + `))`
