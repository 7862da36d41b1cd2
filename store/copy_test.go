package store_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// TestAStoreInUseNamesEveryLiveNode has two nodes that send heartbeats, and one that has stopped.
func TestAStoreInUseNamesEveryLiveNode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := store.NewMemory(store.MemoryConfig{})
		beat := func(name string) {
			if err := s.Beat(t.Context(), store.Node{Name: name, PID: len(name)}); err != nil {
				t.Error(err)
			}
		}
		for _, name := range []string{"a", "bb", "gone"} {
			beat(name)
		}
		for delay, name := range map[time.Duration]string{time.Second: "bb", task.LeaseRenew: "a"} {
			time.AfterFunc(delay, func() { beat(name) })
		}
		err := store.WaitUntilUnused(t.Context(), s, func(store.Node) {})
		if !errors.Is(err, store.ErrInUse) || !strings.HasSuffix(err.Error(), ": node a, process 1; node bb, process 2") {
			t.Errorf("the store is in use: %v", err)
		}
	})
}
