package postgres

// The files sql_*.go hold the SQL of this store. Each change of tasks is one statement. Its guard lists the
// states in which package task allows the change, and the other conditions of the change.
//
// The planner is told to use indexes, so a join of two computed sets would become a nested loop. Use IN
// instead, which becomes a hash.
//
// A statement that changes tasks has three parts. The part "locked" selects the rows that meet the guard and
// locks them. Wherever it may have to wait, it locks them in the order of their ids, so that two statements
// cannot deadlock. The part "next" computes the new values of each row. The other parts write them: rows in
// place, finished rows to their partition, and the counts to one row for each queue.

import (
	"fmt"
	"strings"

	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/task"
)

// clock computes the time at which a statement began, and the row of counts that it writes.
const clock = "clock AS MATERIALIZED (SELECT clock_ms() AS now, floor(random() * 16)::smallint AS shard)"

// at is the time of a change: that of the clock, but never before the previous change.
const at = "greatest(now, l.changed)"

// late is the condition that a task was not entered in time, so that it must not be claimed.
const late = "(t.attempt = t.unentered AND t.expires > 0 AND t.expires <= now)"

// expiry is the column due of a queued task.
const expiry = "CASE WHEN l.attempt = l.unentered AND l.expires > 0 THEN l.expires END"

// isReserved is the condition that a task was claimed and not entered, for rows whose state is 3. A node of the
// previous release does not set reserved: when it claims a task, attempt goes up and reserved stays behind.
const isReserved = "reserved = attempt"

// begun is the entry of the history that enters the action of a locked row, at a time. packed_text packs the
// node. worker is the packed worker.
func begun(at, worker string) string {
	head, _ := pack.StampedEntry(task.Running, "", "")
	return fmt.Sprintf(`'\x%x'::bytea || int8send(%s) || packed_text(l.node) || %s`, head, at, worker)
}

// enteredAt is when the action of a locked row was entered: l.ago milliseconds ago, but never before the
// previous change.
const enteredAt = "greatest(now - l.ago, l.changed)"

// gone is the condition that a finished task is past its keep. The statement must have the table sweep as s.
const gone = "((f.gone, f.id) <= (s.until, s.last_id))"

// columns are the columns that both tasks and finished have.
const columns = `id, state, suspect, cancelling, priority, queue, attempt, failures, crashes, max_attempts, keep, created,
	changed, run_at, expires, due, lease, action, key, node, spec, progress, outcome, history, payload, keep_failed, owner`

// own are the columns that only tasks has.
const own = "reserved, unentered"

// mutable are the columns that a change may set.
const mutable = own + ", state, suspect, cancelling, attempt, failures, crashes, changed, run_at, expires, due, lease, node, " +
	"progress, outcome, history"

// taskColumns are the columns that scanner reads from tasks.
const taskColumns = `id, created, (suspect::int + 2 * cancelling::int + 4 * crashes + 1024 * failures)::bigint, run_at, lease,
	spec, progress, outcome, history, attempt, CASE WHEN state = 3 AND ` + isReserved + ` THEN node END, expires`

// finishedColumns are the same columns of finished, where no task is reserved.
const finishedColumns = `id, created, (suspect::int + 2 * cancelling::int + 4 * crashes + 1024 * failures)::bigint, run_at, lease,
	spec, progress, outcome, history, attempt, NULL::text, expires`

// keptFor is how long a task is kept that ends in a state, in milliseconds. The state is an expression of the
// row l.
const keptFor = "greatest(CASE WHEN %s = 5 THEN coalesce(l.keep_failed, l.keep) ELSE l.keep END, 1)"

// sets are the columns that a change sets, as expressions of the row l, of clock, and of the further columns of
// the part "locked".
type sets map[string]string

// entry sets the history. head and tail are the results of pack.StampedEntry.
func (s sets) entry(head, tail string) sets {
	s["history"] = fmt.Sprintf("l.history || %s || int8send(%s) || %s", head, at, tail)
	s["changed"] = at
	return s
}

// begins is entry for changes that end a claim. A row with "begins" first gets the entry that enters the
// action. A row with "silent" gets no entry.
func (s sets) begins(since, worker, head, tail string) sets {
	s["history"] = fmt.Sprintf("l.history || CASE WHEN begins THEN %s ELSE '' END || CASE WHEN silent THEN '' ELSE %s || int8send(%s) || %s END",
		begun(since, worker), head, at, tail)
	s["changed"] = "CASE WHEN silent THEN l.changed ELSE " + at + " END"
	s["unentered"] = "l.unentered - begins::int"
	return s
}

// ended sets the columns that every end of an attempt sets.
func (s sets) ended() sets {
	s["suspect"], s["cancelling"], s["lease"], s["due"], s["reserved"] = "false", "false", "NULL::bigint", "NULL::bigint", "0"
	return s
}

// with sets one more column.
func (s sets) with(column, expression string) sets {
	s[column] = expression
	return s
}

// next returns the part "next" of the statement.
func (s sets) next() string {
	var list []string
	for name := range strings.SplitSeq(columns+", "+own, ",") {
		name = strings.TrimSpace(name)
		expression, set := s[name]
		if !set {
			expression = "l." + name
		}
		list = append(list, expression+" AS "+name)
	}
	return "next AS MATERIALIZED (SELECT l.ord, l.state AS before, shard, " + strings.Join(list, ", ") +
		fmt.Sprintf(", %[3]s AS retention, CASE WHEN %[1]s > 3 THEN %[2]s + %[3]s END AS gone", s["state"], at, fmt.Sprintf(keptFor, s["state"])) +
		" FROM locked l, clock)"
}

// change returns a statement. before are the parts that come before "next", and end with "locked". extra are
// columns behind those of the task.
func change(before string, s sets, extra string) string {
	return "WITH " + clock + ", " + before + ", " + s.next() + `,
		moved AS (INSERT INTO finished (` + columns + `, bucket, gone)
			SELECT ` + columns + `, bucket_of(gone, retention), gone FROM next WHERE state > 3),
		left_tasks AS (DELETE FROM tasks t USING next n WHERE ` + found("t.id", "n.id") + ` AND n.state > 3),
		stayed AS (UPDATE tasks t SET ` + assigned("n", mutable) + `
			FROM next n WHERE ` + found("t.id", "n.id") + ` AND n.state <= 3),
		` + freed(s) + `
		counted AS (` + count("next", "") + `)
		SELECT ord, before, ` + taskColumns + extra + " FROM next ORDER BY ord"
}

// freed deletes the keys of the tasks that a change cancels, which no longer hold them.
func freed(s sets) string {
	if strings.ContainsAny(s["state"][:1], "12345") { // the change never cancels
		return ""
	}
	return `freed AS (DELETE FROM keys k USING next n
			WHERE n.state = 6 AND ` + found("k.queue", "n.queue") + ` AND k.key = n.key AND k.id = n.id),`
}

// found is the condition that a column has a value which comes from another part of the statement: the planner looks
// the value up in an index. For an equation it also considers reading the whole index in its order, and does so by
// the statistics of a table that was empty a moment ago. For further columns of the same index an equation is right.
func found(column, value string) string {
	return column + " = ANY (ARRAY[" + value + "])"
}

// byID is a condition on the state that keeps the planner from using an index on the state: the rows are found
// by their ids.
func byID(state int) string { return fmt.Sprintf("t.state + 0 = %d", state) }

// assigned sets columns to those of a table.
func assigned(table, list string) string {
	var pairs []string
	for name := range strings.SplitSeq(list, ", ") {
		pairs = append(pairs, name+" = "+table+"."+name)
	}
	return strings.Join(pairs, ", ")
}

// count returns a statement that counts the changes of a table with the columns before, state and shard.
// arrivals are the counts of new rows.
func count(table, arrivals string) string {
	if arrivals == "" {
		arrivals = "0 AS kept, 0 AS accepted"
	}
	state := func(name string, number int) string {
		return fmt.Sprintf("sum((state = %[2]d)::int - (before = %[2]d)::int) AS %[1]s", name, number)
	}
	return fmt.Sprintf(`INSERT INTO counts AS c (queue, shard, scheduled, queued, running, failed, kept, accepted, finished)
		SELECT queue, shard, %s, %s, %s, %s, %s, sum((state > 3 AND before BETWEEN 1 AND 3)::int)
		FROM %s GROUP BY queue, shard ORDER BY queue
		ON CONFLICT (queue, shard) DO UPDATE SET scheduled = c.scheduled + excluded.scheduled,
			queued = c.queued + excluded.queued, running = c.running + excluded.running, failed = c.failed + excluded.failed,
			kept = c.kept + excluded.kept, accepted = c.accepted + excluded.accepted, finished = c.finished + excluded.finished`,
		state("scheduled", 1), state("queued", 2), state("running", 3), state("failed", 5), arrivals, table)
}

// allowed is the guard of a change: the states in which package task allows it.
func allowed(column string, changes ...task.Change) string {
	var numbers []string
	for i, s := range task.States() {
		for _, c := range changes {
			if _, ok := c.Apply(s); ok {
				numbers = append(numbers, fmt.Sprint(i+1))
			}
		}
	}
	return column + " IN (" + strings.Join(numbers, ", ") + ")"
}
