package durable

import (
	"context"
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// sweepAuditEvery is how often a process deletes old entries of the audit.
const sweepAuditEvery = time.Hour

// Audit returns entries of the audit, the newest first.
func (e *Engine) Audit(ctx context.Context, query store.AuditQuery) (store.AuditPage, *task.Error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	page, err := e.config.Store.Audit(ctx, query)
	if err != nil {
		return store.AuditPage{}, e.readRefusal(err)
	}
	return page, nil
}

// sweepAudit deletes old entries of the audit, once in sweepAuditEvery. If it fails, the next call tries again.
func (m *maintenance) sweepAudit(ctx context.Context) {
	now := time.Now()
	if now.Sub(m.swept) < sweepAuditEvery || !m.hub.maintains(m) {
		return
	}
	if err := m.config.Store.SweepAudit(ctx); err != nil {
		m.counts.storeAway.Add(1)
		return
	}
	m.swept = now
}
