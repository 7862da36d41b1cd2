// Package client is the Go client of Posta's line protocol. One Client serves a
// whole program: it is safe for concurrent use, keeps a few connections (since
// balancers spread connections, not tasks), pipelines what its callers ask for, and
// lets requests that wait together leave in one write.
//
//	c, err := client.New(client.Config{Addr: "127.0.0.1:9000"})
//	…
//	defer c.Close()
//	result, err := c.Run(ctx, "upper", "hola")
//
// # What is sent again
//
// A task that runs at once is not kept by any server, so the client decides:
//
//   - A request that was never written to a socket is sent again, on another
//     connection: it cannot have run.
//   - A request that was refused with draining, or with overloaded and a time after
//     which to try again, is sent again after that time, until the caller's context
//     ends: the refusal says that nothing was done.
//   - A request that was written and whose connection ended before its reply may or
//     may not have run. It is sent again, at most three times, only when the caller
//     asked for that (Config.Resend, Request.Resend); otherwise the caller gets an
//     error with the code unknown_outcome.
//
// # Connections
//
// A connection is opened when a request finds none, or finds all of them busy while
// there are fewer than Config.Connections. It carries no task before a ping has been
// answered on it. One that is told goaway gets nothing more: what was not written
// goes elsewhere, its writing side is closed, and the remaining replies are read. So is
// one whose callers have all given up without hearing anything on it.
//
// Errors are of three kinds: *ActionError when the action ran and failed, *task.Error
// (see task.CodeOf) when the request was refused or its outcome is unknown, and
// others for what never reached a server. What is left to others: TLS (Config.Dial),
// and the durable ops. The connections themselves are in client/link.
package client
