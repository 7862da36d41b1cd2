// Package faultproxy simulates a bad network and a bad server for tests. It is a proxy between a program and a
// server that it uses.
//
//	program ──→ Link ──→ server          bytes: cut one way or both, slow
//	program ──→ Store ──→ HTTP server    requests: answered with an error, or cut in mid-body
//
// A method begins a fault and returns a function that ends it. Faults may overlap: a link that was cut twice
// works again when both cuts have ended.
package faultproxy
