package sqlite

// This file holds the SQL of the store. Each change of a task is one statement. Its guard lists the states in
// which package task allows the change, and the other conditions of the change.
//
// Parameters are in the order of the text. Numbers on which a query plan depends (0 and 1) are literals.

import (
	"fmt"
	"strings"
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/task"
)

// New tasks.
const (
	sqlAcceptTask = `INSERT INTO tasks (id, state, lane, max_attempts, keep, run_at, expires, due, action, key, spec, payload,
		history, attempt, node, keep_failed, timed, owner, reserved, unentered)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?14, ?14) ON CONFLICT DO NOTHING`
	sqlTaskByID  = "SELECT " + pack.Columns + ", payload FROM tasks WHERE id = ?"
	sqlTaskByKey = "SELECT " + pack.Columns + ", payload FROM tasks WHERE key = ? AND state <> 6"
)

// sqlImportTask writes a row with all its columns.
const sqlImportTask = `INSERT INTO tasks (id, state, lane, suspect, cancelling, attempt, failures, crashes, max_attempts, keep,
	run_at, expires, due, action, key, node, spec, progress, outcome, history, payload, reserved, unentered, keep_failed, timed, owner)
	VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`

// Parts of statements.
const (
	// late is the condition that a task was not entered in time, so that it must not be claimed. Its parameter
	// is now.
	late = "(attempt = unentered AND expires > 0 AND expires <= ?)"
	// expiry is the column due of a queued task.
	expiry = "CASE WHEN attempt = unentered AND expires > 0 THEN expires END"
	// isReserved is the condition that a task was claimed and not entered. The statement must also check the
	// state.
	isReserved = "reserved = attempt"
	// holder packs the node of a task, as a part of an entry of running. The worker comes after it.
	holder = `unhex(CASE WHEN octet_length(node) < 128 THEN printf('%02x', octet_length(node))
		ELSE printf('%02x%02x', octet_length(node) & 127 | 128, octet_length(node) >> 7) END) || CAST(node AS BLOB)`
	// ended sets the columns that every end of an attempt sets. It leaves the column reserved as it is, so that
	// the answer can still tell a reserved task from one that was entered earlier.
	ended = "suspect = 0, cancelling = 0, unentered = unentered - (" + isReserved + "), "
	// takenBack is ended for a release that takes the attempt back. The attempt counts as a claim that was not
	// entered.
	takenBack = "cancelling = 0, unentered = unentered + (reserved <> attempt), "
	// expiryAgain is expiry after takenBack.
	expiryAgain = "CASE WHEN attempt = unentered + (reserved <> attempt) AND expires > 0 THEN expires END"
	// keepUntil sets when a finished task is due to be deleted. Its parameter is now.
	keepUntil = "due = ? + keep"
	// keepFailedUntil is keepUntil for a task that ends failed.
	keepFailedUntil = "due = ? + coalesce(keep_failed, keep)"
	// endedAt is when a finished task ended.
	endedAt = "due - CASE state WHEN 5 THEN coalesce(keep_failed, keep) ELSE keep END"
	// isCurrentClaim is the guard of every report of a node. Its parameters are the id and the fence.
	isCurrentClaim = "id = ? AND attempt = ?"
	// claimOn is isCurrentClaim for a claim that a node must have. Its third parameter is the node.
	claimOn = isCurrentClaim + " AND node = ?"
	// notCancelling is the guard of every end but success: a task that was asked to stop ends cancelled.
	notCancelling = isCurrentClaim + " AND cancelling = 0"
	// hasClaim selects tasks by the node that has them and by action. Its parameters are the name of the node,
	// given twice, and the list of actions, given twice. "" selects every node and every action.
	hasClaim = "(? = '' OR node = ?) AND (? = '' OR instr(?, char(10) || action || char(10)) > 0)"
	// keyHolder finds the task that now has the key of a cancelled task, which is a row of tasks.
	keyHolder = "SELECT 1 FROM tasks AS other WHERE other.key = tasks.key AND other.state <> 6 AND other.id <> tasks.id"
	// expiresText is Expires in the format of time.RFC3339. It has expiresLength characters.
	expiresText   = "strftime('%Y-%m-%dT%H:%M:%SZ', expires/1000, 'unixepoch')"
	expiresLength = len(time.DateTime) + 1
)

// change returns the statement of a change. sets are the columns that it sets beside the state and the history.
// guard is its condition beside the states of task's table. The parameters are those of sets, the entry of the
// history, and those of guard.
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

// changeFrom is change for only some of the states in which the change is allowed.
func changeFrom(from []task.State, to task.State, sets, guard string) string {
	return update(from, to, sets+", "+history("?"), guard)
}

// history appends an expression to the history.
func history(entries string) string { return "history = CAST(history || " + entries + " AS BLOB)" }

// leased are the states of the rows of tasks that a node has claimed. A reserved task has the row of a running
// one.
var leased = []task.State{task.Running}

// end returns the statement of a change that ends an attempt. It has two more parameters before the entry: the
// beginning of the entry that enters the action, and the worker, which are written if the action was not entered
// before.
func end(c task.Change, sets, guard string) string {
	to, _ := c.Apply(task.Running)
	entries := "CASE WHEN " + isReserved + " THEN ? || " + holder + " || ? ELSE x'' END || ?"
	return update(leased, to, sets+", "+history(entries), guard)
}

// reap returns the statement of a change that takes tasks from nodes whose processes have died. The action of a
// reserved task may have been entered since the lease was granted, so the statement enters it. unless is a
// further condition for that.
func reap(to task.State, unless, sets, guard string) string {
	head, _ := pack.StampedEntry(task.Running, "", "")
	entries := fmt.Sprintf("CASE WHEN %s%s THEN x'%x' || unhex(printf('%%016x', due - %d)) || %s || x'00' ELSE x'' END || ?",
		isReserved, unless, head, task.LeaseTime.Milliseconds(), holder)
	return update(leased, to, sets+", "+history(entries), guard)
}

// lives is the condition that the process that was granted a lease is alive. Its parameter is now.
var lives = fmt.Sprintf(`EXISTS (SELECT 1 FROM nodes AS r WHERE r.name = tasks.node AND r.seen > %%s - %d
	AND json_extract(r.about, '$.since') <= tasks.due - %d)`, task.LeaseLively.Milliseconds(), task.LeaseTime.Milliseconds())

// update returns a statement that changes tasks in some states.
func update(from []task.State, to task.State, sets, guard string) string {
	var numbers []string
	for _, s := range from {
		numbers = append(numbers, fmt.Sprint(pack.StateNumber(s)))
	}
	return fmt.Sprintf(`UPDATE tasks SET state = %d, %s WHERE state IN (%s) AND %s RETURNING %s`, pack.StateNumber(to), sets, strings.Join(numbers, ", "), guard, pack.Columns)
}

// longestDue selects, of the tasks in some states that are due and meet a condition, those that have been due
// longest. Its parameters are, for each state, now and those of the condition, and then the limit.
func longestDue(condition string, states ...task.State) string {
	var parts []string
	for _, s := range states {
		parts = append(parts, fmt.Sprintf("SELECT n, due FROM tasks WHERE state = %d AND due <= ? AND %s",
			pack.StateNumber(s), condition))
	}
	return "n IN (SELECT n FROM (" + strings.Join(parts, " UNION ALL ") + " ORDER BY due LIMIT ?))"
}

// Reports of nodes.
const (
	sqlEnterTask = "UPDATE tasks SET reserved = 0, unentered = unentered - 1, history = CAST(history || ? || " + holder +
		" || ? AS BLOB) WHERE state = 3 AND " + isCurrentClaim + " AND " + isReserved + " RETURNING " + pack.Columns
	sqlRenewLease = "UPDATE tasks SET due = ?, progress = coalesce(?, progress) WHERE state = 3 AND " + claimOn + " RETURNING cancelling"
	// sqlAdoptTask changes the node of a claim. It appends a mark to the history of a task whose action was entered,
	// if the node changes. ?1 is the node, ?2 the lease, ?3 the progress and ?4 the mark.
	sqlAdoptTask = "UPDATE tasks SET node = ?1, due = ?2, progress = coalesce(?3, progress), history = CAST(history || " +
		"CASE WHEN node = ?1 OR " + isReserved + " THEN x'' ELSE ?4 END AS BLOB) WHERE state = 3 AND id = ?5 AND attempt = ?6 RETURNING " + pack.Columns
	// sqlSuspectRuns finds a suspect that runs on a node, apart from those that another suspect may run beside.
	sqlSuspectRuns = "SELECT 1 FROM tasks AS other WHERE other.state = 3 AND other.suspect = 1 AND other.node = ? AND instr(?, other.id) = 0"
)

// queuedIn selects the claimable tasks of a lane. Its parameters are the lane, the action, now and the limit.
func queuedIn(suspicion string) string {
	return fmt.Sprintf("SELECT id FROM tasks WHERE state = 2 AND %s AND lane = ? AND action = ? AND NOT %s "+
		"ORDER BY id LIMIT ?", suspicion, late)
}

// claimOf returns a statement that claims tasks. Its parameters are the node, the lease, those of which and of
// suspicion, now, and the actions and the numbers of the queues that may be claimed.
func claimOf(which, suspicion string) string {
	return update([]task.State{task.Queued}, task.Running, "attempt = attempt + 1, unentered = unentered + 1, reserved = attempt + 1, node = ?, due = ?, progress = NULL", which+" AND "+suspicion+
		" AND NOT "+late+" AND instr(?, char(10) || action || char(10)) > 0 AND instr(?, ',' || (lane >> 2) || ',') > 0") +
		", payload"
}

// Finding tasks, claiming them and ending their attempts.
var (
	sqlQueuedTasks       = queuedIn("suspect = 0")
	sqlQueuedSuspects    = queuedIn("suspect = 1 AND crashes = 0")
	sqlQueuedQuarantined = queuedIn("suspect = 1 AND crashes > 0")
	sqlClaimTask         = claimOf("id = ?", "suspect = 0")
	// sqlClaimSuspect has three more parameters: whether quarantined tasks may be claimed, the node, and the
	// suspects that it may run beside.
	sqlClaimSuspect = claimOf("id = ?", "suspect = 1 AND (crashes = 0 OR ?) AND NOT EXISTS ("+sqlSuspectRuns+")")
	// sqlClaimTasks has a JSON array of ids as its parameter. The unary plus keeps SQLite from using the index
	// of queued tasks.
	sqlClaimTasks = claimOf("id IN (SELECT value FROM json_each(?))", "+suspect = 0")

	sqlSucceedTask = end(task.Succeed, ended+keepUntil+", outcome = ?", isCurrentClaim)
	// sqlSucceedReserved has one parameter with both entries.
	sqlSucceedReserved = changeFrom(leased, task.Done, ended+keepUntil+", outcome = ?", isCurrentClaim+" AND "+isReserved)
	sqlFailTask        = end(task.Fail, ended+"failures = failures + 1, "+keepFailedUntil+", outcome = ?", notCancelling)
	sqlTryAgain        = end(task.Again, ended+"failures = failures + 1, run_at = ?, due = ?, timed = 0, outcome = ?",
		notCancelling+" AND failures + 1 < max_attempts")
	sqlReleaseTask = end(task.Release, ended+"due = NULL", notCancelling)
	// sqlPostponeTask has the time twice.
	sqlPostponeTask = end(task.Postpone, ended+"run_at = ?, due = ?, timed = 0", notCancelling)
	// sqlTakeBack and sqlTakeBackLater also take the attempt back. The second one has the time three times.
	sqlTakeBack      = end(task.Release, takenBack+"due = "+expiryAgain, notCancelling)
	sqlTakeBackLater = end(task.Postpone, takenBack+postponed(expiryAgain), notCancelling)
	sqlCrashTask     = end(task.Crash, ended+"crashes = crashes + 1, "+keepFailedUntil+", outcome = ?", notCancelling)
	// sqlEndCancelled has a third parameter in its guard: whether the node says so by itself.
	sqlEndCancelled = end(task.Cancel, ended+keepUntil+", outcome = NULL", isCurrentClaim+" AND (cancelling = 1 OR ?)")

	// sqlGiveBack, sqlGiveBackLater, sqlCancelReserved and sqlExpireReserved end claims of tasks whose action was not entered.
	sqlGiveBack = update(leased, task.Queued, "due = "+expiry, notCancelling+" AND "+isReserved)
	// sqlGiveBackLater has the time three times.
	sqlGiveBackLater = changeFrom(leased, task.Scheduled, postponed(expiry), notCancelling+" AND "+isReserved)
	// sqlCancelReserved has a third parameter in its guard: whether the node says so by itself.
	sqlCancelReserved = changeFrom(leased, task.Cancelled, left+keepUntil+", outcome = NULL", isCurrentClaim+" AND "+isReserved+" AND (cancelling = 1 OR ?)")
	sqlExpireReserved = update(leased, task.Failed, left+keepFailedUntil+expired, notCancelling+" AND "+isReserved+" AND "+late)
)

// postponed sets when a task starts that has not started yet, or expires before that. Its parameter is the time,
// given three times. expiry is the column due of the task if it were queued.
func postponed(expiry string) string {
	return "run_at = ?, due = min(?, coalesce(" + expiry + ", ?)), timed = 0"
}

// left sets the columns that the end of a claim sets if the action was not entered. expired sets those of a
// task that expires: its error contains the time until which it could have started, which only the row knows.
const (
	left    = "suspect = 0, cancelling = 0, "
	expired = ", outcome = CAST(? || " + expiresText + " || x'0000' AS BLOB), history = CAST(history || ? || " + expiresText + " AS BLOB)"
)

// Cancelling and retrying.
var (
	sqlCancelWaiting = changeFrom([]task.State{task.Scheduled, task.Queued}, task.Cancelled,
		"suspect = 0, "+keepUntil+", outcome = NULL", "id = ?")
	sqlCancelRunning = "UPDATE tasks SET cancelling = 1 WHERE state = 3 AND id = ? AND cancelling = 0 RETURNING " + pack.Columns
	// sqlRetryTask keeps the error of a failed task.
	sqlRetryTask = changeFrom([]task.State{task.Done, task.Failed, task.Cancelled}, task.Queued,
		`suspect = 0, failures = 0, crashes = 0, run_at = ?, expires = 0, due = NULL,
		outcome = CASE state WHEN 5 THEN outcome END, progress = NULL`, "id = ? AND NOT EXISTS ("+keyHolder+")")
	sqlRunScheduled = changeFrom([]task.State{task.Scheduled}, task.Queued, "run_at = ?, due = "+expiry, "id = ?")
)

// Maintenance.
var (
	sqlExpireTasks = update([]task.State{task.Scheduled, task.Queued}, task.Failed, keepFailedUntil+expired,
		longestDue(late, task.Scheduled, task.Queued))
	sqlPromoteTasks = change(task.Promote, "due = "+expiry, longestDue("NOT "+late, task.Scheduled))

	crashed = fmt.Sprintf("(suspect = 1 AND crashes + 1 >= %d)", task.MaxCrashes)
	// sqlReapCancel has now as its first parameter, before the entry.
	sqlReapCancel = reap(task.Cancelled, " AND NOT "+fmt.Sprintf(lives, "?"), ended+keepUntil+", outcome = NULL",
		longestDue("cancelling = 1 AND "+hasClaim, task.Running))
	sqlReapCrashed = reap(task.Failed, "", ended+"crashes = crashes + 1, "+keepFailedUntil+", outcome = ?",
		longestDue("cancelling = 0 AND "+crashed+" AND "+hasClaim, task.Running))
	sqlReapTasks = reap(task.Queued, "", reaped,
		longestDue("cancelling = 0 AND NOT "+crashed+" AND "+hasClaim, task.Running))

	// sqlReapCancelOf, sqlReapCrashedOf and sqlReapTaskOf reap one claim of a node whatever its lease. The last
	// parameters are those of claimOn.
	sqlReapCancelOf  = reap(task.Cancelled, "", ended+keepUntil+", outcome = NULL", claimOn+" AND cancelling = 1")
	sqlReapCrashedOf = reap(task.Failed, "", ended+"crashes = crashes + 1, "+keepFailedUntil+", outcome = ?",
		claimOn+" AND cancelling = 0 AND "+crashed)
	sqlReapTaskOf = reap(task.Queued, "", reaped, claimOn+" AND cancelling = 0 AND NOT "+crashed)
	// sqlReapLiving queues the tasks whose leases have ended although their processes are alive. It leaves the
	// suspicion as it is, and gives reserved tasks back unchanged. ?2 is now, from longestDue.
	sqlReapLiving = update(leased, task.Queued, "due = "+expiry+", "+history("CASE WHEN "+isReserved+" THEN x'' ELSE ? END"),
		longestDue("cancelling = 0 AND "+fmt.Sprintf(lives, "?2")+" AND "+hasClaim, task.Running))

	sqlDiscardTasks = "DELETE FROM tasks WHERE " + longestDue("1", task.Done, task.Failed, task.Cancelled) +
		" RETURNING " + pack.Columns
	sqlNextDue = nextDue()
)

// reaped makes a task a suspect because its process died. If it was a suspect already, it counts a crash.
const reaped = "crashes = crashes + suspect, suspect = 1, due = NULL, unentered = unentered - (" + isReserved + ")"

// nextDue returns the statement that finds when the next task is due.
func nextDue() string {
	var each []string
	for _, s := range task.States() {
		each = append(each, fmt.Sprintf("SELECT min(due) AS due FROM tasks WHERE state = %d AND due IS NOT NULL",
			pack.StateNumber(s)))
	}
	return "SELECT min(due) FROM (" + strings.Join(each, " UNION ALL ") + ")"
}

// The changes after the clock was set by ?1 milliseconds: the ends of spans of time move by as much.
const (
	sqlShiftTasks = `UPDATE tasks SET run_at = CASE WHEN state = 1 AND timed = 0 THEN run_at + ?1 ELSE run_at END,
		expires = CASE WHEN expires > 0 THEN expires + ?1 ELSE 0 END,
		due = CASE WHEN state = 1 THEN min(run_at + CASE timed WHEN 0 THEN ?1 ELSE 0 END,
			CASE WHEN attempt = unentered AND expires > 0 THEN expires + ?1 ELSE 9223372036854775807 END) ELSE due + ?1 END
		WHERE state IN (1, 2, 3) AND due IS NOT NULL AND (state > 1 OR timed = 0 OR expires > 0)`
	sqlShiftNodes = "UPDATE nodes SET seen = seen + ?1, about = json_set(about, '$.since', json_extract(about, '$.since') + ?1)"
)

// sqlTrimTask replaces a history that is too long.
const sqlTrimTask = "UPDATE tasks SET history = ? WHERE id = ? AND history = ?"

// Queues and nodes.
const (
	queueColumns  = "number, name, paused, scheduled, queued, running, failed, kept, accepted, finished"
	sqlLoadQueues = "SELECT " + queueColumns + " FROM queues"
	sqlSaveQueue  = "INSERT OR REPLACE INTO queues (" + queueColumns + ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
	sqlDropQueue  = "DELETE FROM queues WHERE number = ?"

	// sqlBeatNode writes the row of node ?1 at the time ?2. ?3 is JSON about the node without the opening
	// brace. The statement adds the time of the first heartbeat of this process.
	sqlBeatNode = `INSERT INTO nodes (name, seen, about) VALUES (?1, ?2, '{"since":' || ?2 || ',' || ?3)
		ON CONFLICT (name) DO UPDATE SET seen = excluded.seen, about = '{"since":' || coalesce(
			CASE WHEN json_extract(nodes.about, '$.Started') = json_extract(excluded.about, '$.Started')
			THEN json_extract(nodes.about, '$.since') END, excluded.seen) || ',' || ?3`
	sqlForgetNodes = "DELETE FROM nodes WHERE seen <= ?"
	sqlLiveNodes   = "SELECT about, seen FROM nodes WHERE seen > ? ORDER BY name"
)

// listing returns the statements that list tasks, newest first, of those that a condition selects, for which there is an
// index. The first parameters of both are the cursor, the owner and the lowest id. list has three more, which select all if
// they are empty: the number of the queue, the state and the action. floor has one more, a number of tasks to pass over: it
// finds the id of the task behind these, and of one more.
func listing(table, condition string) (list, floor string) {
	from := " FROM " + table + " WHERE id < ?1 AND id >= ?3 AND " + condition
	list = "SELECT " + pack.Columns + from + ` AND (?4 = 0 OR lane >> 2 = ?4)
		AND (?5 = 0 OR CASE WHEN state = 3 AND reserved = attempt THEN 2 ELSE state END = ?5) AND (?6 = '' OR action = ?6) ORDER BY id DESC`
	return list, "SELECT id" + from + " ORDER BY id DESC LIMIT 2 OFFSET ?4"
}

// listingFor returns listing for a filter. Few tasks run at a time, so these are sorted.
func listingFor(query *store.Query) (list, floor string) {
	switch {
	case query.Owner != "":
		return listing("tasks", "owner = ?2")
	case query.State == task.Running:
		return listing("tasks INDEXED BY due", "state = 3 AND due IS NOT NULL")
	case query.State == task.Scheduled || query.State == task.Failed || query.State == task.Cancelled:
		return listing("tasks", fmt.Sprintf("state = %d", pack.StateNumber(query.State)))
	}
	return listing("tasks", "1")
}

// firstIn finds the queued task of a lane with the lowest id. It goes from action to action, as the index is
// sorted. Its parameter is the lane.
func firstIn(suspect int) string {
	return fmt.Sprintf(`WITH RECURSIVE each(action) AS (
			SELECT min(action) FROM tasks WHERE state = 2 AND suspect = %[1]d AND lane = ?1
			UNION ALL
			SELECT (SELECT min(action) FROM tasks WHERE state = 2 AND suspect = %[1]d AND lane = ?1 AND action > each.action)
			FROM each WHERE each.action IS NOT NULL)
		SELECT min((SELECT min(id) FROM tasks WHERE state = 2 AND suspect = %[1]d AND lane = ?1 AND action = each.action))
		FROM each`, suspect)
}

// nextAction finds the next action after ?2 that tasks of lane ?1 have. The condition must be that of an index
// on the lane and then the action.
func nextAction(condition string) string {
	return "SELECT min(action) FROM tasks WHERE " + condition + " AND lane = ?1 AND action > ?2"
}

// The next action of the waiting tasks of a lane.
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

// sqlFirstReserved finds the reserved task with the lowest id of each queue. It names the index because SQLite would
// otherwise look for the minimum in the order of the ids, and read all finished tasks on its way.
const sqlFirstReserved = "SELECT lane >> 2, min(id) FROM tasks INDEXED BY due WHERE state = 3 AND due IS NOT NULL AND " + isReserved + " GROUP BY 1"

// The paused queues and their version.
const (
	sqlRaisePauses = "UPDATE pauses SET version = version + 1 RETURNING version"
	sqlListPaused  = "SELECT version, name FROM pauses LEFT JOIN queues ON paused ORDER BY name"
)

// The tasks that a change by filter acts on. The parameters are three states, the number of the queue and the
// action; 0 and "" select all.
const (
	pickable     = " IN (?1, ?2, ?3) AND (?4 = 0 OR lane >> 2 = ?4) AND (?5 = '' OR action = ?5)"
	sqlPickOpen  = "SELECT " + pack.Columns + " FROM tasks WHERE CASE WHEN state = 3 AND " + isReserved + " THEN 2 ELSE state END" + pickable + " AND cancelling = 0 ORDER BY id"
	sqlPickEnded = "SELECT " + pack.Columns + " FROM tasks WHERE state" + pickable + " AND NOT (state = 6 AND EXISTS (" + keyHolder + ")) ORDER BY " + endedAt + ", id"
)
