package sqlite

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/store/sqlite/file"
	"github.com/posta-tasks/posta/task"
)

// The audit.
const (
	sqlAddAudit = `INSERT INTO audit (at, who, name, key, verb, what, detail, count, bulk) VALUES (?, ?, ?, ?, ?, ?, ?, ?, nullif(?, ''))`
	// sqlCountAudit adds to the entry of a change by filter. An INSERT would use up a number for each part of the change.
	sqlCountAudit = "UPDATE audit SET count = count + ? WHERE bulk = ?"
	sqlTrimAudit  = "DELETE FROM audit WHERE seq <= (SELECT max(seq) FROM audit) - ?"
	// sqlListAudit has no limits for times that are 0. The unary plus keeps SQLite from using the index of the times.
	sqlListAudit = `SELECT seq, at, who, name, key, verb, what, detail, count FROM audit WHERE seq < ?1 AND (?2 = '' OR who = ?2)
		AND (?3 = '' OR verb = ?3) AND +at >= ?4 AND (?5 = 0 OR +at <= ?5) ORDER BY seq DESC LIMIT ?6`
	sqlSweepAudit = "DELETE FROM audit WHERE at < ?"
)

// AddAudit implements store.Audit.
func (s *Store) AddAudit(ctx context.Context, entries []task.AuditEntry) error {
	return s.write(ctx, func(w *writer) error { return w.note(entries) })
}

// note writes entries of the audit.
func (w *writer) note(entries []task.AuditEntry) error {
	if len(entries) == 0 {
		return nil
	}
	for i := range entries {
		e := &entries[i]
		at := w.now
		if !e.At.IsZero() {
			at = pack.Millis(e.At)
		}
		if e.Bulk != "" {
			if changed, err := w.Exec(sqlCountAudit, e.Count, e.Bulk); err != nil {
				return err
			} else if changed > 0 {
				continue
			}
		}
		_, err := w.Exec(sqlAddAudit, at, e.Who, e.Name, e.Key, string(e.Verb), e.What, string(e.Detail), e.Count, e.Bulk)
		if err != nil {
			return err
		}
	}
	_, err := w.Exec(sqlTrimAudit, int64(w.queues.limits.Audit))
	return err
}

// Audit implements store.Audit.
func (s *Store) Audit(ctx context.Context, query store.AuditQuery) (store.AuditPage, error) {
	var found []task.AuditEntry
	args := []driver.Value{
		query.Below(), query.Who, string(query.Verb), pack.Millis(query.Since), pack.Millis(query.Until), int64(query.Most() + 1),
	}
	err := s.file.Read(ctx, func(c *file.Conn) error {
		found = nil
		return c.Query(sqlListAudit, func(row []driver.Value) error {
			found = append(found, entryOfRow(row))
			return nil
		}, args...)
	})
	if err != nil {
		return store.AuditPage{}, err
	}
	return store.PageOfAudit(query, found), nil
}

func entryOfRow(row []driver.Value) task.AuditEntry {
	text := func(i int) string {
		s, _ := row[i].(string)
		return s
	}
	e := task.AuditEntry{
		Seq: pack.Int(row[0]), At: pack.Time(pack.Int(row[1])), Author: task.Author{Who: text(2), Name: text(3), Key: text(4)},
		Verb: task.AuditVerb(text(5)), What: text(6), Count: pack.Int(row[8]),
	}
	if detail := text(7); detail != "" {
		e.Detail = json.RawMessage(detail)
	}
	return e
}

// SweepAudit implements store.Audit.
func (s *Store) SweepAudit(ctx context.Context) error {
	return s.write(ctx, func(w *writer) error {
		_, err := w.Exec(sqlSweepAudit, w.now-int64(task.AuditKept/time.Millisecond))
		return err
	})
}
