package postgres

import "fmt"

// The first parameters of all claims: $1 to $4 are the queues, $5 the actions, $6 the node, $7 the lease, and
// $8 how many tasks of each action.
const (
	// rooms computes how many tasks a claim may take of each queue.
	rooms = `rooms AS MATERIALIZED (SELECT q.number AS queue, least(coalesce(n.room, $3::int), $4::int) AS room
		FROM queues q LEFT JOIN unnest($1::text[], $2::int[]) AS n(name, room) ON n.name = q.name
		WHERE NOT q.paused AND coalesce(n.room, $3::int) > 0),
		actions AS MATERIALIZED (SELECT * FROM unnest($5::text[], $8::int[]) AS a(action, most) WHERE most > 0)`
	// chosen selects the candidates within the limits of the actions, the queues and the claim, in their order.
	chosen = `ranked AS (SELECT *, row_number() OVER (PARTITION BY action ORDER BY slot) AS rank FROM candidates),
		placed AS (SELECT *, row_number() OVER (PARTITION BY queue ORDER BY slot) AS place FROM ranked WHERE rank <= most),
		locked AS MATERIALIZED (SELECT *, row_number() OVER (ORDER BY slot) AS ord FROM placed WHERE place <= room
			ORDER BY slot LIMIT $4)`
)

// claimed sets the columns of a claimed task.
func claimed() sets {
	return sets{
		"state": "3::smallint", "attempt": "l.attempt + 1", "reserved": "l.attempt + 1", "unentered": "l.unentered + 1",
		"node": "$6::text", "lease": at + " + $7", "due": "NULL::bigint", "progress": "NULL::bytea",
	}
}

// claimNamed claims tasks by id, in the order of the ids in $9.
func claimNamed(suspicion string) string {
	return change(rooms+`, asked AS MATERIALIZED (SELECT asked, min(slot) AS slot
			FROM unnest($9::text[]) WITH ORDINALITY AS a(asked, slot) GROUP BY asked),
		candidates AS MATERIALIZED (SELECT t.*, a.slot, r.room, m.most FROM clock, asked a JOIN tasks t ON `+found("t.id", "a.asked")+` JOIN rooms r ON r.queue = t.queue
				JOIN actions m ON m.action = t.action
			WHERE `+byID(2)+` AND `+suspicion+` AND NOT `+late+`
			ORDER BY a.asked FOR UPDATE OF t SKIP LOCKED), `+chosen, claimed(), ", payload")
}

// claimNext claims the next tasks. It reads the front of each lane, which is a queue, a priority and an action,
// and gives each task there a slot: the turn on which it is claimed. $9 has the turns of each priority, $10 the
// number of turns of each.
func claimNext(suspicion string) string {
	return change(rooms+`, lanes AS (SELECT r.queue, r.room, p.priority, a.action, a.most
			FROM rooms r, (VALUES (0), (1), (2)) AS p(priority), actions a),
		fronts AS MATERIALIZED (SELECT x.*, l.room, l.most FROM clock, lanes l, LATERAL (SELECT t.* FROM tasks t
			WHERE t.state = 2 AND `+suspicion+` AND t.queue = l.queue AND t.priority = l.priority AND t.action = l.action
			AND NOT `+late+` ORDER BY t.id LIMIT least(l.room, l.most) FOR UPDATE SKIP LOCKED) AS x),
		nth AS (SELECT *, row_number() OVER (PARTITION BY priority ORDER BY id) AS nth FROM fronts),
		candidates AS MATERIALIZED (SELECT *, CASE WHEN nth <= $10::int THEN ($9::int[])[priority * $10::int + nth]
			ELSE 1000000 + nth END AS slot FROM nth), `+chosen, claimed(), ", payload")
}

// The tasks that claims take. The suspicion is not a parameter, since suspects have an index of their own.
// Claims of suspects have one more parameter, the last: the suspects beside which another one may run.
const (
	ordinary   = "NOT t.suspect"
	anySuspect = "t.suspect AND NOT EXISTS (SELECT FROM tasks r WHERE r.state = 3 AND r.suspect AND r.node = $6 AND r.id <> ALL(coalesce(%s::text[], '{}')))"
	suspects   = anySuspect + " AND t.crashes = 0"
)

// The claims, each one by ids and of the next tasks.
var (
	// sqlClaimOrdinaryNamed and sqlClaimOrdinaryNext take tasks that are not suspects.
	sqlClaimOrdinaryNamed, sqlClaimOrdinaryNext = claimNamed(ordinary), claimNext(ordinary)
	// sqlClaimSuspectsNamed and sqlClaimSuspectsNext take a suspect without a crash.
	sqlClaimSuspectsNamed, sqlClaimSuspectsNext = claimNamed(fmt.Sprintf(suspects, "$10")), claimNext(fmt.Sprintf(suspects, "$11"))
	// sqlClaimAnySuspectNamed and sqlClaimAnySuspectNext also take suspects in quarantine.
	sqlClaimAnySuspectNamed, sqlClaimAnySuspectNext = claimNamed(fmt.Sprintf(anySuspect, "$10")), claimNext(fmt.Sprintf(anySuspect, "$11"))
)
