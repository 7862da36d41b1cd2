package postgres

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/store/pack"
	"github.com/posta-tasks/posta/store/postgres/server"
	"github.com/posta-tasks/posta/task"
)

// The audit.
const (
	sqlAddAudit = `INSERT INTO audit AS a (at, who, name, key, verb, what, detail, count, bulk)
		SELECT CASE at WHEN 0 THEN clock_ms() ELSE at END, who, name, key, verb, what, detail, count, nullif(bulk, '')
		FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[], $9::text[])
			WITH ORDINALITY AS e(at, who, name, key, verb, what, detail, count, bulk, ord) ORDER BY ord
		ON CONFLICT (bulk) WHERE bulk IS NOT NULL DO UPDATE SET count = a.count + excluded.count`
	// sqlCountAudit adds to the entry of a change by filter. An INSERT would use up a number for each part of the change.
	sqlCountAudit = "UPDATE audit SET count = count + $1 WHERE bulk = $2"
	// sqlTrimAudit leaves rows to another transaction that is deleting them.
	sqlTrimAudit = `DELETE FROM audit WHERE seq IN (
		SELECT seq FROM audit WHERE seq <= (SELECT max(seq) FROM audit) - $1 FOR UPDATE SKIP LOCKED)`
	sqlListAudit = `SELECT seq, at, who, name, key, verb, what, detail, count FROM audit WHERE seq < $1 AND ($2 = '' OR who = $2)
		AND ($3 = '' OR verb = $3) AND at >= $4 AND ($5::bigint = 0 OR at <= $5) ORDER BY seq DESC LIMIT $6`
	sqlSweepAudit = "DELETE FROM audit WHERE seq IN (SELECT seq FROM audit WHERE at < clock_ms() - $1 FOR UPDATE SKIP LOCKED)"
)

// AddAudit implements store.Audit.
func (s *Store) AddAudit(ctx context.Context, entries []task.AuditEntry) error {
	return s.server.Work(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return server.Tx(ctx, c, func(tx pgx.Tx) error { return s.note(ctx, tx.Conn(), entries) })
	})
}

// note writes entries of the audit. The caller has begun a transaction.
func (s *Store) note(ctx context.Context, c *pgx.Conn, entries []task.AuditEntry) error {
	if len(entries) == 0 {
		return nil
	}
	if len(entries) == 1 && entries[0].Bulk != "" {
		tag, err := c.Exec(ctx, sqlCountAudit, entries[0].Count, entries[0].Bulk)
		if err != nil || tag.RowsAffected() > 0 {
			return err
		}
	}
	at, counts := make([]int64, len(entries)), make([]int64, len(entries))
	texts := make([][]string, 7)
	for i := range entries {
		e := &entries[i]
		at[i], counts[i] = pack.Millis(e.At), e.Count
		for n, text := range []string{e.Who, e.Name, e.Key, string(e.Verb), e.What, string(e.Detail), e.Bulk} {
			texts[n] = append(texts[n], text)
		}
	}
	_, err := c.Exec(ctx, sqlAddAudit, at, texts[0], texts[1], texts[2], texts[3], texts[4], texts[5], counts, texts[6])
	if err == nil {
		_, err = c.Exec(ctx, sqlTrimAudit, s.limits.Audit)
	}
	return err
}

// audited runs a function whose changes have entries in the audit in a transaction. Others need none.
func audited(ctx context.Context, c *pgx.Conn, do func(c *pgx.Conn) error) error {
	if !task.IsAudited(ctx) {
		return do(c)
	}
	return server.Tx(ctx, c, func(tx pgx.Tx) error { return do(tx.Conn()) })
}

// Audit implements store.Audit.
func (s *Store) Audit(ctx context.Context, query store.AuditQuery) (store.AuditPage, error) {
	var found []task.AuditEntry
	err := s.server.List(ctx, func(ctx context.Context, c *pgx.Conn) error {
		found = nil
		rows, err := c.Query(ctx, sqlListAudit,
			query.Below(), query.Who, string(query.Verb), pack.Millis(query.Since), pack.Millis(query.Until), query.Most()+1)
		if err != nil {
			return err
		}
		var e task.AuditEntry
		var at int64
		var detail string
		_, err = pgx.ForEachRow(rows, []any{&e.Seq, &at, &e.Who, &e.Name, &e.Key, &e.Verb, &e.What, &detail, &e.Count}, func() error {
			e.At, e.Detail = pack.Time(at), nil
			if detail != "" {
				e.Detail = json.RawMessage(detail)
			}
			found = append(found, e)
			return nil
		})
		return err
	})
	if err != nil {
		return store.AuditPage{}, err
	}
	return store.PageOfAudit(query, found), nil
}

// SweepAudit implements store.Audit.
func (s *Store) SweepAudit(ctx context.Context) error {
	return s.server.Work(ctx, func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, sqlSweepAudit, int64(task.AuditKept/time.Millisecond))
		return err
	})
}
