package storetest

import (
	"bytes"

	"github.com/posta-tasks/posta/store"
)

// secrets is about what the processes with a store share.
func secrets() sentences {
	return sentences{
		"every store has a secret of its own": func(f *fixture) {
			other, _ := f.open(f.T, store.Limits{})
			defer other.Close()
			if len(f.Secret()) < 16 || bytes.Equal(f.Secret(), other.Secret()) {
				f.Errorf("the secrets have %d and %d bytes", len(f.Secret()), len(other.Secret()))
			}
			f.want("again", f.Secret(), f.Secret())
		},
	}
}
