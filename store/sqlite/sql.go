package sqlite

// This file holds the SQL of the store. Each change of a task is one statement. Its guard lists the states in
// which package task allows the change, and the other conditions of the change.
//
// Parameters are in the order of the text. Numbers on which a plan depends (0 and 1) are written out.

import (
	"fmt"
	"strings"
	"time"

	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/task"
)

// New tasks.
const (
	sqlAcceptTask = `INSERT INTO tasks (id, state, lane, max_attempts, keep, run_at, expires, due, action, key, spec, payload,
		history, attempt, node, keep_failed, timed, reserved, unentered)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?14, ?14) ON CONFLICT DO NOTHING`
	sqlKeptByID  = "SELECT " + pack.Columns + ", payload FROM tasks WHERE id = ?"
	sqlKeptByKey = "SELECT " + pack.Columns + ", payload FROM tasks WHERE key = ? AND state <> 6"
)

// sqlImportTask writes a row as it is.
const sqlImportTask = `INSERT INTO tasks (id, state, lane, suspect, cancelling, attempt, failures, crashes, max_attempts, keep,
	run_at, expires, due, action, key, node, spec, progress, outcome, history, payload, reserved, unentered, keep_failed, timed)
	VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`

// Parts of statements.
const (
	// late is what was not entered in time, and is not claimed any more. Its parameter is now.
	late = "(attempt = unentered AND expires > 0 AND expires <= ?)"
	// expiry says when a task that is queued falls due.
	expiry = "CASE WHEN attempt = unentered AND expires > 0 THEN expires END"
	// isReserved is what was claimed and not entered; its condition on the state is left to the statement.
	isReserved = "reserved = attempt"
	// holder packs the node of a task, and the empty error of an entry of running.
	holder = `unhex(CASE WHEN octet_length(node) < 128 THEN printf('%02x', octet_length(node))
		ELSE printf('%02x%02x', octet_length(node) & 127 | 128, octet_length(node) >> 7) END) || CAST(node AS BLOB) || x'00'`
	// ended is what every end of an attempt sets. The claim is over with the state, so that what was reserved can still be
	// told from what was entered before.
	ended = "suspect = 0, cancelling = 0, unentered = unentered - (" + isReserved + "), "
	// kept says when a finished task falls due: when it is deleted. Its parameter is now.
	kept = "due = ? + keep"
	// keptFailed is kept for a task that ends failed.
	keptFailed = "due = ? + coalesce(keep_failed, keep)"
	// endedAt is when a finished task ended.
	endedAt = "due - CASE state WHEN 5 THEN coalesce(keep_failed, keep) ELSE keep END"
	// attemptRuns is the guard of what a node says. Its parameters are the id and the fence.
	attemptRuns = "id = ? AND attempt = ?"
	// notAsked is the guard of every end but success: a task that was asked to stop ends
	// cancelled.
	notAsked = attemptRuns + " AND cancelling = 0"
	// ofNode selects by node. Its parameters are the name, twice; "" is every node.
	ofNode = "(? = '' OR node = ?)"
	// keyHolder finds the task that has the key of a cancelled task, which is a row of tasks.
	keyHolder = "SELECT 1 FROM tasks AS other WHERE other.key = tasks.key AND other.state <> 6 AND other.id <> tasks.id"
	// expiresText gives Expires as time.RFC3339 does; it has expiresLength characters.
	expiresText   = "strftime('%Y-%m-%dT%H:%M:%SZ', expires/1000, 'unixepoch')"
	expiresLength = len(time.DateTime) + 1
)

// change writes the statement of a change: what it sets beside the state and the history,
// and what it asks for beside the states of task's table. The parameters are those of sets,
// the entry of the history, and those of guard.
func change(c task.Change, sets, guard string) string {
	var from []task.State
	var to task.State
	for _, s := range task.States() {
		if next, ok := c.Apply(s); ok {
			from, to = append(from, s), next
		}
	}
	return changeFrom(from, to, sets, guard)
}

// changeFrom is change for those that a change makes of some of its states.
func changeFrom(from []task.State, to task.State, sets, guard string) string {
	return update(from, to, sets+", "+history("?"), guard)
}

// history appends what an expression gives.
func history(entries string) string { return "history = CAST(history || " + entries + " AS BLOB)" }

// claimed are the states of tasks that a node has claimed: their rows are those of running tasks.
var claimed = []task.State{task.Running}

// end writes the statement of a change that ends an attempt. Before the entry comes, as a parameter, the beginning of
// that which enters the action if that was not done before.
func end(c task.Change, sets, guard string) string {
	to, _ := c.Apply(task.Running)
	entries := "CASE WHEN " + isReserved + " THEN ? || " + holder + " ELSE x'' END || ?"
	return update(claimed, to, sets+", "+history(entries), guard)
}

// reap writes the statement of a change that takes tasks from nodes whose processes have died. What was reserved may
// have been entered since the lease was granted.
func reap(to task.State, unless, sets, guard string) string {
	head, _ := pack.StampedEntry(task.Running, "", "")
	entries := fmt.Sprintf("CASE WHEN %s%s THEN x'%x' || unhex(printf('%%016x', due - %d)) || %s ELSE x'' END || ?",
		isReserved, unless, head, task.LeaseTime.Milliseconds(), holder)
	return update(claimed, to, sets+", "+history(entries), guard)
}

// lives tells whether the process that was granted a lease lives. Its parameter is now.
var lives = fmt.Sprintf(`EXISTS (SELECT 1 FROM nodes AS r WHERE r.name = tasks.node AND r.seen > %%s - %d
	AND json_extract(r.about, '$.since') <= tasks.due - %d)`, task.LeaseLively.Milliseconds(), task.LeaseTime.Milliseconds())

// update writes a statement that changes tasks in some states.
func update(from []task.State, to task.State, sets, guard string) string {
	if fail.Mutant("record-without-attempt-guard") {
		guard = strings.Replace(guard, "attempt = ?", "? IS NOT NULL", 1)
	}
	var numbers []string
	for _, s := range from {
		numbers = append(numbers, fmt.Sprint(pack.StateNumber(s)))
	}
	return fmt.Sprintf(`UPDATE tasks SET state = %d, %s WHERE state IN (%s) AND %s RETURNING %s`, pack.StateNumber(to), sets, strings.Join(numbers, ", "), guard, pack.Columns)
}

// oldest selects, of the tasks in these states that are due and that the condition holds
// for, those that have been due longest. Its parameters are, for each state, now and those
// of the condition, and then the limit.
func oldest(condition string, states ...task.State) string {
	var parts []string
	for _, s := range states {
		parts = append(parts, fmt.Sprintf("SELECT n, due FROM tasks WHERE state = %d AND due <= ? AND %s",
			pack.StateNumber(s), condition))
	}
	return "n IN (SELECT n FROM (" + strings.Join(parts, " UNION ALL ") + " ORDER BY due LIMIT ?))"
}

// What nodes do.
const (
	sqlEnterTask = "UPDATE tasks SET reserved = 0, unentered = unentered - 1, history = CAST(history || ? || " + holder +
		" AS BLOB) WHERE state = 3 AND " + attemptRuns + " AND " + isReserved + " RETURNING " + pack.Columns
	sqlRenewLease = "UPDATE tasks SET due = ?, progress = coalesce(?, progress) WHERE state = 3 AND " + attemptRuns +
		" AND node = ? RETURNING cancelling"
	// sqlSuspectRuns finds a suspect that runs on a node and is none of those that others may run beside.
	sqlSuspectRuns = "SELECT 1 FROM tasks AS other WHERE other.state = 3 AND other.suspect = 1 AND other.node = ? AND instr(?, other.id) = 0"
)

// queuedIn selects what is queued in a lane and not late. Its parameters are the lane, the
// action, now and the limit.
func queuedIn(suspicion string) string {
	return fmt.Sprintf("SELECT id FROM tasks WHERE state = 2 AND %s AND lane = ? AND action = ? AND NOT %s "+
		"ORDER BY id LIMIT ?", suspicion, late)
}

// claimOf claims tasks. Its parameters are the node, the lease, that of which, those of
// suspicion, now, and the actions and the queues' numbers that may be claimed.
func claimOf(which, suspicion string) string {
	from := []task.State{task.Queued}
	if fail.Mutant("claim-without-state-guard") {
		from = task.States()
	}
	return update(from, task.Running, "attempt = attempt + 1, unentered = unentered + 1, reserved = attempt + 1, node = ?, due = ?, progress = NULL", which+" AND "+suspicion+
		" AND NOT "+late+" AND instr(?, char(10) || action || char(10)) > 0 AND instr(?, ',' || (lane >> 2) || ',') > 0") +
		", payload"
}

// What a node does with tasks: it looks for them, claims them and ends their attempts.
var (
	sqlQueuedTasks    = queuedIn("suspect = 0")
	sqlQueuedSuspects = queuedIn("suspect = 1 AND crashes = 0")
	sqlQueuedAccused  = queuedIn("suspect = 1 AND crashes > 0")
	sqlClaimTask      = claimOf("id = ?", "suspect = 0")
	// sqlClaimSuspect asks for whether accused ones may be taken, for the node, and for whom it may run beside.
	sqlClaimSuspect = claimOf("id = ?", "suspect = 1 AND (crashes = 0 OR ?) AND NOT EXISTS ("+sqlSuspectRuns+")")
	// sqlClaimTasks takes a JSON array of ids. The sign keeps it from looking through all that is queued instead.
	sqlClaimTasks = claimOf("id IN (SELECT value FROM json_each(?))", "+suspect = 0")

	sqlSucceedTask = end(task.Succeed, ended+kept+", outcome = ?", attemptRuns)
	// sqlSucceedReserved has both entries in one parameter.
	sqlSucceedReserved = changeFrom(claimed, task.Done, ended+kept+", outcome = ?", attemptRuns+" AND "+isReserved)
	sqlFailTask        = end(task.Fail, ended+"failures = failures + 1, "+keptFailed+", outcome = ?", notAsked)
	sqlTryAgain        = end(task.Again, ended+"failures = failures + 1, run_at = ?, due = ?, timed = 0, outcome = ?",
		notAsked+" AND failures + 1 < max_attempts")
	sqlReleaseTask = end(task.Release, ended+"due = NULL", notAsked)
	sqlCrashTask   = end(task.Crash, ended+"crashes = crashes + 1, "+keptFailed+", outcome = ?", notAsked)
	// sqlEndCancelled has a third parameter in its guard: whether the node says so by itself.
	sqlEndCancelled = end(task.Cancel, ended+kept+", outcome = NULL", attemptRuns+" AND (cancelling = 1 OR ?)")

	// sqlGiveBack, sqlCancelReserved and sqlExpireReserved end claims of what was not entered.
	sqlGiveBack = update(claimed, task.Queued, "due = "+expiry, notAsked+" AND "+isReserved)
	// sqlCancelReserved has a third parameter in its guard: whether the node says so by itself.
	sqlCancelReserved = changeFrom(claimed, task.Cancelled, left+kept+", outcome = NULL", attemptRuns+" AND "+isReserved+" AND (cancelling = 1 OR ?)")
	sqlExpireReserved = update(claimed, task.Failed, left+keptFailed+expired, notAsked+" AND "+isReserved)
)

// left is what the end of a claim sets of what was not entered, and expired what expiring does. An expired task says until
// when it could have started, which only its row knows.
const (
	left    = "suspect = 0, cancelling = 0, "
	expired = ", outcome = CAST(? || " + expiresText + " || x'0000' AS BLOB), history = CAST(history || ? || " + expiresText + " AS BLOB)"
)

// What is done by hand.
var (
	sqlCancelWaiting = changeFrom([]task.State{task.Scheduled, task.Queued}, task.Cancelled,
		"suspect = 0, "+kept+", outcome = NULL", "id = ?")
	sqlCancelRunning = "UPDATE tasks SET " + marked() + " WHERE state = 3 AND id = ? AND cancelling = 0 RETURNING " + pack.Columns
	// sqlRetryTask keeps the error of a failed task.
	sqlRetryTask = changeFrom([]task.State{task.Done, task.Failed, task.Cancelled}, task.Queued,
		`suspect = 0, failures = 0, crashes = 0, run_at = ?, expires = 0, due = NULL,
		outcome = CASE state WHEN 5 THEN outcome END, progress = NULL`, "id = ? AND NOT EXISTS ("+keyHolder+")")
	sqlRunScheduled = changeFrom([]task.State{task.Scheduled}, task.Queued, "run_at = ?, due = "+expiry, "id = ?")
)

// What time brings about.
var (
	sqlExpireTasks = update([]task.State{task.Scheduled, task.Queued}, task.Failed, keptFailed+expired,
		oldest(late, task.Scheduled, task.Queued))
	sqlPromoteTasks = change(task.Promote, "due = "+expiry, oldest("NOT "+late, task.Scheduled))

	crashed = fmt.Sprintf("(suspect = 1 AND crashes + 1 >= %d)", task.LoneCrashes)
	// sqlReapCancel asks for now before the entry.
	sqlReapCancel = reap(task.Cancelled, " AND NOT "+fmt.Sprintf(lives, "?"), ended+kept+", outcome = NULL",
		oldest("cancelling = 1 AND "+ofNode, task.Running))
	sqlReapCrashed = reap(task.Failed, "", ended+"crashes = crashes + 1, "+keptFailed+", outcome = ?",
		oldest("cancelling = 0 AND "+crashed+" AND "+ofNode, task.Running))
	sqlReapTasks = reap(task.Queued, "", reaped(),
		oldest("cancelling = 0 AND NOT "+crashed+" AND "+ofNode, task.Running))
	// sqlReapLiving takes what a process that lives has let go; it leaves the suspicion as it is, and what was not entered
	// in all as it was. ?2 is now, of oldest.
	sqlReapLiving = update(claimed, task.Queued, "due = "+expiry+", "+history("CASE WHEN "+isReserved+" THEN x'' ELSE ? END"),
		oldest("cancelling = 0 AND "+fmt.Sprintf(lives, "?2")+" AND "+ofNode, task.Running))

	sqlDiscardTasks = "DELETE FROM tasks WHERE " + oldest("1", task.Done, task.Failed, task.Cancelled) +
		" RETURNING " + pack.Columns
	sqlNextDue = soonest()
)

// marked keeps that somebody asked a running task to stop.
func marked() string {
	if fail.Mutant("cancel-without-mark") {
		return "cancelling = 0"
	}
	return "cancelling = 1"
}

// reaped makes a suspect of what ran when its process died, and counts a crash if it was one.
func reaped() string {
	sets := "crashes = crashes + suspect, suspect = 1, due = NULL, unentered = unentered - (" + isReserved + ")"
	if fail.Mutant("crash-counted-as-failure") {
		sets += ", failures = failures + 1"
	}
	return sets
}

// soonest asks when something falls due.
func soonest() string {
	var each []string
	for _, s := range task.States() {
		each = append(each, fmt.Sprintf("SELECT min(due) AS due FROM tasks WHERE state = %d AND due IS NOT NULL",
			pack.StateNumber(s)))
	}
	return "SELECT min(due) FROM (" + strings.Join(each, " UNION ALL ") + ")"
}

// What follows when the clock has been set by ?1 milliseconds: what ends after a span of time ends as much later.
const (
	sqlShiftTasks = `UPDATE tasks SET run_at = CASE WHEN state = 1 AND timed = 0 THEN run_at + ?1 ELSE run_at END,
		expires = CASE WHEN expires > 0 THEN expires + ?1 ELSE 0 END,
		due = CASE WHEN state = 1 THEN min(run_at + CASE timed WHEN 0 THEN ?1 ELSE 0 END,
			CASE WHEN attempt = unentered AND expires > 0 THEN expires + ?1 ELSE 9223372036854775807 END) ELSE due + ?1 END
		WHERE state IN (1, 2, 3) AND due IS NOT NULL AND (state > 1 OR timed = 0 OR expires > 0)`
	sqlShiftNodes = "UPDATE nodes SET seen = seen + ?1, about = json_set(about, '$.since', json_extract(about, '$.since') + ?1)"
)

// sqlTrimTask drops what a history has too much.
const sqlTrimTask = "UPDATE tasks SET history = ? WHERE id = ? AND history = ?"

// Queues and nodes.
const (
	queueColumns  = "number, name, paused, scheduled, queued, running, failed, kept, accepted, finished"
	sqlLoadQueues = "SELECT " + queueColumns + " FROM queues"
	sqlSaveQueue  = "INSERT OR REPLACE INTO queues (" + queueColumns + ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
	sqlDropQueue  = "DELETE FROM queues WHERE number = ?"

	// sqlBeatNode keeps the row of node ?1 at the time ?2. ?3 is JSON about it without the opening brace, to which it adds
	// since when the process has beaten.
	sqlBeatNode = `INSERT INTO nodes (name, seen, about) VALUES (?1, ?2, '{"since":' || ?2 || ',' || ?3)
		ON CONFLICT (name) DO UPDATE SET seen = excluded.seen, about = '{"since":' || coalesce(
			CASE WHEN json_extract(nodes.about, '$.Started') = json_extract(excluded.about, '$.Started')
			THEN json_extract(nodes.about, '$.since') END, excluded.seen) || ',' || ?3`
	sqlForgetNodes = "DELETE FROM nodes WHERE seen <= ?"
	sqlLiveNodes   = "SELECT about, seen FROM nodes WHERE seen > ? ORDER BY name"
)

// sqlListTasks selects tasks, newest first; an empty parameter selects all.
const sqlListTasks = "SELECT " + pack.Columns + ` FROM tasks WHERE (?1 = '' OR id < ?1) AND (?2 = 0 OR lane >> 2 = ?2)
	AND (?3 = 0 OR CASE WHEN state = 3 AND reserved = attempt THEN 2 ELSE state END = ?3) AND (?4 = '' OR action = ?4) AND id >= ?5 ORDER BY id DESC`

// firstIn finds the queued task of a lane with the lowest id: it goes from action to action,
// since the index has them in this order. Its parameter is the lane.
func firstIn(suspect int) string {
	return fmt.Sprintf(`WITH RECURSIVE each(action) AS (
			SELECT min(action) FROM tasks WHERE state = 2 AND suspect = %[1]d AND lane = ?1
			UNION ALL
			SELECT (SELECT min(action) FROM tasks WHERE state = 2 AND suspect = %[1]d AND lane = ?1 AND action > each.action)
			FROM each WHERE each.action IS NOT NULL)
		SELECT min((SELECT min(id) FROM tasks WHERE state = 2 AND suspect = %[1]d AND lane = ?1 AND action = each.action))
		FROM each`, suspect)
}

// nextAction finds the next action after ?2 that tasks of lane ?1 have. The condition is that of an index which has
// the lane and then the action.
func nextAction(condition string) string {
	return "SELECT min(action) FROM tasks WHERE " + condition + " AND lane = ?1 AND action > ?2"
}

// What waits in a lane: from action to action.
var (
	sqlNextQueued    = nextAction("state = 2 AND suspect = 0")
	sqlNextSuspect   = nextAction("state = 2 AND suspect = 1")
	sqlNextScheduled = nextAction("state = 1")
)

// The first queued task of a lane, and the first suspect.
var (
	sqlFirstQueued  = firstIn(0)
	sqlFirstSuspect = firstIn(1)
)

// sqlFirstReserved finds the reserved task of a queue with the lowest id. Its parameter is the queue's number.
const sqlFirstReserved = "SELECT min(id) FROM tasks WHERE state = 3 AND " + isReserved + " AND lane >> 2 = ?"

// What is known of pauses: their version, and the queues.
const (
	sqlRaisePauses = "UPDATE pauses SET version = version + 1 RETURNING version"
	sqlListPaused  = "SELECT version, name FROM pauses LEFT JOIN queues ON paused ORDER BY name"
)

// What a change by filter acts on. Parameters are three states, the number of the queue and the action; 0 and
// an empty action stand for all.
const (
	pickable     = " IN (?1, ?2, ?3) AND (?4 = 0 OR lane >> 2 = ?4) AND (?5 = '' OR action = ?5)"
	sqlPickOpen  = "SELECT " + pack.Columns + " FROM tasks WHERE CASE WHEN state = 3 AND " + isReserved + " THEN 2 ELSE state END" + pickable + " AND cancelling = 0 ORDER BY id"
	sqlPickEnded = "SELECT " + pack.Columns + " FROM tasks WHERE state" + pickable + " AND NOT (state = 6 AND EXISTS (" + keyHolder + ")) ORDER BY " + endedAt + ", id"
)
