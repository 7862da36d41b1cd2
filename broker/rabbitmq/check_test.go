package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	lib "github.com/rabbitmq/amqp091-go"

	"github.com/posta-tasks/posta/internal/testenv"
)

// fakeProbe is a probe whose steps fail as the test demands.
type fakeProbe struct {
	refuse map[string]error // by step
	did    []string
}

func (f *fakeProbe) do(step string) error {
	f.did = append(f.did, step)
	return f.refuse[step]
}

func (f *fakeProbe) lane(context.Context, string) error    { return f.do("lane") }
func (f *fakeProbe) drop(context.Context, string) error    { return f.do("drop") }
func (f *fakeProbe) publish(context.Context, string) error { return f.do("publish") }
func (f *fakeProbe) take(context.Context, string) error    { return f.do("take") }
func (f *fakeProbe) events(context.Context, string) error  { return f.do("events") }

func TestACheckSkipsTheStepsThatDependOnAFailedOne(t *testing.T) {
	t.Parallel()
	refused := fmt.Errorf("x: %w", &lib.Error{Code: lib.AccessRefused, Reason: "access refused", Server: true})
	for name, c := range map[string]struct {
		refuse map[string]error
		did    string   // the steps
		report []string // the beginnings of Refused
		full   string
		fails  bool
	}{
		"all is well":           {nil, "lane publish take drop events", nil, "", false},
		"no queue":              {map[string]error{"lane": refused}, "lane events", []string{"declare a queue (configure q): access refused"}, "", false},
		"no right at all":       {map[string]error{"lane": refused, "events": refused}, "lane events", []string{"declare a queue", "send events"}, "", false},
		"no events":             {map[string]error{"events": refused}, "lane publish take drop events", []string{"send events"}, "", false},
		"no writing":            {map[string]error{"publish": refused}, "lane publish take drop events", []string{"publish to a queue"}, "", false},
		"no space":              {map[string]error{"publish": &fullError{"low on memory"}}, "lane publish", nil, "low on memory", false},
		"the connection breaks": {map[string]error{"take": errors.New("EOF")}, "lane publish take", nil, "", true},
		"the server is stopped": {map[string]error{"take": &lib.Error{Code: lib.ConnectionForced, Server: true}},
			"lane publish take", nil, "", true},
	} {
		f, r := &fakeProbe{refuse: c.refuse}, Report{}
		err := r.examine(t.Context(), f, "q", "e")
		if did := strings.Join(slices.Compact(f.did), " "); did != c.did || (err != nil) != c.fails || r.Full != c.full || len(r.Refused) != len(c.report) {
			t.Errorf("%s: the steps were %s, the report %+v, the error %v", name, did, r, err)
			continue
		}
		for i, want := range c.report {
			if !strings.HasPrefix(r.Refused[i], want) {
				t.Errorf("%s: the report has %q, want %q", name, r.Refused[i], want)
			}
		}
		if measured := r.RoundTrip > 0; measured != (c.refuse["publish"] == nil && c.refuse["lane"] == nil) {
			t.Errorf("%s: the round trip is %s", name, r.RoundTrip)
		}
	}
}

// TestACheckReportsTheProblemsOfARealServer uses a user with few rights, and a server that runs out of
// memory and then hangs.
func TestACheckReportsTheProblemsOfARealServer(t *testing.T) {
	t.Parallel()
	server := testenv.RabbitMQ(t)
	check := func(url string, limit time.Duration) (Report, error) {
		t.Helper()
		w, err := parseURL(url)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		return w.check(ctx, "posta")
	}
	const patience = 2 * time.Minute
	as := func(user, vhost string) string { return "amqp://" + user + "@" + server.Addr() + "/" + vhost }
	wantNothingLeft := func() {
		t.Helper()
		if got := server.Control(t, "-q", "list_queues", "name") + server.Control(t, "-q", "list_exchanges", "name"); strings.Contains(got, "doctor") {
			t.Errorf("the check left %s", got)
		}
	}
	r, err := check(server.URL, patience)
	if err != nil || r.Product != "RabbitMQ" || !strings.Contains(r.Version, ".") || r.Full != "" || r.RoundTrip <= 0 || len(r.Refused) > 0 {
		t.Errorf("a healthy server: %+v, %v", r, err)
	}
	t.Logf("RabbitMQ %s confirms in %s", r.Version, r.RoundTrip)
	wantNothingLeft()
	server.Control(t, "-q", "add_user", "limited", "pass")
	if _, err = check(as("limited:pass", ""), patience); !WrongVHost(err) || Unauthorized(err) {
		t.Errorf("a forbidden virtual host: %v", err)
	}
	if _, err = check(as("limited:pass", "nowhere"), patience); !WrongVHost(err) {
		t.Errorf("an unknown virtual host: %v", err)
	}
	if _, err = check(as("limited:fail", ""), patience); !Unauthorized(err) || strings.Contains(err.Error(), "fail@") {
		t.Errorf("a wrong password: %v", err)
	}
	server.Control(t, "-q", "set_permissions", "limited", `^(posta|amq\.gen).*`, `^(posta|amq\.gen).*`, `^posta\.events.*`)
	r, err = check(as("limited:pass", ""), patience)
	if report := strings.Join(r.Refused, "\n"); err != nil || !strings.Contains(report, "publish to a queue") || !strings.Contains(report, "amq.default") ||
		!strings.Contains(report, "consume from a queue") || !strings.Contains(report, "send events") || strings.Contains(report, "declare") {
		t.Errorf("few rights: %v, the report is\n%s", err, report)
	}
	wantNothingLeft()
	server.Control(t, "-q", "set_vm_memory_high_watermark", "0.00000001")
	testenv.Eventually(t, patience, func() error { // the server raises the alarm after a moment
		if r, err = check(server.URL, patience); err != nil || !strings.Contains(r.Full, "low on memory") {
			return fmt.Errorf("short of memory: %+v, %w", r, err)
		}
		return nil
	})
	wantNothingLeft()
	resume := server.Pause()
	defer resume()
	began := time.Now()
	if _, err = check(server.URL, time.Second); err == nil || time.Since(began) > patience/2 {
		t.Errorf("a server that hangs: %v after %s", err, time.Since(began))
	}
}
