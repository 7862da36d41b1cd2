// Package client is the Go client of Posta's line protocol. One Client serves a
// whole program: it is safe for concurrent use, keeps a few connections (since
// balancers spread connections, not tasks), pipelines what its callers ask for, and
// lets requests that wait together leave in one write.
//
//	c, err := client.New(client.Config{Addr: "127.0.0.1:9000"})
//	…
//	defer c.Close()
//	result, err := c.Run(ctx, "upper", "hola")           // now, and answered
//	accepted, err := c.Enqueue(ctx, "upper", "hola", …)  // kept, and worked later
//	record, err := c.Wait(ctx, accepted.Task)
//
// # What is sent again
//
// Nobody but the client knows that a reply got lost, so the client decides:
//
//   - A request that was never written to a socket is sent again, on another
//     connection: it cannot have run.
//   - A request that was refused with draining, or with overloaded and a time after
//     which to try again, is sent again after that time, until the caller's context
//     ends: the refusal says that nothing was done.
//   - A request that was written and whose connection ended before its reply may or
//     may not have run. It is sent again, at most three times, only when the caller
//     asked for that (Config.Resend, Request.Resend), or when doing it twice is doing
//     it once: an Enqueue with a Key, a Cancel, a Pause, a Resume. Otherwise the
//     caller gets an error with the code unknown_outcome.
//   - What only reads (Get, Wait, Watch, List, Queues) is sent again ten times in a
//     row, with growing pauses. A Watch goes on after the last entry that was seen; a
//     Wait lasts as long as its context, through any number of restarts.
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
// others for what never reached a server. TLS is left to others (Config.Dial). A request
// on its way is client/call's, the connections are client/link's.
package client
