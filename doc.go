// Package posta has no code of its own; it holds the tests of the repository.
//
// Posta takes tasks from any client that can write a line of JSON to a socket,
// distributes them over worker nodes behind a balancer, runs them in a bounded
// pool and answers.
//
// docs/architecture.md lists the packages and the layers. docs/tour.md follows a
// task through them, function by function.
//
// Other programs may use the packages client, actions, node and task, and what
// gives a node its store: durable.Config and the constructors of stores, brokers
// and blob storage. CHANGELOG.md announces changes to them. Everything else is
// exported for Posta alone and may change without notice.
package posta
