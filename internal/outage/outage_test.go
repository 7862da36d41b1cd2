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

// sleep advances the clock of a bubble.
func sleep(t *testing.T, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	<-ctx.Done()
}

func TestAnOutageThatCallsNoticeIsLoggedWhenItBeginsAndEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		p := outage.Part{Name: "the store", Logger: slog.New(slog.NewTextHandler(&log, nil))}
		p.Answered()
		for range 2 {
			for range 60 {
				p.Failed(errors.New("it refuses connections"))
				p.Answered() // a call that began before the outage
				sleep(t, time.Second/2)
			}
			wantState(t, &p, true, -1)
			sleep(t, time.Second)
			p.Answered()
			p.Answered()
		}
		wantState(t, &p, false, 2)
		wantLines(t, log.String(),
			`needs is away" part="the store" error="it refuses connections"`, `needs is back" part="the store" ms=31000 refused=60`,
			`needs is away" part="the store" error="it refuses connections"`, `needs is back" part="the store" ms=31000 refused=60`)
	})
}

func TestAnOutageOfConnectionsLastsUntilAllWork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		p := outage.Part{Name: "the broker", Logger: slog.New(slog.NewTextHandler(&log, nil))}
		p.Up("publishing")
		p.Down("publishing", errors.New("connection reset"))
		p.Down("consuming", errors.New("connection reset"))
		p.Down("publishing", errors.New("connection refused"))
		p.Refused()
		sleep(t, time.Minute)
		p.Up("publishing")
		wantState(t, &p, true, 1)
		p.Up("consuming")
		wantState(t, &p, false, 1)
		wantLines(t, log.String(),
			`needs is away" part="the broker" error="connection reset" connection=publishing`, `needs is back" part="the broker" ms=60000 refused=1`)
	})
}

// wantState checks whether the part is away, and the number of outages unless it is -1.
func wantState(t *testing.T, p *outage.Part, away bool, outages int64) {
	t.Helper()
	if gotAway, got := p.State(); gotAway != away || outages >= 0 && got != outages {
		t.Errorf("away: %t with %d outages, want %t with %d", gotAway, got, away, outages)
	}
}

// wantLines checks that each line of a log contains a text.
func wantLines(t *testing.T, log string, want ...string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(log), "\n")
	if len(lines) != len(want) {
		t.Fatalf("the log has %d lines, want %d:\n%s", len(lines), len(want), log)
	}
	for i, line := range lines {
		if !strings.Contains(line, want[i]) {
			t.Errorf("line %d of the log is\n%s\nwant\n%s", i+1, line, want[i])
		}
	}
}
