// Package link carries requests to a server and their replies back, over a few
// connections that it opens, shares, leaves and replaces. It is the part of the client
// that knows sockets; it knows lines and ids, and nothing of tasks and their results.
//
// A Call is one request. Set.Submit gives it to the connection with the fewest
// unanswered requests, or keeps it in the backlog until one has room. It comes back to
// its Owner exactly once, with its fate; whether it is submitted again is the owner's
// decision.
//
// # The life of a connection
//
//	dial → auth, ping → in use → leaving (goaway, idle) → closed
//	                          └→ broken ────────────────↗
//
// Each has two goroutines. The writer sends whatever waits in one write: requests
// that are made while a write runs share the next. The reader hands replies to calls,
// and ends the connection when it is over.
package link
