// Package faultproxy is a bad network, and a bad server, for tests: it stands between a program and a
// server that it uses.
//
//	program ──→ Link ──→ server          bytes: cut one way or both, slow
//	program ──→ Store ──→ HTTP server    requests: answered with an error, or cut in mid-body
//
// A fault is begun by a method, which gives what ends it. Faults may overlap: a link that is cut twice
// is mended when both have ended.
package faultproxy
