package task

import "time"

// AccessKey is a key with which a client authenticates, as a store keeps it. The secret follows from the master secret of
// the nodes and is not stored. Times are UTC in whole milliseconds.
type AccessKey struct {
	ID      string
	Name    string // for people; not unique
	Grants  []string
	By      string    // who made it
	Created time.Time `json:",omitzero"`
	Used    time.Time `json:",omitzero"` // when it was used last, to the minute; the zero time means never
	Expires time.Time `json:",omitzero"` // the zero time means never
	Revoked time.Time `json:",omitzero"` // the zero time means that it is not revoked
}

// State returns "valid", "expired" or "revoked".
func (k AccessKey) State(now time.Time) string {
	switch {
	case !k.Revoked.IsZero():
		return "revoked"
	case !k.Expires.IsZero() && !now.Before(k.Expires):
		return "expired"
	default:
		return "valid"
	}
}

// MaxAccessKeys is the largest number of keys in a store, including revoked ones. Every node keeps them all in memory.
const MaxAccessKeys = 10_000
