package wait_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/internal/wait"
)

func TestASignalIsReceivedOnceHoweverOftenItIsSet(t *testing.T) {
	t.Parallel()
	s := wait.NewSignal()
	s.Set()
	s.Set()
	<-s
	select {
	case <-s:
		t.Error("it was received twice")
	default:
	}
	s.Set()
	s.Clear()
	s.Clear()
	select {
	case <-s:
		t.Error("it was received although it was cleared")
	default:
	}
}

func TestAWaitEndsWithItsTimeItsSignalOrItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		start, signal := time.Now(), wait.NewSignal()
		if !wait.For(ctx, time.Second) || time.Since(start) != time.Second {
			t.Error("a wait did not take its time")
		}
		signal.Set()
		if !wait.ForOr(ctx, time.Hour, signal) || time.Since(start) != time.Second {
			t.Error("a wait did not end with its signal")
		}
		cancel()
		if wait.For(ctx, time.Hour) || wait.ForOr(ctx, time.Hour, signal) || time.Since(start) != time.Second {
			t.Error("a wait did not end with its context")
		}
	})
}
