// Package wire is the line protocol as bytes. It parses a line into a Request, renders replies, and knows the
// limits of the protocol. It has no sockets and runs nothing.
//
// The parser is strict: it refuses everything but one JSON text with valid UTF-8, without duplicate keys and lone
// surrogates, and with a nesting of at most 64. Ids, payloads and results stay the raw bytes that were sent, so
// that no number is ever rounded.
package wire
