// Package call is a request of the client on its way: how its line is written, when it is
// sent again, what is said of it when its fate is unknown, and how its owner waits for it
// or follows its lines. It knows neither what the ops mean nor sockets: those are the
// affair of the rooms client and client/link.
package call
