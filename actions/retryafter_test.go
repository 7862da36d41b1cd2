package actions_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/posta-tasks/posta/actions"
)

func TestRetryAfterMarksAnErrorWithATime(t *testing.T) {
	t.Parallel()
	busy := errors.New("busy")
	marked := fmt.Errorf("upload: %w", actions.RetryAfter(busy, 30*time.Second))
	if delay, ok := actions.RetryDelay(marked); !ok || delay != 30*time.Second || !errors.Is(marked, busy) || marked.Error() != "upload: busy" {
		t.Errorf("%q has the delay %s (%t)", marked, delay, ok)
	}
	if _, ok := actions.RetryDelay(busy); ok {
		t.Error("an error without a mark has a delay")
	}
	if delay, ok := actions.RetryDelay(actions.RetryAfter(busy, -time.Second)); !ok || delay != 0 {
		t.Errorf("a negative time is %s (%t), want 0", delay, ok)
	}
	if actions.RetryAfter(nil, time.Second) != nil {
		t.Error("nil is an error after all")
	}
}
