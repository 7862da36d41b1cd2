package postgres

import (
	"context"
	"database/sql/driver"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/task"
)

// slackEntries is how many entries a history may have beyond task.HistoryEntries, so that it is not rewritten
// after each change.
const slackEntries = 64

// changed is a row that a statement has returned.
type changed struct {
	task.Task
	ord    int        // index of the item of the call, from 0
	before task.State // the state before the change
}

// scanner reads rows of ord, before, taskColumns and, if payload is set, payload.
type scanner struct {
	entries int  // how many entries of the history to return, at most
	payload bool // whether payload is the last column
}

// all runs a statement, reads its rows, and trims histories that have become too long.
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

// bytesOrNil returns a column of bytes; nil is NULL.
func bytesOrNil(b []byte) driver.Value {
	if b == nil {
		return nil
	}
	return b
}

// trim removes the oldest entries of a history that is too long.
func trim(ctx context.Context, c *pgx.Conn, id string, history []byte) error {
	trimmed, err := pack.TrimHistory(history)
	if err == nil {
		_, err = c.Exec(ctx, "UPDATE tasks SET history = $1 WHERE id = $2 AND history = $3", trimmed, id, history)
	}
	return err
}

// rounds splits the items of a call, so that each id occurs only once in a round, in the order of the call. A
// statement can change a row only once.
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

// collect returns a column of the items at some places.
func collect[T, V any](list []T, places []int, value func(t *T) V) []V {
	column := make([]V, 0, len(places))
	for _, i := range places {
		column = append(column, value(&list[i]))
	}
	return column
}

// tasksOf returns the tasks of the rows that which selects.
func tasksOf(list []changed, which func(c *changed) bool) (tasks []task.Task) {
	for i := range list {
		if which(&list[i]) {
			tasks = append(tasks, list[i].Task)
		}
	}
	return slices.Clip(tasks)
}
