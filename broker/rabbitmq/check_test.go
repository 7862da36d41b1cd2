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

// fakeTrial is a server that refuses what it is told to.
type fakeTrial struct {
	refuse map[string]error // by the step
	did    []string
}

func (f *fakeTrial) do(step string) error {
	f.did = append(f.did, step)
	return f.refuse[step]
}

func (f *fakeTrial) lane(context.Context, string) error    { return f.do("lane") }
func (f *fakeTrial) drop(context.Context, string) error    { return f.do("drop") }
func (f *fakeTrial) publish(context.Context, string) error { return f.do("publish") }
func (f *fakeTrial) take(context.Context, string) error    { return f.do("take") }
func (f *fakeTrial) events(context.Context, string) error  { return f.do("events") }

func TestACheckGoesAsFarAsItMay(t *testing.T) {
	t.Parallel()
	refused := fmt.Errorf("x: %w", &lib.Error{Code: lib.AccessRefused, Reason: "access refused", Server: true})
	for name, c := range map[string]struct {
		refuse map[string]error
		did    string // the steps
		told   []string
		full   string
		fails  bool
	}{
		"all is well":     {nil, "lane publish take drop events", nil, "", false},
		"no queue":        {map[string]error{"lane": refused}, "lane events", []string{"declare a queue (configure q): access refused"}, "", false},
		"no right at all": {map[string]error{"lane": refused, "events": refused}, "lane events", []string{"declare a queue", "send events"}, "", false},
		"no events":       {map[string]error{"events": refused}, "lane publish take drop events", []string{"send events"}, "", false},
		"no writing":      {map[string]error{"publish": refused}, "lane publish take drop events", []string{"publish to a queue"}, "", false},
		"no room":         {map[string]error{"publish": &fullError{"low on memory"}}, "lane publish", nil, "low on memory", false},
		"it goes":         {map[string]error{"take": errors.New("EOF")}, "lane publish take", nil, "", true},
		"it is stopped": {map[string]error{"take": &lib.Error{Code: lib.ConnectionForced, Server: true}},
			"lane publish take", nil, "", true},
	} {
		f, r := &fakeTrial{refuse: c.refuse}, Report{}
		err := r.examine(t.Context(), f, "q", "e")
		if did := strings.Join(slices.Compact(f.did), " "); did != c.did || (err != nil) != c.fails || r.Full != c.full || len(r.Refused) != len(c.told) {
			t.Errorf("%s: it did %s, and tells %+v, %v", name, did, r, err)
			continue
		}
		for i, want := range c.told {
			if !strings.HasPrefix(r.Refused[i], want) {
				t.Errorf("%s: it tells %q, want %q", name, r.Refused[i], want)
			}
		}
		if measured := r.RoundTrip > 0; measured != (c.refuse["publish"] == nil && c.refuse["lane"] == nil) {
			t.Errorf("%s: a confirmation took %s", name, r.RoundTrip)
		}
	}
}

// TestACheckOfAServer asks a real one, which has a user with few rights and is short of memory in the end.
func TestACheckOfAServer(t *testing.T) {
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
	left := func() {
		t.Helper()
		if got := server.Control(t, "-q", "list_queues", "name") + server.Control(t, "-q", "list_exchanges", "name"); strings.Contains(got, "doctor") {
			t.Errorf("it leaves behind %s", got)
		}
	}
	r, err := check(server.URL, patience)
	if err != nil || r.Product != "RabbitMQ" || !strings.Contains(r.Version, ".") || r.Full != "" || r.RoundTrip <= 0 || len(r.Refused) > 0 {
		t.Errorf("all is well: %+v, %v", r, err)
	}
	t.Logf("RabbitMQ %s confirms in %s", r.Version, r.RoundTrip)
	left()
	server.Control(t, "-q", "add_user", "shy", "pass")
	if _, err = check(as("shy:pass", ""), patience); !Elsewhere(err) || Unauthorized(err) {
		t.Errorf("a virtual host that it may not enter: %v", err)
	}
	if _, err = check(as("shy:pass", "nowhere"), patience); !Elsewhere(err) {
		t.Errorf("a virtual host that is not there: %v", err)
	}
	if _, err = check(as("shy:fail", ""), patience); !Unauthorized(err) || strings.Contains(err.Error(), "fail@") {
		t.Errorf("a wrong password: %v", err)
	}
	server.Control(t, "-q", "set_permissions", "shy", `^(posta|amq\.gen).*`, `^(posta|amq\.gen).*`, `^posta\.events.*`)
	r, err = check(as("shy:pass", ""), patience)
	if told := strings.Join(r.Refused, "\n"); err != nil || !strings.Contains(told, "publish to a queue") || !strings.Contains(told, "amq.default") ||
		!strings.Contains(told, "consume from a queue") || !strings.Contains(told, "send events") || strings.Contains(told, "declare") {
		t.Errorf("few rights: %v, it tells\n%s", err, told)
	}
	left()
	server.Control(t, "-q", "set_vm_memory_high_watermark", "0.00000001")
	testenv.Eventually(t, patience, func() error { // it notices within a moment
		if r, err = check(server.URL, patience); err != nil || !strings.Contains(r.Full, "low on memory") {
			return fmt.Errorf("short of memory: %+v, %w", r, err)
		}
		return nil
	})
	left()
	resume := server.Pause()
	defer resume()
	began := time.Now()
	if _, err = check(server.URL, time.Second); err == nil || time.Since(began) > patience/2 {
		t.Errorf("a server that hangs: %v after %s", err, time.Since(began))
	}
}
