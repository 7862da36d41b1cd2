// Package auth says who may come in: it reads a file of tokens and checks what a
// client presents against it.
//
// Words: a token is a secret that a client presents, an identity is the name that
// the token file gives to whoever presents it. The doors decide when a token is
// asked for and how it travels; how a refusal is told to the client is theirs
// too. What an identity may do (its scopes) has one answer today: all.
package auth

import (
	"crypto/sha256"
	"crypto/subtle"
)

// Identity is who a client turned out to be.
type Identity struct {
	// Name is the name that the token file gives to the token; it is empty
	// where the door is open. It may be logged, the token never.
	Name string
	// Scopes is what the identity may do: always the one scope "all". It is
	// shared between all answers, so nobody may write to it.
	Scopes []string
}

// Tokens is a set of known tokens. It keeps their digests only, so neither a
// memory dump nor a log line can give one away. It never changes after it was
// loaded and may be used from many goroutines at once.
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

// Check says whose token this is. It compares with every known token, in a time
// that depends on how many there are and not on which one it is, and keeps
// nothing of the token. A nil Tokens means that the door is open: everybody may
// come in, under no name.
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

// Len gives the number of known tokens; of a nil Tokens it is 0.
func (t *Tokens) Len() int {
	if t == nil {
		return 0
	}
	return len(t.entries)
}
