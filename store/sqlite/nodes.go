package sqlite

import (
	"context"
	"database/sql/driver"
	"encoding/json"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/store/sqlite/file"
	"github.com/posta-tasks/posta/task"
)

// Beat implements store.Queues. It also deletes nodes that have sent no heartbeat for task.LeaseTime.
func (s *Store) Beat(ctx context.Context, n store.Node) error {
	about, err := json.Marshal(n)
	if err != nil {
		return task.Refuse(task.Internal, "node %s: %v", n.Name, err)
	}
	return s.write(ctx, func(w *writer) error {
		if _, err := w.Exec(sqlForgetNodes, w.now-task.LeaseTime.Milliseconds()); err != nil {
			return err
		}
		_, err := w.Exec(sqlBeatNode, n.Name, w.now, string(about[1:]))
		return err
	})
}

// Nodes implements store.Queues.
func (s *Store) Nodes(ctx context.Context) ([]store.Node, error) {
	var list []store.Node
	err := s.file.Read(ctx, func(c *file.Conn) error {
		list = nil
		return c.Query(sqlLiveNodes, func(row []driver.Value) error {
			var n store.Node
			about, _ := row[0].(string)
			err := json.Unmarshal([]byte(about), &n)
			n.Seen = pack.Time(pack.Int(row[1]))
			list = append(list, n)
			return err
		}, pack.Millis(s.rowTime())-task.LeaseTime.Milliseconds())
	})
	return list, err
}
