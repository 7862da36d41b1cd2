// Package balancer stands in front of the nodes: one address for clients, whose
// connections it spreads over all nodes that are ready.
//
// It does so in two ways. [Nginx] and [HAProxy] print a configuration for the
// real programs; [Balancer] is the built-in one, for `posta up` and for those
// who have nothing else at hand. All three give the same promises, and one
// suite of tests holds them to it: new connections go to the ready node with
// the fewest open ones; a connection that a node does not accept goes to the
// next node, so that the client notices nothing; a node that drains gets no new
// connections and keeps its open ones; a half-close passes through.
//
// What is balanced are connections, not tasks: the bytes in them are not looked
// at, so the line protocol, HTTP and TLS all pass. That a long-lived client
// leaves a draining node is the business of the node (goaway) and the client.
//
// A node is what the last looks at it have shown, by /readyz and by connecting:
//
//	200, Rise times in a row             up         takes new connections
//	503                                  draining   keeps those it has, gets no more
//	a refused connect                    down
//	no sensible answer, Fall times       down
//
// At the start all are up. When none is, a connection is offered to those that
// drain and then to those that are down, since that is better than to refuse it.
//
// This package knows nothing of the rest of Posta but the path /readyz and how a
// refusal looks.
package balancer
