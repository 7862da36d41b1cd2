package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/task"
)

// cancelTasks cancels what waits and marks what runs; the mark is no entry of the history.
var cancelTasks = change(`asked AS MATERIALIZED (SELECT * FROM unnest($1::text[]) WITH ORDINALITY AS a(asked, ord)),
	locked AS MATERIALIZED (SELECT t.*, a.ord FROM tasks t JOIN asked a ON t.id = a.asked
		WHERE `+allowed("t.state", task.Cancel)+` AND NOT t.cancelling ORDER BY t.id FOR UPDATE OF t)`,
	sets{
		"state":      "CASE l.state WHEN 3 THEN l.state ELSE 6 END::smallint",
		"cancelling": "l.state = 3",
		"suspect":    "l.suspect AND l.state = 3",
		"due":        "NULL::bigint",
		"outcome":    "CASE l.state WHEN 3 THEN l.outcome END",
		"changed":    "CASE l.state WHEN 3 THEN l.changed ELSE " + at + " END",
		"history":    "CASE l.state WHEN 3 THEN l.history ELSE l.history || $2::bytea || int8send(" + at + ") || $3::bytea END",
	}, "")

// retryTasks takes finished tasks back.
var retryTasks = "WITH " + clock + `,
	asked AS MATERIALIZED (SELECT * FROM unnest($1::text[]) WITH ORDINALITY AS a(asked, ord)),
	swept AS MATERIALIZED (SELECT * FROM sweep FOR SHARE),
	locked AS MATERIALIZED (SELECT f.*, a.ord FROM finished f JOIN asked a ON f.id = a.asked, swept s
		WHERE NOT ` + gone + ` ORDER BY f.id FOR UPDATE OF f),
	` + sets{
	"state": "2::smallint", "suspect": "false", "cancelling": "false", "failures": "0", "crashes": "0",
	"run_at": at, "expires": "0::bigint", "due": "NULL::bigint", "lease": "NULL::bigint",
	"outcome": "NULL::bytea", "progress": "NULL::bytea",
}.entry("$2::bytea", "$3::bytea").next() + `,
	left_finished AS (DELETE FROM finished f USING locked l WHERE f.bucket = l.bucket AND f.gone = l.gone AND f.id = l.id),
	back AS (INSERT INTO tasks (` + columns + `) SELECT ` + columns + ` FROM next),
	counted AS (` + count("next", "") + `)
	SELECT ord, before, ` + taskColumns + ` FROM next ORDER BY ord`

// Cancel implements store.Tasks.
func (s *Store) Cancel(ctx context.Context, ids []string) ([]store.Changed, error) {
	return s.byHand(ctx, ids, cancelTasks, task.Cancelled)
}

// Retry implements store.Tasks.
func (s *Store) Retry(ctx context.Context, ids []string) ([]store.Changed, error) {
	return s.byHand(ctx, ids, retryTasks, task.Queued)
}

// byHand makes a change that someone asked for.
func (s *Store) byHand(ctx context.Context, ids []string, statement string, to task.State) ([]store.Changed, error) {
	answers := make([]store.Changed, len(ids))
	head, tail := pack.StampedEntry(to, "", "")
	for _, places := range rounds(len(ids), func(i int) string { return ids[i] }) {
		asked := collect(ids, places, func(id *string) string { return *id })
		err := s.finish(ctx, func(ctx context.Context, c *pgx.Conn) error {
			list, err := scanner{entries: 1}.all(ctx, c, statement, asked, head, tail)
			if err != nil {
				return err
			}
			for _, i := range places {
				answers[i] = store.Changed{ID: ids[i]}
			}
			for _, t := range list {
				answers[places[t.ord]] = store.Changed{ID: t.ID, Made: true, Task: t.Task}
			}
			return fillIn(ctx, c, places, func(i int) (string, *task.Task) { return ids[i], &answers[i].Task })
		})
		if err != nil {
			return nil, err
		}
	}
	for i := range answers {
		answers[i].State = answers[i].Task.State
	}
	return answers, nil
}
