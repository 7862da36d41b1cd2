// Package wire is the line protocol as bytes: it parses one line into a Request,
// renders replies, and knows the protocol's own limits. It has no sockets and runs
// nothing.
//
// Parsing is by hand and strict: what is not exactly one JSON text of the interoperable
// kind (no duplicate keys, no lone surrogates, valid UTF-8, nesting of at most 64) is
// refused. Ids, payloads and results stay the raw bytes that were sent, so that no
// number is ever rounded.
package wire
