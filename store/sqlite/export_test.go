package sqlite

import "github.com/posta-tasks/posta/store"

// WindowSize is how many ids of a lane a claim reads at a time.
const WindowSize = windowSize

// Listing returns the statements with which a query is listed.
func Listing(query store.Query) (list, floor string) { return listingFor(&query) }
