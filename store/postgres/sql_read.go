package postgres

import (
	"fmt"
	"strings"
)

// sqlTasksByID finds tasks by id: first the unfinished ones, and only the rest in the partitions, since that
// means a search in each of them.
var sqlTasksByID = `WITH asked AS MATERIALIZED (SELECT * FROM unnest($1::text[]) WITH ORDINALITY AS a(asked, ord)),
	open AS MATERIALIZED (SELECT a.ord, 0::bigint AS before, t.* FROM asked a JOIN tasks t ON ` + found("t.id", "a.asked") + `)
	SELECT ord, before, ` + taskColumns + `, payload FROM open
	UNION ALL
	SELECT a.ord, 0::bigint AS before, ` + finishedColumns + `, payload
	FROM asked a JOIN finished f ON ` + found("f.id", "a.asked") + `, sweep s
	WHERE a.ord NOT IN (SELECT o.ord FROM open o) AND NOT ` + gone

// sqlListTasks selects tasks, newest first. An empty parameter selects all.
var sqlListTasks = listBoth("")

// sqlListOwned is sqlListTasks for the tasks of an owner, which have an index.
var sqlListOwned = listBoth(" AND owner = $9")

func listBoth(guard string) string {
	return listOf("tasks t", guard) + " UNION ALL " + listOf("finished f, sweep s", guard+" AND NOT "+gone) + " ORDER BY 3 DESC LIMIT $5"
}

// visibleState is the state of a task in tasks: a reserved task is queued.
const visibleState = "CASE WHEN state = 3 AND " + isReserved + " THEN 2 ELSE state END"

func listOf(table, guard string) string {
	name, state, list := "t", visibleState, taskColumns
	if strings.HasPrefix(table, "finished") {
		name, state, list = "f", "state", finishedColumns
	}
	return fmt.Sprintf(`(SELECT 0::bigint, 0::bigint, %s FROM %s WHERE ($1 = '' OR %[3]s.id < $1)
		AND ($2 = '' OR queue = (SELECT number FROM queues WHERE name = $2)) AND ($3 = 0 OR %[5]s = $3)
		AND ($4 = '' OR action = $4) AND %[3]s.id >= $6 AND created >= $7 AND ($8::bigint = 0 OR created <= $8) %[4]s ORDER BY %[3]s.id DESC LIMIT $5)`,
		name+"."+list, table, name, guard, state) // qualified, since two tables have a column id
}

// The tasks that a change by filter acts on. A cursor sees them all as they were when it was declared. The
// parameters are the states, the queue and the action; an empty queue or action selects all.
var (
	sqlPickOpen  = pickOf("t."+taskColumns, "tasks t", visibleState, "NOT cancelling", "t.id")
	sqlPickEnded = pickOf("f."+finishedColumns, "finished f, sweep s", "state", "NOT "+gone+` AND NOT (state = 6 AND key IS NOT NULL
		AND EXISTS (SELECT FROM keys k WHERE `+found("k.queue", "f.queue")+` AND k.key = f.key AND k.id <> f.id))`, "f.changed, f.id")
)

// sqlFetchPicked reads the next rows of the cursor.
const sqlFetchPicked = "FETCH 1000 FROM picked"

// pickFetched is how many rows sqlFetchPicked reads.
const pickFetched = 1000

func pickOf(list, from, state, guard, order string) string {
	return "DECLARE picked NO SCROLL CURSOR FOR SELECT 0::bigint, 0::bigint, " + list + " FROM " + from + `
		WHERE ` + state + ` = ANY($1::smallint[]) AND ($2::text = '' OR queue = (SELECT number FROM queues WHERE name = $2::text))
		AND ($3::text = '' OR action = $3::text) AND ` + guard + " ORDER BY " + order
}
