package service

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"time"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/task"
)

// asClient returns a context for changes of single tasks and queues that a client makes. They are made even if ctx ends.
func asClient(ctx context.Context, who *auth.Identity) context.Context {
	return task.WithAudit(context.WithoutCancel(ctx), task.Audited{Author: who.Author()})
}

// asBulk is asClient for a change of many tasks, which has one entry in the audit.
func asBulk(ctx context.Context, who *auth.Identity, filter json.RawMessage) context.Context {
	return task.WithAudit(context.WithoutCancel(ctx), task.Audited{Author: who.Author(), Bulk: rand.Text(), Filter: filter})
}

// filterOf describes a selection for the audit.
func filterOf(query *durable.Query) json.RawMessage {
	return task.AuditDetail(struct {
		Queue  string            `json:"queue,omitempty"`
		Action string            `json:"action,omitempty"`
		Status task.State        `json:"status,omitempty"`
		Owner  string            `json:"owner,omitempty"`
		Node   string            `json:"node,omitempty"`
		Worker string            `json:"worker,omitempty"`
		Meta   map[string]string `json:"meta,omitempty"`
		Since  time.Time         `json:"since,omitzero"`
		Until  time.Time         `json:"until,omitzero"`
		Fault  string            `json:"fault,omitempty"`
	}{query.Queue, query.Action, query.State, query.Owner, query.Node, query.Worker, query.Meta, query.Since, query.Until, query.Fault})
}

// listOf describes tasks for the audit: the first 100.
func listOf(ids []string) json.RawMessage {
	return task.AuditDetail(struct {
		Tasks []string `json:"tasks"`
	}{ids[:min(len(ids), 100)]})
}

// Audit returns entries of the audit to a client that may read it.
func (s *Service) Audit(ctx context.Context, who *auth.Identity, query durable.AuditQuery) (durable.AuditPage, *task.Error) {
	if refusal := May(who, auth.Audit); refusal != nil {
		return durable.AuditPage{}, refusal
	}
	return s.engine.Audit(ctx, query)
}
