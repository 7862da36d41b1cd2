// Package posta makes a program that runs your Go functions as tasks.
//
// Posta takes tasks from any client that can write a line of JSON to a socket or send
// an HTTP request, distributes them over worker nodes behind a balancer, runs them in
// a bounded pool, and returns the results. A durable task is stored first, so that it
// survives a crash, and is retried when it fails.
//
// [Main] is the whole program posta, with every verb, flag and log, and with your
// actions instead of the built-in ones:
//
//	func main() { posta.Main(posta.Action("resize", resize)) }
//
// Build it, and run `up` for a balancer and three nodes on one machine, or `node` for
// one node. Every other verb works too, such as `enqueue resize '{"width":100}'`.
//
// [Action] turns a function into an action. It decodes the payload into the function's
// argument and encodes what the function returns. An attempt fails when the function
// returns an error. The function says with [Permanent] or [RetryAfter] what happens
// next, and reports its progress with [Progress].
//
// To run nodes inside a program that has its own main function, use package node. To
// send tasks, use package client. docs/architecture.md lists the packages and
// docs/tour.md follows a task through them.
//
// Other programs may use this package and the packages client, actions, node and task,
// and what gives a node its store: durable.Config and the constructors of stores,
// brokers and blob storage. CHANGELOG.md announces changes to them. Everything else is
// exported for Posta alone and may change without notice.
package posta
