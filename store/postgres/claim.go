package postgres

import (
	"context"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/task"
)

// Parameters that all claims have: $1 to $4 say which queues, $5 which actions, and then come
// the node, its entry and the lease.
const (
	// rooms says how many tasks a claim may take of each queue.
	rooms = `rooms AS MATERIALIZED (SELECT q.number AS queue, least(coalesce(n.room, $3::int), $4::int) AS room
		FROM queues q LEFT JOIN unnest($1::text[], $2::int[]) AS n(name, room) ON n.name = q.name
		WHERE NOT q.paused AND coalesce(n.room, $3::int) > 0)`
	// alone holds when no suspect runs on the node.
	alone = "NOT EXISTS (SELECT FROM tasks r WHERE r.state = 3 AND r.suspect AND r.node = $6)"
	// chosen are those of the candidates that the claim may have by queue and limit, in their order.
	chosen = `placed AS (SELECT *, row_number() OVER (PARTITION BY queue ORDER BY slot) AS place FROM candidates),
		locked AS MATERIALIZED (SELECT *, row_number() OVER (ORDER BY slot) AS ord FROM placed WHERE place <= room
			ORDER BY slot LIMIT $4)`
)

// claimed is what becomes of a claimed task.
func claimed() sets {
	return sets{
		"state": "3::smallint", "attempt": "l.attempt + 1", "node": "$6::text", "lease": at + " + $9",
		"due": "NULL::bigint", "progress": "NULL::bytea",
	}.entry("$7::bytea", "$8::bytea")
}

// claimNamed claims tasks by id, in the order of the ids. $10 has them.
func claimNamed(suspicion string) string {
	return change(rooms+`, asked AS MATERIALIZED (SELECT asked, min(slot) AS slot
			FROM unnest($10::text[]) WITH ORDINALITY AS a(asked, slot) GROUP BY asked),
		candidates AS MATERIALIZED (SELECT t.*, a.slot, r.room FROM clock, asked a JOIN tasks t ON t.id = a.asked JOIN rooms r ON r.queue = t.queue
			WHERE t.state = 2 AND `+suspicion+` AND t.action = ANY($5::text[]) AND NOT `+late+`
			ORDER BY t.id FOR UPDATE OF t SKIP LOCKED), `+chosen, claimed(), ", payload")
}

// claimNext claims the next tasks. It looks at the front of each lane, which is a queue, a
// priority and an action, and gives each task there a slot: the turn on which its priority has
// got so far. $10 has the turns of each priority, $11 how many of each.
func claimNext(suspicion string) string {
	return change(rooms+`, lanes AS (SELECT r.queue, r.room, p.priority, a.action
			FROM rooms r, (VALUES (0), (1), (2)) AS p(priority), unnest($5::text[]) AS a(action)),
		fronts AS MATERIALIZED (SELECT x.*, l.room FROM clock, lanes l, LATERAL (SELECT t.* FROM tasks t
			WHERE t.state = 2 AND `+suspicion+` AND t.queue = l.queue AND t.priority = l.priority AND t.action = l.action
			AND NOT `+late+` ORDER BY t.id LIMIT l.room FOR UPDATE SKIP LOCKED) AS x),
		nth AS (SELECT *, row_number() OVER (PARTITION BY priority ORDER BY id) AS nth FROM fronts),
		candidates AS MATERIALIZED (SELECT *, CASE WHEN nth <= $11::int THEN ($10::int[])[priority * $11::int + nth]
			ELSE 1000000 + nth END AS slot FROM nth), `+chosen, claimed(), ", payload")
}

// The four claims: suspicion is no parameter, since each has an index of its own.
var (
	claimTasksNamed    = claimNamed("NOT t.suspect")
	claimSuspectsNamed = claimNamed("t.suspect AND " + alone)
	claimTasksNext     = claimNext("NOT t.suspect")
	claimSuspectsNext  = claimNext("t.suspect AND " + alone)
)

// Claim implements store.Work.
func (s *Store) Claim(ctx context.Context, by store.Claim) ([]task.Task, error) {
	if by.Lone {
		by.Limit = min(by.Limit, 1)
	}
	if by.Limit <= 0 || by.Actions == nil && by.IDs == nil {
		return nil, s.server.Read(ctx, func(context.Context, *pgx.Conn) error { return nil })
	}
	statement, args := s.claimStatement(&by)
	var got []task.Task
	err := s.server.Work(ctx, func(ctx context.Context, c *pgx.Conn) error {
		if by.Lone {
			return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) (err error) {
				// One claim of a node at a time, so that each sees what the other one took.
				if _, err = tx.Exec(ctx, "SELECT pg_advisory_xact_lock('tasks'::regclass::oid::int, hashtext($1))", by.Node); err == nil {
					got, err = claim(ctx, tx.Conn(), statement, args)
				}
				return err
			})
		}
		var err error
		got, err = claim(ctx, c, statement, args)
		return err
	})
	if err != nil {
		return nil, err
	}
	if by.IDs == nil {
		s.turn.Add(int64(len(got)))
	}
	return got, nil
}

func claim(ctx context.Context, c *pgx.Conn, statement string, args []any) ([]task.Task, error) {
	list, err := scanner{entries: 1, payload: true}.all(ctx, c, statement, args...)
	return tasksOf(list, func(*changed) bool { return true }), err
}

// claimStatement gives the statement of a claim and its parameters.
func (s *Store) claimStatement(by *store.Claim) (string, []any) {
	limit := min(by.Limit, maxPage)
	var names []string
	var rooms []int32
	star := limit
	if by.Queues != nil {
		star = by.Queues["*"]
		for name, room := range by.Queues {
			names, rooms = append(names, name), append(rooms, int32(clamp(room)))
		}
	}
	head, tail := pack.StampedEntry(task.Running, by.Node, "")
	args := []any{names, rooms, clamp(star), limit, by.Actions, by.Node, head, tail, task.LeaseTime.Milliseconds()}
	switch {
	case by.IDs != nil && by.Lone:
		return claimSuspectsNamed, append(args, by.IDs)
	case by.IDs != nil:
		return claimTasksNamed, append(args, by.IDs)
	case by.Lone:
		return claimSuspectsNext, append(args, turns(int(s.turn.Load()), limit), limit)
	default:
		return claimTasksNext, append(args, turns(int(s.turn.Load()), limit), limit)
	}
}

func clamp(n int) int { return max(0, min(n, math.MaxInt32)) }

// turns gives, priority by priority, on which turns from now on the first n tasks of it come.
func turns(now, n int) []int32 {
	all := make([]int32, 3*n)
	var filled [3]int
	for turn := 0; slices.Min(filled[:]) < n; turn++ {
		p := store.Turn(now + turn)[0]
		if filled[p] < n {
			all[int(p)*n+filled[p]] = int32(turn)
			filled[p]++
		}
	}
	return all
}
