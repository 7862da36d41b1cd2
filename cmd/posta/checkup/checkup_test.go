package checkup_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/cmd/posta/checkup"
)

// answering is a system whose HTTP answers are these, seen by a clock that is so much ahead.
func answering(t *testing.T, ahead time.Duration, handle http.HandlerFunc) checkup.System {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	return checkup.System{Web: server.Client(), Base: server.URL, Version: "1", Now: func() time.Time { return time.Now().Add(ahead) }}
}

// look makes the one check.
func look(t *testing.T, s checkup.System, part string) checkup.Finding {
	t.Helper()
	for _, check := range s.Checks() {
		if check.Part == part {
			return checkup.Run(t.Context(), []checkup.Check{check})[0]
		}
	}
	t.Fatalf("there is no check of %s", part)
	return checkup.Finding{}
}

func TestANodeThatIsNotReadyTellsWhy(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"title":"…","detail":"the node is draining","code":"draining"}`: "not ready: the node is draining",
		"<html>": `not ready: 503 Service Unavailable: "<html>"`,
	} {
		s := answering(t, 0, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte(body))
		})
		if f := look(t, s, "ready"); f.Verdict != checkup.Wrong || f.Saw != want || f.Mend == "" || f.Part != "ready" {
			t.Errorf("found %+v, want %q", f, want)
		}
	}
}

func TestClocksThatAreApartAreAWarning(t *testing.T) {
	t.Parallel()
	for ahead, want := range map[time.Duration]checkup.Verdict{
		0: checkup.OK, 2 * time.Hour: checkup.Warning, -2 * time.Hour: checkup.Warning,
	} {
		s := answering(t, ahead, func(http.ResponseWriter, *http.Request) {})
		f := look(t, s, "clock")
		if f.Verdict != want || want == checkup.Warning && !strings.Contains(f.Saw, "h0m") && !strings.Contains(f.Saw, "h59m") {
			t.Errorf("%s ahead: found %+v", ahead, f)
		}
	}
}

func TestAWarningIsNoFault(t *testing.T) {
	t.Parallel()
	found := []checkup.Finding{{Verdict: checkup.OK}, {Part: "clock", Verdict: checkup.Warning, Saw: "apart", Mend: "set it"}}
	if !checkup.Sound(found) || checkup.Sound(append(found, checkup.Finding{Verdict: checkup.Wrong})) {
		t.Error("only what is wrong is a fault")
	}
	var text strings.Builder
	if err := checkup.Print(&text, found, false); err != nil || !strings.Contains(text.String(), "warning  clock  apart\n                → set it\n") {
		t.Errorf("%v, printed:\n%s", err, text.String())
	}
}

func TestAPartThatDoesNotAnswerIsLeftAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hang := checkup.One("store", func(ctx context.Context) checkup.Finding {
			<-ctx.Done()
			return checkup.Fault("", "%s", ctx.Err())
		})
		begin := time.Now()
		found := checkup.Run(t.Context(), []checkup.Check{hang, hang})
		if len(found) != 2 || time.Since(begin) > time.Minute {
			t.Errorf("found %v after %s", found, time.Since(begin))
		}
	})
}
