// Package balancer gives clients one address for all nodes. It spreads their connections
// over the nodes that are ready.
//
// It does so in two ways. [Nginx] and [HAProxy] print a configuration for those programs.
// [Balancer] is built in, for `posta up` and for those who have neither. All three keep
// the same promises, and one test suite checks them: a new connection goes to the ready
// node with the fewest open ones; if a node does not accept a connection, the next node
// gets it and the client notices nothing; a draining node gets no new connections and
// keeps its open ones; a half-close passes through.
//
// A balancer balances connections, not tasks. It does not look at the bytes, so the line
// protocol, HTTP and TLS all pass. Nodes (with goaway) and clients see to it that a
// long-lived client leaves a draining node.
//
// The state of a node follows from /readyz and from connecting:
//
//	200, Rise times in a row               up         takes new connections
//	503                                    draining   keeps its connections, gets no more
//	a refused connect                      down
//	no valid answer, Fall times in a row   down
//
// At the start all nodes are up. If none is, a connection is offered to the draining nodes
// and then to those that are down, since that is better than refusing it.
//
// This package knows nothing of the rest of Posta but the path /readyz and the format of a
// refusal.
package balancer
