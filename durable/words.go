package durable

import (
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// RefuseNoQueue returns the refusal to pause or resume a queue that does not exist, or that the client may not see.
func RefuseNoQueue(name string) *task.Error { return store.NoQueue(name) }

// The doors use these types without importing store.
type (
	// Query selects tasks.
	Query = store.Query
	// Page is a part of a list.
	Page = store.Page
	// AuditQuery selects entries of the audit.
	AuditQuery = store.AuditQuery
	// AuditPage is a part of the audit.
	AuditPage = store.AuditPage
	// Queue is a queue with its counts.
	Queue = task.Queue
	// Bulk is the answer to a change by filter.
	Bulk = task.Bulk
	// Upload is a payload that was stored before its task was accepted.
	Upload = task.Upload
)
