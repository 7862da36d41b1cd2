package postgres

import (
	"cmp"
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/task"
)

// Enter implements store.Work.
func (s *Store) Enter(ctx context.Context, entered []store.Entered) ([]store.Recorded, error) {
	answers := make([]store.Recorded, len(entered))
	if len(entered) == 0 {
		return answers, s.server.Read(ctx, func(context.Context, *pgx.Conn) error { return nil })
	}
	for i := range answers {
		answers[i].Stale = true
	}
	for _, places := range rounds(len(entered), func(i int) string { return entered[i].ID }) {
		err := s.server.Work(ctx, func(ctx context.Context, c *pgx.Conn) error {
			args := []any{
				collect(entered, places, func(e *store.Entered) string { return e.ID }),
				collect(entered, places, func(e *store.Entered) int32 { return int32(e.Fence) }),
				collect(entered, places, func(e *store.Entered) int64 { return store.Since(e.At).Milliseconds() }),
				collect(entered, places, func(e *store.Entered) []byte { return pack.Worker(e.Worker, e.Definition) }),
			}
			list, err := scanner{entries: 1}.all(ctx, c, sqlEnterTasks, args...)
			for _, t := range list {
				answers[places[t.ord]] = store.Recorded{Task: t.Task}
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// Renew implements store.Work.
func (s *Store) Renew(ctx context.Context, node string, held []store.Held) ([]store.Renewed, error) {
	return s.renew(ctx, held, sqlRenewLeases, node, task.LeaseTime.Milliseconds())
}

// Adopt implements store.Work.
func (s *Store) Adopt(ctx context.Context, node string, held []store.Held) ([]store.Renewed, error) {
	return s.renew(ctx, held, sqlAdoptTasks, node, task.LeaseTime.Milliseconds(), pack.Adopted(node))
}

// renew runs a statement that extends leases. args are its parameters after the claims and their progress.
func (s *Store) renew(ctx context.Context, held []store.Held, text string, args ...any) ([]store.Renewed, error) {
	answers := make([]store.Renewed, len(held))
	every := allOf(len(held))
	ids := collect(held, every, func(h *store.Held) string { return h.ID })
	fences := collect(held, every, func(h *store.Held) int32 { return int32(h.Fence) })
	progress := collect(held, every, func(h *store.Held) []byte {
		if h.Progress == nil {
			return nil
		}
		return pack.Progress(h.Progress)
	})
	err := s.server.Beat(ctx, func(ctx context.Context, c *pgx.Conn) error {
		for i := range answers {
			answers[i] = store.Renewed{Lost: true}
		}
		if len(held) == 0 {
			return nil
		}
		rows, err := c.Query(ctx, text, append([]any{ids, fences, progress}, args...)...)
		if err != nil {
			return err
		}
		var ord int64
		var cancelling bool
		_, err = pgx.ForEachRow(rows, []any{&ord, &cancelling}, func() error {
			answers[ord-1] = store.Renewed{Cancelling: cancelling}
			return nil
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return answers, nil
}

// allOf returns the indexes of a list of n items.
func allOf(n int) []int {
	places := make([]int, n)
	for i := range places {
		places[i] = i
	}
	return places
}

// Record implements store.Work.
func (s *Store) Record(ctx context.Context, outcomes []store.Outcome) ([]store.Recorded, error) {
	if err := store.Refuse(outcomes); err != nil {
		return nil, err
	}
	answers := make([]store.Recorded, len(outcomes))
	for _, round := range rounds(len(outcomes), func(i int) string { return outcomes[i].ID }) {
		if err := s.record(ctx, outcomes, round, answers); err != nil {
			return nil, err
		}
	}
	if len(outcomes) == 0 {
		return answers, s.server.Read(ctx, func(context.Context, *pgx.Conn) error { return nil })
	}
	return answers, nil
}

// record writes the outcomes with the given indexes.
func (s *Store) record(ctx context.Context, outcomes []store.Outcome, places []int, answers []store.Recorded) error {
	return s.finish(ctx, func(ctx context.Context, c *pgx.Conn) error {
		args := recordArgs(outcomes, places)
		list, err := scanner{entries: 1}.all(ctx, c, sqlRecordOutcomes, args...)
		if err != nil {
			return err
		}
		for _, i := range places {
			answers[i] = store.Recorded{Stale: true}
		}
		for _, t := range list {
			answers[places[t.ord]] = store.Recorded{Task: t.Task}
		}
		return fillIn(ctx, c, places, func(i int) (string, *task.Task) {
			return outcomes[i].ID, &answers[i].Task
		})
	})
}

func recordArgs(outcomes []store.Outcome, places []int) []any {
	ask := map[task.Change]int16{
		task.Succeed: doesSucceed, task.Fail: doesFail, task.Again: doesAgain,
		task.Release: doesRelease, task.Crash: doesCrash, task.Cancel: doesCancel,
		task.Expire: doesExpire,
	}
	var heads [][]byte
	for _, to := range []task.State{task.Done, task.Failed, task.Scheduled, task.Queued, task.Failed, task.Cancelled, task.Failed, task.Scheduled} {
		head, _ := pack.StampedEntry(to, "", "") // in the order of the constants from doesSucceed on
		heads = append(heads, head)
	}
	late, lateOutcome := expired()
	_, back := pack.StampedTakenBack(task.Queued)
	_, silent := pack.StampedEntry(task.Queued, "", "")
	return []any{
		collect(outcomes, places, func(o *store.Outcome) string { return o.ID }),
		collect(outcomes, places, func(o *store.Outcome) int32 { return int32(o.Fence) }),
		collect(outcomes, places, func(o *store.Outcome) int16 {
			if o.Postpones() {
				return doesPostpone
			}
			return ask[o.Change]
		}),
		collect(outcomes, places, func(o *store.Outcome) int64 { return o.Delay.Milliseconds() }),
		collect(outcomes, places, func(o *store.Outcome) []byte {
			if o.Change == task.Expire {
				return late
			}
			if o.TakesBack() {
				return back
			}
			_, tail := pack.StampedEntry(task.Failed, "", o.Error)
			return tail
		}),
		collect(outcomes, places, func(o *store.Outcome) []byte {
			if o.Change == task.Expire {
				return lateOutcome
			}
			return packedEnd(o)
		}),
		collect(outcomes, places, packedAgain),
		heads, silent,
		collect(outcomes, places, func(o *store.Outcome) int64 { return store.Since(o.EnteredAt).Milliseconds() }),
		collect(outcomes, places, func(o *store.Outcome) bool { return o.Unentered }),
		collect(outcomes, places, func(o *store.Outcome) bool { return o.TakesBack() }),
		collect(outcomes, places, func(o *store.Outcome) []byte { return pack.Worker(o.Worker, o.Definition) }),
	}
}

// packedAgain packs the outcome of a failed attempt after which there is another one.
func packedAgain(o *store.Outcome) []byte {
	return pack.Outcome(cmp.Or(o.Code, task.ActionFailed), o.Error, &task.Body{})
}

// packedEnd packs the outcome of the last attempt.
func packedEnd(o *store.Outcome) []byte {
	switch o.Change {
	case task.Succeed:
		return pack.Outcome("", "", &o.Result)
	case task.Crash:
		return pack.Outcome(task.Crashed, o.Error, &task.Body{})
	default:
		return pack.Outcome(cmp.Or(o.Code, task.ActionFailed), o.Error, &task.Body{})
	}
}

// fillIn reads the tasks that a statement did not change.
func fillIn(ctx context.Context, c *pgx.Conn, places []int, place func(i int) (string, *task.Task)) error {
	var ids []string
	var into []*task.Task
	for _, i := range places {
		if id, t := place(i); t.ID == "" {
			ids, into = append(ids, id), append(into, t)
		}
	}
	found, err := find(ctx, c, ids, 1)
	for i := range found {
		*into[i] = found[i]
		into[i].Payload.Inline = nil
	}
	return err
}
