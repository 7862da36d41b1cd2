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
// A node as the balancer sees it:
//
//	     check 200, Rise times         check 503
//	down ─────────────────────→ up ────────────────→ draining
//	  ↑                         │ ↑                   │  │
//	  └─────────────────────────┘ └───────────────────┘  │
//	  │  refused, or Fall failures    check 200, Rise times
//	  └──────────────────────────────────────────────────┘
//	                                refused, or Fall failures
//
// This package knows nothing of the rest of Posta but the path /readyz and how a
// refusal looks.
package balancer
