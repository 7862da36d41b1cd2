package postgres

import (
	"fmt"
	"strings"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
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

// listing has the statements that list tasks, newest first, of those for which there is an index. The parameters of list are
// the cursor, a queue, a state, an action, the limit, the lowest id, and bounds of the time of creation, which select all
// if they are empty. Those of floor are the cursor, the lowest id, and a number of tasks to pass over; it finds the id of the
// task behind these, and of one more. The owner is the last parameter of both, if there is one.
type listing struct{ list, floor string }

// The listings of all tasks, of those of an owner, and of those in states that few tasks have. Few tasks run at a time, so
// these are sorted.
var (
	listAll       = newListing("tasks t", "finished f", "")
	listOwned     = newListing("tasks t", "finished f", " AND owner = @owner")
	listScheduled = newListing("tasks t", "", " AND state = 1")
	listRunning   = newListing("(SELECT * FROM tasks WHERE state = 3 OFFSET 0) t", "", "")
	listFailed    = newListing("", "finished f", " AND state = 5")
	listCancelled = newListing("", "finished f", " AND state = 6")
)

// listingFor returns the listing for a filter.
func listingFor(query *store.Query) *listing {
	switch {
	case query.Owner != "":
		return &listOwned
	case query.State == task.Scheduled:
		return &listScheduled
	case query.State == task.Running:
		return &listRunning
	case query.State == task.Failed:
		return &listFailed
	case query.State == task.Cancelled:
		return &listCancelled
	}
	return &listAll
}

// newListing returns the listing of two tables, either of which may be missing, with a guard.
func newListing(open, ended, guard string) listing {
	var lists, floors []string
	if open != "" {
		lists, floors = append(lists, listOf("t", open, taskColumns, visibleState, guard)), append(floors, floorOf("t", open, guard))
	}
	if ended != "" {
		ended, guard = ended+", sweep s", guard+" AND NOT "+gone
		lists, floors = append(lists, listOf("f", ended, finishedColumns, "state", guard)), append(floors, floorOf("f", ended, guard))
	}
	return listing{
		list:  strings.ReplaceAll("SELECT * FROM ("+strings.Join(lists, " UNION ALL ")+") AS each ORDER BY 3 DESC LIMIT $5", "@owner", "$9"),
		floor: strings.ReplaceAll("SELECT id FROM ("+strings.Join(floors, " UNION ALL ")+") AS each ORDER BY id DESC LIMIT 2 OFFSET $3", "@owner", "$4"),
	}
}

func listOf(name, from, list, state, guard string) string {
	return fmt.Sprintf(`(SELECT 0::bigint AS ord, 0::bigint AS before, %s FROM %s WHERE %[3]s.id < $1
		AND ($2 = '' OR queue = (SELECT number FROM queues WHERE name = $2)) AND ($3 = 0 OR %[5]s = $3)
		AND ($4 = '' OR action = $4) AND %[3]s.id >= $6 AND created >= $7 AND ($8::bigint = 0 OR created <= $8) %[4]s ORDER BY %[3]s.id DESC LIMIT $5)`,
		name+"."+list, from, name, guard, state) // qualified, since two tables have a column id
}

func floorOf(name, from, guard string) string {
	return fmt.Sprintf("(SELECT %s.id FROM %s WHERE %[1]s.id < $1 AND %[1]s.id >= $2 %[3]s ORDER BY %[1]s.id DESC LIMIT $3::bigint + 2)", name, from, guard)
}

// visibleState is the state of a task in tasks: a reserved task is queued.
const visibleState = "CASE WHEN state = 3 AND " + isReserved + " THEN 2 ELSE state END"

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
