package store

import (
	"bytes"
	"context"
	"slices"

	"github.com/posta-tasks/posta/task"
)

// AddAudit implements Audit.
func (m *Memory) AddAudit(ctx context.Context, entries []task.AuditEntry) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	m.note(entries)
	return nil
}

// note adds entries of the audit.
func (m *Memory) note(entries []task.AuditEntry) {
	for _, e := range entries {
		if e.Bulk != "" {
			same := func(other task.AuditEntry) bool { return other.Bulk == e.Bulk }
			if i := slices.IndexFunc(m.audit, same); i >= 0 {
				m.audit[i].Count += e.Count
				continue
			}
		}
		if e.At.IsZero() {
			e.At = m.now
		}
		m.audited++
		e.Seq, e.At, e.Detail = m.audited, stored(e.At), bytes.Clone(e.Detail)
		m.audit = append(m.audit, e)
	}
	surplus := max(0, len(m.audit)-m.limits.Audit)
	clear(m.audit[:surplus])
	m.audit = m.audit[surplus:]
}

// Audit implements Audit.
func (m *Memory) Audit(ctx context.Context, query AuditQuery) (AuditPage, error) {
	if err := m.lock(ctx); err != nil {
		return AuditPage{}, err
	}
	defer m.mu.Unlock()
	var found []task.AuditEntry
	for _, e := range slices.Backward(m.audit) {
		if query.selects(&e) {
			e.Detail, e.Bulk = bytes.Clone(e.Detail), ""
			found = append(found, e)
		}
		if len(found) > query.Most() {
			break
		}
	}
	return PageOfAudit(query, found), nil
}

func (q AuditQuery) selects(e *task.AuditEntry) bool {
	return (q.Who == "" || q.Who == e.Who) && (q.Verb == "" || q.Verb == e.Verb) && e.Seq < q.Below() &&
		(q.Since.IsZero() || !e.At.Before(q.Since)) && (q.Until.IsZero() || !e.At.After(q.Until))
}

// SweepAudit implements Audit.
func (m *Memory) SweepAudit(ctx context.Context) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	since := m.now.Add(-task.AuditKept)
	m.audit = slices.DeleteFunc(m.audit, func(e task.AuditEntry) bool { return e.At.Before(since) })
	return nil
}
