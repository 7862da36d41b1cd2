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

// answering returns a system whose HTTP requests handle answers. The doctor's clock is ahead by so much.
func answering(t *testing.T, ahead time.Duration, handle http.HandlerFunc) System {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	return System{Web: server.Client(), Base: server.URL, Version: "1", Now: func() time.Time { return time.Now().Add(ahead) }}
}

// runCheck runs one check of a system.
func runCheck(t *testing.T, s System, part string) []Finding {
	t.Helper()
	for _, c := range (Subject{System: s}).checks() {
		if c.part == part && c.needs != "" {
			return run(t.Context(), []check{c})
		}
	}
	t.Fatalf("there is no check of %s", part)
	return nil
}

func TestANodeThatIsNotReadySaysWhy(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"title":"…","detail":"the node is draining","code":"draining"}`: "not ready: the node is draining",
		"<html>": `not ready: 503 Service Unavailable: "<html>"`,
	} {
		s := answering(t, 0, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte(body))
		})
		if f := runCheck(t, s, "ready")[0]; f.Verdict != Wrong || f.Saw != want || f.Fix == "" || f.Part != "ready" {
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
		f := runCheck(t, s, "clock")[0]
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
		hang := check{"store", "postgres://db", func(ctx context.Context, _ string) []Finding {
			<-ctx.Done()
			return []Finding{fault("", "%s", ctx.Err())}
		}}
		begin := time.Now()
		found := run(t.Context(), []check{hang, hang})
		if len(found) != 2 || time.Since(begin) > time.Minute {
			t.Errorf("found %v after %s", found, time.Since(begin))
		}
	})
}
