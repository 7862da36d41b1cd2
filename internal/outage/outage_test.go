package outage_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/internal/outage"
)

// pass lets time pass in a bubble.
func pass(t *testing.T, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	<-ctx.Done()
}

func TestOneLineAtEachChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		p := outage.Part{Name: "the store", Logger: slog.New(slog.NewTextHandler(&log, nil))}
		p.Answered()
		for range 2 {
			for range 60 {
				p.Failed(errors.New("it refuses connections"))
				p.Answered() // one that was under way
				pass(t, time.Second/2)
			}
			if away, _ := p.State(); !away {
				t.Error("it does not count as away")
			}
			pass(t, time.Second)
			p.Answered()
			p.Answered()
		}
		if away, outages := p.State(); away || outages != 2 {
			t.Errorf("away: %t, %d outages", away, outages)
		}
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(lines) != 4 || !strings.Contains(lines[0], `needs is away" part="the store"`) || !strings.Contains(lines[0], "it refuses connections") ||
			!strings.Contains(lines[1], `needs is back" part="the store"`) || !strings.Contains(lines[1], "ms=31000 refused=60") {
			t.Errorf("the log has\n%s", log.String())
		}
	})
}
