package durable

import (
	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// The doors speak of selections and pages, and need not know stores for that.
type (
	// Query selects tasks.
	Query = store.Query
	// Page is a part of a list.
	Page = store.Page
	// Upload is a payload that was stored before its task was accepted.
	Upload = task.Upload
)
