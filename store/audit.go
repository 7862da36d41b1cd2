package store

import (
	"context"
	"math"
	"time"

	"github.com/posta-tasks/posta/task"
)

// Audit has the methods about the audit. Cancel, Retry, Pause, AddKey and RevokeKey write entries themselves, in the
// transaction of their change, if their context has an author (task.WithAudit). What changes nothing has no entry.
//
// A store keeps the newest task.MaxAudit entries, and none for longer than task.AuditKept.
type Audit interface {
	// AddAudit adds entries in their order. An At that is zero becomes now. An entry with the Bulk of an entry that
	// exists adds its Count to that one.
	AddAudit(ctx context.Context, entries []task.AuditEntry) error
	// Audit returns entries, the newest first.
	Audit(ctx context.Context, query AuditQuery) (AuditPage, error)
	// SweepAudit deletes the entries that are older than task.AuditKept.
	SweepAudit(ctx context.Context) error
}

// AuditQuery selects entries; a zero field selects all.
type AuditQuery struct {
	Who          string
	Verb         task.AuditVerb
	Since, Until time.Time // bounds of At, inclusive
	Limit        int       // 1 to 1,000; other values mean the nearest of these
	Before       int64     // only entries with a lower Seq: Next of the page before
}

// MaxAuditPage is the largest number of entries in a page.
const MaxAuditPage = 1_000

// Most returns the limit of the page.
func (q AuditQuery) Most() int { return max(1, min(q.Limit, MaxAuditPage)) }

// Below returns a Seq that is higher than those of the page.
func (q AuditQuery) Below() int64 {
	if q.Before == 0 {
		return math.MaxInt64
	}
	return q.Before
}

// AuditPage is one page of entries. Next is 0 on the last page.
type AuditPage struct {
	Entries []task.AuditEntry
	Next    int64
}

// PageOfAudit returns the page of a query for which a store has found these entries, one more than its limit if there
// are more.
func PageOfAudit(query AuditQuery, found []task.AuditEntry) AuditPage {
	most := query.Most()
	if len(found) <= most {
		return AuditPage{Entries: found}
	}
	return AuditPage{Entries: found[:most], Next: found[most-1].Seq}
}

// AuditOfPause returns the entry for a queue that was paused or resumed.
func AuditOfPause(ctx context.Context, queue string, paused bool) []task.AuditEntry {
	if paused {
		return task.AuditOf(ctx, task.AuditPause, nil, queue)
	}
	return task.AuditOf(ctx, task.AuditResume, nil, queue)
}

// AuditOfKey returns the entry for a key that was made or revoked.
func AuditOfKey(ctx context.Context, verb task.AuditVerb, key *task.AccessKey) []task.AuditEntry {
	detail := task.AuditDetail(struct {
		Name   string   `json:"name"`
		Grants []string `json:"grants"`
	}{key.Name, key.Grants})
	return task.AuditOf(ctx, verb, detail, key.ID)
}
