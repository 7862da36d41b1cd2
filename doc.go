// Package posta is the map of the repository; it has no code of its own. Posta
// takes tasks from any client that can write a line of JSON to a socket, spreads
// them over worker nodes behind a balancer, runs them in a bounded pool and
// answers.
//
// A task travels through these rooms, one folder each:
//
//	client     sends it: the Go client, or anything that can open a socket
//	balancer   passes the connection on to the node that has the fewest
//	node       opens the port, and sees from the first byte which door is meant
//	lineapi    the door for JSON lines
//	           lineapi/answers gives the replies to durable ops
//	httpapi    the door for HTTP
//	wire       the line protocol as bytes: parse and render
//	           wire/scan reads JSON, strictly, wire/stream while it passes, and
//	           wire/asked says what a request asks for
//	auth       who may come in
//	durable    what makes a task survive, a file per step: accept, claim, run, record, reap;
//	           durable/group lets callers share calls of the store, durable/hands has what
//	           a node holds, durable/ahead what of it has no slot yet, durable/audience those who wait, durable/post what comes
//	           and goes through a broker, durable/rates the rates of queues, durable/bodies
//	           keeps what is too large for a row, durable/orphan deletes what no task has of it
//	executor   runs one action now: under its timeout, panics caught
//	pool       how much may run at once
//	actions    what a node can do: the registry and the built-in actions
//	store      the truth about durable tasks: the contract, and Memory beside it;
//	           store/sqlite keeps it in a file, store/postgres in a database that nodes
//	           share, and store/storetest is the suite that every store passes
//	broker     ids of queued tasks, and events, from node to node: the contract, and
//	           Memory beside it; broker/rabbitmq is for nodes on several machines, and
//	           broker/brokertest is the suite of all
//	blob       large payloads and results: the contract, and Dir beside it;
//	           blob/s3 keeps them in a bucket, and blob/blobtest is the suite of all
//	task       the words that all of them share: refusals, codes, limits, states
//	           internal/fail has the points where tests break a task's path, and
//	           internal/faultproxy is a bad network around it, and
//	           internal/pgproxy one that loses a database's answers
//	cmd/posta  the one binary, a file per verb, and in rooms beneath it what the verbs share:
//	           exit, option, terminal, target (whom they talk to), stream (a file of tasks),
//	           show (durable tasks for people), tasklines (what nodes do), load (the bench),
//	           checkup (what posta doctor finds: checkup/door of a node's port, checkup/backing of
//	           what keeps its tasks), secure (TLS), await (what comes up late)
//
// Beside it stand chaos, which kills nodes under load and checks the promises, bench,
// which measures, and examples.
//
// docs/tour.md walks along that path function by function, docs/architecture.md
// draws which room may import which, and the tests beside this file hold the
// repository to both.
//
// Other programs may build on client, actions, node, task, and what hands a node its
// store: durable.Config and the constructors of stores, brokers and blobs. These change
// with a notice in CHANGELOG.md. The rest is exported for Posta alone and changes without
// one.
package posta
