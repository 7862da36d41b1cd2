package outage_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/internal/outage"
)

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
				time.Sleep(time.Second / 2)
			}
			if away, _ := p.State(); !away {
				t.Error("it does not count as away")
			}
			time.Sleep(time.Second)
			p.Answered()
			p.Answered()
		}
		if away, outages := p.State(); away || outages != 2 {
			t.Errorf("away: %t, %d outages", away, outages)
		}
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(lines) != 4 || !strings.Contains(lines[0], "the store is away") || !strings.Contains(lines[0], "it refuses connections") ||
			!strings.Contains(lines[1], "the store is back") || !strings.Contains(lines[1], "ms=31000 refused=60") {
			t.Errorf("the log has\n%s", log.String())
		}
	})
}
