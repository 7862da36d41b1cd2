package doctor

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// answering is a system whose HTTP answers are these, seen by a clock that is so much ahead.
func answering(t *testing.T, ahead time.Duration, handle http.HandlerFunc) System {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	return System{Web: server.Client(), Base: server.URL, Version: "1", Now: func() time.Time { return time.Now().Add(ahead) }}
}

// look makes the one check.
func look(t *testing.T, s System, part string) Finding {
	t.Helper()
	for _, check := range s.Checks() {
		if check.Part == part {
			return Run(t.Context(), []Check{check})[0]
		}
	}
	t.Fatalf("there is no check of %s", part)
	return Finding{}
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
		if f := look(t, s, "ready"); f.Verdict != Wrong || f.Saw != want || f.Fix == "" || f.Part != "ready" {
			t.Errorf("found %+v, want %q", f, want)
		}
	}
}

func TestClocksThatAreApartAreAWarning(t *testing.T) {
	t.Parallel()
	for ahead, want := range map[time.Duration]Verdict{
		0: OK, 2 * time.Hour: Warning, -2 * time.Hour: Warning,
	} {
		s := answering(t, ahead, func(http.ResponseWriter, *http.Request) {})
		f := look(t, s, "clock")
		if f.Verdict != want || want == Warning && !strings.Contains(f.Saw, "h0m") && !strings.Contains(f.Saw, "h59m") {
			t.Errorf("%s ahead: found %+v", ahead, f)
		}
	}
}

func TestAWarningIsNoFault(t *testing.T) {
	t.Parallel()
	found := []Finding{{Verdict: OK}, {Part: "clock", Verdict: Warning, Saw: "apart", Fix: "set it"}}
	if !Sound(found) || Sound(append(found, Finding{Verdict: Wrong})) {
		t.Error("only what is wrong is a fault")
	}
	var text strings.Builder
	if err := Print(&text, found, false); err != nil || !strings.Contains(text.String(), "warning  clock  apart\n                → set it\n") {
		t.Errorf("%v, printed:\n%s", err, text.String())
	}
}

func TestAPartThatDoesNotAnswerIsLeftAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hang := One("store", func(ctx context.Context) Finding {
			<-ctx.Done()
			return Fault("", "%s", ctx.Err())
		})
		begin := time.Now()
		found := Run(t.Context(), []Check{hang, hang})
		if len(found) != 2 || time.Since(begin) > time.Minute {
			t.Errorf("found %v after %s", found, time.Since(begin))
		}
	})
}
