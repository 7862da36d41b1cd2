package durable

import "github.com/posta-tasks/posta/store"

// The doors speak of selections and pages, and need not know stores for that.
type (
	// Query selects tasks.
	Query = store.Query
	// Page is a part of a list.
	Page = store.Page
)
