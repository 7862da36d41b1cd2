// Package auth authenticates clients, and decides what each may do.
//
// A token is a secret that a client presents: a line of a token file. A certificate identifies a client, too. Either gives
// an Identity, which has grants. Authorize decides whether the grants of an identity allow a verb on a resource, and what
// no grant allows is denied. The doors decide when a token is needed, how it travels and how a refusal is sent.
package auth

import (
	"crypto/sha256"
	"crypto/subtle"
)

// Tokens is a set of known tokens. It keeps only their digests, so neither a memory dump
// nor a log line can reveal one. It does not change after it was loaded, and is safe for
// concurrent use.
type Tokens struct {
	entries []entry
}

// entry is one line of the token file.
type entry struct {
	digest [sha256.Size]byte
	who    *Identity
	line   int
}

// Check returns the identity of a token; nil if the token is not known. It compares with
// every known token, so its time depends on their number and not on which one matches. It
// keeps nothing of the token.
func (t *Tokens) Check(token []byte) *Identity {
	digest := sha256.Sum256(token)
	found := -1
	for i := range t.entries {
		same := subtle.ConstantTimeCompare(digest[:], t.entries[i].digest[:])
		found = subtle.ConstantTimeSelect(same, i, found)
	}
	if found < 0 {
		return nil
	}
	return t.entries[found].who
}

// Len returns the number of known tokens, 0 for a nil Tokens.
func (t *Tokens) Len() int {
	if t == nil {
		return 0
	}
	return len(t.entries)
}
