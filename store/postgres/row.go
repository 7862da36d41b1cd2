package postgres

import (
	"context"
	"database/sql/driver"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/task"
)

// slackEntries is how many entries a history may have beyond those that are kept, so that
// it is not written anew for each.
const slackEntries = 64

// changed is a row that a statement has given.
type changed struct {
	task.Task
	ord    int        // place in what was asked for, from 0
	before task.State // the one that the change led away from
}

// scanner reads rows of ord, before, taskColumns and, if payload says so, payload.
type scanner struct {
	entries int  // of the history
	payload bool // is the last column
}

// all reads rows, and trims histories that have become too long.
func (s scanner) all(ctx context.Context, c *pgx.Conn, text string, args ...any) ([]changed, error) {
	rows, err := c.Query(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []changed
	var long []int
	var histories [][]byte
	for rows.Next() {
		one, stored, history, err := s.one(rows)
		if err != nil {
			return nil, err
		}
		if stored > task.HistoryEntries+slackEntries && !one.State.Final() {
			long, histories = append(long, len(list)), append(histories, history)
		}
		list = append(list, one)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	for i, n := range long {
		if err := trim(ctx, c, list[n].ID, histories[i]); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (s scanner) one(rows pgx.Rows) (one changed, stored int, history []byte, err error) {
	var id string
	var ord, before *int64
	var fence int32
	var reserved *string
	var created, counts, runAt, expires int64
	var lease *int64
	var spec, progress, outcome, payload []byte
	into := []any{&ord, &before, &id, &created, &counts, &runAt, &lease, &spec, &progress, &outcome, &history, &fence, &reserved, &expires}
	if s.payload {
		into = append(into, &payload)
	}
	if err := rows.Scan(into...); err != nil {
		return one, 0, nil, err
	}
	row := []driver.Value{id, nil, counts, runAt, value(lease), spec, bytesOrNil(progress), bytesOrNil(outcome), history, int64(fence), nil, expires}
	if reserved != nil {
		row[10] = *reserved
	}
	t, line, err := pack.Row(row, s.entries)
	if err != nil {
		return one, 0, nil, err
	}
	t.CreatedAt, t.Payload.Inline = pack.Time(created), payload
	one = changed{Task: t, ord: int(value(ord)) - 1}
	if n := value(before); n > 0 {
		one.before = task.States()[n-1]
	}
	return one, line.Stored, history, nil
}

func value(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

// bytesOrNil gives a column that may be NULL.
func bytesOrNil(b []byte) driver.Value {
	if b == nil {
		return nil
	}
	return b
}

// trim drops what a history has too much.
func trim(ctx context.Context, c *pgx.Conn, id string, history []byte) error {
	trimmed, err := pack.TrimHistory(history)
	if err == nil {
		_, err = c.Exec(ctx, "UPDATE tasks SET history = $1 WHERE id = $2 AND history = $3", trimmed, id, history)
	}
	return err
}

// rounds splits what was asked for: each id once in a round, in the order in which they were
// asked for, since a statement makes one change of a row.
func rounds(n int, id func(i int) string) [][]int {
	var all [][]int
	seen := map[string]int{}
	for i := range n {
		round := seen[id(i)]
		seen[id(i)]++
		for len(all) <= round {
			all = append(all, nil)
		}
		all[round] = append(all[round], i)
	}
	return all
}

// collect makes a column of what was asked for.
func collect[T, V any](list []T, places []int, value func(t *T) V) []V {
	column := make([]V, 0, len(places))
	for _, i := range places {
		column = append(column, value(&list[i]))
	}
	return column
}

// tasksOf gives the tasks of rows.
func tasksOf(list []changed, which func(c *changed) bool) (tasks []task.Task) {
	for i := range list {
		if which(&list[i]) {
			tasks = append(tasks, list[i].Task)
		}
	}
	return slices.Clip(tasks)
}
