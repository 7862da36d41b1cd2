// Package auth authenticates clients, by tokens and by certificates. It reads a file of
// tokens, and checks what a client presents against it.
//
// A token is a secret that a client presents. An identity is the name that the token file
// gives to it. The doors decide when a token is needed, how it travels and how a refusal is
// sent. What an identity may do (its scopes) has one value today: all.
package auth

import (
	"crypto/sha256"
	"crypto/subtle"
)

// Anonymous is the name of all clients when there are no tokens.
const Anonymous = "anonymous"

// Identity is an authenticated client.
type Identity struct {
	// Name is the name that the token file gives to the token. It is empty if no
	// authentication is needed. It may be logged; the token must not.
	Name string
	// Scopes is what the identity may do: always the one scope "all". All identities
	// share it, so nobody may write to it.
	Scopes []string
}

// Tokens is a set of known tokens. It keeps only their digests, so neither a memory dump
// nor a log line can reveal one. It does not change after it was loaded, and is safe for
// concurrent use.
type Tokens struct {
	entries []entry
	scopes  []string
}

// entry is one line of the token file.
type entry struct {
	digest [sha256.Size]byte
	name   string
	line   int
}

// Check returns the identity of a token, and whether the token is known. It compares with
// every known token, so its time depends on their number and not on which one matches. It
// keeps nothing of the token. A nil Tokens accepts everybody, without a name.
func (t *Tokens) Check(token []byte) (Identity, bool) {
	if t == nil {
		return Identity{Scopes: []string{"all"}}, true
	}
	digest := sha256.Sum256(token)
	found := -1
	for i := range t.entries {
		same := subtle.ConstantTimeCompare(digest[:], t.entries[i].digest[:])
		found = subtle.ConstantTimeSelect(same, i, found)
	}
	if found < 0 {
		return Identity{}, false
	}
	return Identity{Name: t.entries[found].name, Scopes: t.scopes}, true
}

// Len returns the number of known tokens, 0 for a nil Tokens.
func (t *Tokens) Len() int {
	if t == nil {
		return 0
	}
	return len(t.entries)
}
