package main

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/actions"
)

// TestCountSaysHowFarItIs calls the action as a node would, without one.
func TestCountSaysHowFarItIs(t *testing.T) {
	t.Parallel()
	var seen []string
	call := &actions.Call{Payload: []byte(`["a","b"]`), OnReport: func(_ float64, message string) { seen = append(seen, message) }}
	got, err := counter{}.count(t.Context(), call)
	if got != 2 || err != nil || !slices.Equal(seen, []string{"a", "b"}) {
		t.Errorf("%v, %v, %v", got, err, seen)
	}
}

func TestCountEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		if _, err := (counter{time.Minute}).count(ctx, &actions.Call{Payload: []byte(`["a","b"]`)}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it ends with %v", err)
		}
	})
}

func TestAMistypedPayloadIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	if _, err := (counter{}).count(t.Context(), &actions.Call{Payload: []byte(`7`)}); !actions.IsPermanent(err) {
		t.Errorf("it ends with %v", err)
	}
}
