package postgres

import (
	"context"
	"math"

	"github.com/jackc/pgx/v5"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/postgres/server"
	"github.com/posta-tasks/posta/task"
)

// Claim implements store.Work.
func (s *Store) Claim(ctx context.Context, by store.Claim) ([]task.Task, error) {
	if by.Isolated {
		by.Limit = min(by.Limit, 1)
	}
	if by.Limit <= 0 || by.Actions == nil && by.IDs == nil {
		return nil, s.server.Read(ctx, func(context.Context, *pgx.Conn) error { return nil })
	}
	text, args := s.claimStatement(&by)
	var got []task.Task
	err := s.server.Work(ctx, func(ctx context.Context, c *pgx.Conn) error {
		if by.Isolated {
			return server.Tx(ctx, c, func(tx pgx.Tx) (err error) {
				// The claims of a node run one after the other, so that each sees what the other took.
				if _, err = tx.Exec(ctx, "SELECT pg_advisory_xact_lock('tasks'::regclass::oid::int, hashtext($1))", by.Node); err == nil {
					got, err = claim(ctx, tx.Conn(), text, args)
				}
				return err
			})
		}
		var err error
		got, err = claim(ctx, c, text, args)
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

func claim(ctx context.Context, c *pgx.Conn, text string, args []any) ([]task.Task, error) {
	list, err := scanner{entries: 1, payload: true}.all(ctx, c, text, args...)
	return tasksOf(list, func(*changed) bool { return true }), err
}

// claimStatement returns the statement of a claim and its parameters.
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
	most := make([]int32, len(by.Actions)) // of each action
	for i, action := range by.Actions {
		if n, limited := by.ActionSlots[action]; limited {
			most[i] = int32(clamp(n))
		} else {
			most[i] = int32(limit)
		}
	}
	args := []any{names, rooms, clamp(star), limit, by.Actions, by.Node, task.LeaseTime.Milliseconds(), most}
	named, next := sqlClaimOrdinaryNamed, sqlClaimOrdinaryNext
	switch {
	case by.Isolated && by.Quarantined:
		named, next = sqlClaimAnySuspectNamed, sqlClaimAnySuspectNext
	case by.Isolated:
		named, next = sqlClaimSuspectsNamed, sqlClaimSuspectsNext
	}
	text := next
	if by.IDs != nil {
		text, args = named, append(args, by.IDs)
	} else {
		args = append(args, store.Turns(int(s.turn.Load()), limit), limit)
	}
	if by.Isolated {
		args = append(args, by.Beside)
	}
	return text, args
}

func clamp(n int) int { return max(0, min(n, math.MaxInt32)) }
