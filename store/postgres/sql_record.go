package postgres

// sqlEnterTasks enters actions. $3 is how many milliseconds ago each was entered, and $4 the packed worker.
var sqlEnterTasks = change(`asked AS MATERIALIZED (SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[], $4::bytea[]) WITH ORDINALITY AS a(asked, fence, ago, worker, ord)),
	locked AS MATERIALIZED (SELECT t.*, a.ord, a.ago, a.worker FROM tasks t JOIN asked a ON `+found("t.id", "a.asked")+`
		WHERE `+byID(3)+` AND t.attempt = a.fence AND t.`+isReserved+` ORDER BY a.asked FOR UPDATE OF t)`,
	sets{
		"state": "3::smallint", "reserved": "0", "unentered": "l.unentered - 1", "changed": enteredAt, "history": "l.history || " + begun(enteredAt, "l.worker"),
	}, "")

// sqlRenewLeases changes only columns that no index has.
var sqlRenewLeases = "WITH " + clock + `,
	asked AS MATERIALIZED (SELECT * FROM unnest($1::text[], $2::int[], $3::bytea[]) WITH ORDINALITY AS a(id, attempt, progress, ord)),
	locked AS MATERIALIZED (SELECT t.id, t.attempt, t.cancelling FROM tasks t JOIN asked a ON ` + found("t.id", "a.id") + `
		WHERE ` + byID(3) + ` AND t.attempt = a.attempt AND t.node = $4 ORDER BY a.id FOR UPDATE OF t),
	latest AS (SELECT DISTINCT ON (l.id) l.id, a.progress FROM locked l JOIN asked a ON a.id = l.id AND a.attempt = l.attempt
		ORDER BY l.id, a.progress IS NULL, a.ord DESC),
	renewed AS (UPDATE tasks t SET lease = now + $5, progress = coalesce(n.progress, t.progress)
		FROM latest n, clock WHERE ` + found("t.id", "n.id") + `)
	SELECT DISTINCT a.ord, l.cancelling FROM asked a JOIN locked l ON l.id = a.id AND l.attempt = a.attempt`

// sqlAdoptTasks is sqlRenewLeases for claims of any node. It also changes the node, and appends the mark $6 to the
// history of a task whose action was entered, if the node changes.
var sqlAdoptTasks = "WITH " + clock + `,
	asked AS MATERIALIZED (SELECT * FROM unnest($1::text[], $2::int[], $3::bytea[]) WITH ORDINALITY AS a(id, attempt, progress, ord)),
	locked AS MATERIALIZED (SELECT t.id, t.attempt, t.cancelling FROM tasks t JOIN asked a ON ` + found("t.id", "a.id") + `
		WHERE ` + byID(3) + ` AND t.attempt = a.attempt ORDER BY a.id FOR UPDATE OF t),
	latest AS (SELECT DISTINCT ON (l.id) l.id, a.progress FROM locked l JOIN asked a ON a.id = l.id AND a.attempt = l.attempt
		ORDER BY l.id, a.progress IS NULL, a.ord DESC),
	adopted AS (UPDATE tasks t SET node = $4::text, lease = now + $5, progress = coalesce(n.progress, t.progress),
			history = CASE WHEN t.node = $4::text OR t.reserved = t.attempt THEN t.history ELSE t.history || $6::bytea END
		FROM latest n, clock WHERE ` + found("t.id", "n.id") + `)
	SELECT DISTINCT a.ord, l.cancelling FROM asked a JOIN locked l ON l.id = a.id AND l.attempt = a.attempt`

// The changes that an outcome may ask for, by the numbers that the statement uses.
const (
	doesSucceed = iota
	doesFail
	doesAgain
	doesRelease
	doesCrash
	doesCancel
	doesExpire
	doesPostpone
)

// sqlRecordOutcomes ends attempts. Which change an outcome makes depends on the row: every change but success
// cancels a task that was asked to stop, and the last failure ends the task. The parameters contain a tail with
// the error and one without, and an outcome for another attempt and one for the end. If the action was not
// entered before, the statement enters it first, unless the node never entered it; then giving the claim back
// adds no entry, unless the task is postponed. A release that is uncounted takes the attempt back, which counts from
// then on as a claim that was not entered.
var sqlRecordOutcomes = change(`asked AS MATERIALIZED (SELECT * FROM unnest($1::text[], $2::int[], $3::smallint[], $4::bigint[],
		$5::bytea[], $6::bytea[], $7::bytea[], $10::bigint[], $11::boolean[], $12::boolean[], $13::bytea[]) WITH ORDINALITY
			AS a(asked, asked_attempt, ask, again_in, why, result, again, ago, never, uncounted, worker, ord)),
	running AS MATERIALIZED (SELECT t.*, a.* FROM tasks t JOIN asked a ON `+found("t.id", "a.asked")+`
		WHERE `+byID(3)+` AND t.attempt = a.asked_attempt ORDER BY a.asked FOR UPDATE OF t),
	judged AS MATERIALIZED (SELECT t.*, `+isReserved+` AND NOT never AS begins, CASE
		WHEN ask = 0 THEN 0
		WHEN cancelling OR ask = 5 THEN 5
		WHEN ask = 2 AND failures + 1 >= max_attempts THEN 1
		WHEN ask = 6 AND NOT (`+isReserved+` AND `+late+`) THEN 3
		ELSE ask END AS does FROM running t, clock),
	locked AS MATERIALIZED (SELECT j.*, does = 3 AND never AND `+isReserved+` AS silent,
		does IN (3, 7) AND (uncounted OR never AND `+isReserved+`) AS innocent,
		(does IN (3, 7) AND uncounted AND NOT (never AND `+isReserved+`))::int AS taken_back FROM judged j)`,
	sets{
		"state":    "(ARRAY[4, 5, 1, 2, 5, 6, 5, 1])[does + 1]::smallint",
		"failures": "l.failures + (does IN (1, 2))::int",
		"crashes":  "l.crashes + (does = 4)::int",
		"run_at":   "CASE WHEN does IN (2, 7) THEN " + at + " + again_in ELSE l.run_at END",
		"outcome":  "CASE does WHEN 5 THEN NULL WHEN 3 THEN l.outcome WHEN 7 THEN l.outcome WHEN 2 THEN again WHEN 6 THEN result || " + expiresText + ` || '\x0000'::bytea ELSE result END`,
	}.ended().with("due", "CASE does WHEN 2 THEN "+at+" + again_in WHEN 3 THEN "+expiryAfter+" WHEN 7 THEN least("+at+" + again_in, "+expiryAfter+") END").
		with("suspect", "innocent AND l.suspect").
		begins(enteredAt, "l.worker", "($8::bytea[])[does + 1]", "CASE WHEN does IN (1, 2, 4) OR taken_back = 1 THEN why WHEN does = 6 THEN why || "+expiresText+" ELSE $9::bytea END").
		with("unentered", unenteredAfter), "")

// unenteredAfter is the column unentered of a task that was given back, and expiryAfter its column due if it is
// queued.
const (
	unenteredAfter = "l.unentered - begins::int + taken_back"
	expiryAfter    = "CASE WHEN l.attempt = " + unenteredAfter + " AND l.expires > 0 THEN l.expires END"
)
