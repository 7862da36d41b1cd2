// Package client is the Go client of Posta's line protocol. One Client serves a whole
// program: it is safe for concurrent use, keeps a few connections (since balancers spread
// connections, not tasks), pipelines requests, and sends requests that wait together in
// one write.
//
//	c, err := client.New(client.Config{Addr: "127.0.0.1:9000"})
//	…
//	defer c.Close()
//	result, err := c.Run(ctx, "upper", "hola")           // runs now and returns the result
//	accepted, err := c.Enqueue(ctx, "upper", "hola", …)  // is stored and runs later
//	record, err := c.Wait(ctx, accepted.Task)
//
// # What is sent again
//
// Only the client knows that a reply was lost, so the client decides what to send again:
//
//   - A request that was never written to a socket cannot have run. It is sent again, on
//     another connection.
//   - A request that was refused with draining, or with overloaded and a time after
//     which to try again, was not carried out. It is sent again after that time, until
//     the caller's context ends.
//   - A request that was written and whose connection ended before its reply may or
//     may not have run. It is sent again, at most three times, if the caller allowed it
//     (Config.Resend, Request.Resend), or if sending it twice does no harm: an Enqueue
//     with a Key, a Cancel, a Pause, a Resume. Otherwise the caller gets an error with the
//     code unknown_outcome.
//   - A request that only reads (Get, Wait, Watch, List, Queues) is sent again up to ten
//     times in a row, with growing pauses. A Watch continues after the last entry that it
//     yielded. A Wait lasts as long as its context, through any number of restarts.
//
// # Connections
//
// The Client opens a connection when a request finds none, or when all are busy and there
// are fewer than Config.Connections. It sends no task on a connection before the server
// has answered a ping there. A connection that receives goaway gets no more requests:
// those not yet written go to another connection, the Client closes its write side and
// reads the remaining replies. The same happens to a connection whose callers have all
// given up without a reply.
//
// # Workers
//
// A Worker runs the actions of this program for nodes: the same values that posta.Main or a
// node takes. It needs no Client.
//
//	err := client.Worker{Addr: "127.0.0.1:9000", Slots: 8, Actions: list}.Run(ctx)
//
// # Errors
//
// There are three kinds of errors: *ActionError if the action ran and failed; *task.Error
// (see task.CodeOf) if the request was refused or its outcome is unknown; and others for
// requests that never reached a server.
package client
