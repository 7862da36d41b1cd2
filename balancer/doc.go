// Package balancer spreads the connections of clients over the nodes that are ready, so that
// clients need only one address.
//
// [Nginx] and [HAProxy] print a configuration for those programs. [Balancer] is built in, for
// `posta up` and for machines without either program. All three keep the same promises, and
// one test suite checks them: a new connection goes to the ready node with the fewest open
// connections; if a node does not accept a connection, the next node gets it and the client
// notices nothing; a draining node gets no new connections and keeps its open ones; a
// half-close passes through.
//
// A balancer balances connections, not tasks. It does not look at the bytes, so the line
// protocol, HTTP and TLS all pass. A draining node sends goaway, which makes clients with
// long-lived connections move to another node.
//
// The state of a node follows from health checks with /readyz and from connecting:
//
//	200, Rise times in a row               up         takes new connections
//	503                                    draining   keeps its connections, gets no more
//	a refused connect                      down
//	no valid answer, Fall times in a row   down
//
// At the start all nodes are up. If no node is up, the balancer tries the draining nodes and
// then those that are down, since that is better than refusing the connection.
//
// Of the rest of Posta, this package uses only the path /readyz and the format of a refusal.
package balancer
