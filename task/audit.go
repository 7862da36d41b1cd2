package task

import (
	"context"
	"encoding/json"
	"slices"
	"time"
)

// The audit says who made a change. Every store keeps it.
const (
	// MaxAudit is how many entries a store keeps. The oldest are deleted first.
	MaxAudit = 100_000
	// AuditKept is how long an entry is kept.
	AuditKept = 90 * 24 * time.Hour
	// MaxAuditDetail is the largest Detail of an entry. A larger one is left out.
	MaxAuditDetail = 4 << 10
)

// AuditVerb is what was done.
type AuditVerb string

// The changes that have an entry.
const (
	AuditCancel    AuditVerb = "cancel"
	AuditRetry     AuditVerb = "retry"
	AuditPause     AuditVerb = "pause"
	AuditResume    AuditVerb = "resume"
	AuditCreateKey AuditVerb = "create_key"
	AuditRevokeKey AuditVerb = "revoke_key"
	AuditMintPass  AuditVerb = "mint_pass"
)

// AuditVerbs returns all verbs.
func AuditVerbs() []AuditVerb {
	return []AuditVerb{AuditCancel, AuditRetry, AuditPause, AuditResume, AuditCreateKey, AuditRevokeKey, AuditMintPass}
}

// Known reports whether there is such a verb.
func (v AuditVerb) Known() bool { return slices.Contains(AuditVerbs(), v) }

// Author is who makes a change.
type Author struct {
	Who  string `json:"who,omitempty"`  // as the owner of a task; "" for a client without a token
	Name string `json:"name,omitempty"` // the name of the key that was used
	Key  string `json:"key,omitempty"`  // the id of the key with which a pass was signed
}

// AuditEntry is an entry of the audit. Times are UTC in whole milliseconds.
type AuditEntry struct {
	Seq int64     `json:"seq"` // higher for later entries; set by the store
	At  time.Time `json:"at"`
	Author
	Verb   AuditVerb       `json:"verb"`
	What   string          `json:"what,omitempty"`   // the task, queue or key, or the subject of the pass; "" for a change by filter
	Detail json.RawMessage `json:"detail,omitempty"` // an object: the filter, or what the key or the pass allows
	Count  int64           `json:"count"`            // how many tasks a change by filter has changed; otherwise 1
	// Bulk is the id of a change by filter, whose calls of the store have one entry together; "" for other changes.
	Bulk string `json:"-"`
}

// AuditDetail returns a value as the Detail of an entry; nil if it is too large.
func AuditDetail(value any) json.RawMessage {
	text, err := json.Marshal(value)
	if err != nil || len(text) > MaxAuditDetail {
		return nil
	}
	return text
}

// Audited says for whom a call makes a change.
type Audited struct {
	Author
	Bulk   string          // as in AuditEntry
	Filter json.RawMessage // Detail of the entry of a change by filter
}

type auditedKey struct{}

// WithAudit returns a context for calls that make changes for a client. The store writes an entry of the audit together
// with each change.
func WithAudit(ctx context.Context, a Audited) context.Context {
	return context.WithValue(ctx, auditedKey{}, a)
}

// AuditOf returns the entries for changes that a call has made: one for each of what, or one for all of a change by
// filter. It returns none for a call of a node for itself.
func AuditOf(ctx context.Context, verb AuditVerb, detail json.RawMessage, what ...string) []AuditEntry {
	a, ok := ctx.Value(auditedKey{}).(Audited)
	if !ok || len(what) == 0 {
		return nil
	}
	if a.Bulk != "" {
		return []AuditEntry{{Author: a.Author, Verb: verb, Detail: a.Filter, Count: int64(len(what)), Bulk: a.Bulk}}
	}
	entries := make([]AuditEntry, len(what))
	for i := range what {
		entries[i] = AuditEntry{Author: a.Author, Verb: verb, What: what[i], Detail: detail, Count: 1}
	}
	return entries
}

// IsAudited reports whether the changes of a call have entries.
func IsAudited(ctx context.Context) bool { return ctx.Value(auditedKey{}) != nil }
