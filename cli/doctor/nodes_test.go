package doctor

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posta-tasks/posta/client"
)

// fakes are nodes behind one address. Each gets a connection in turn.
type fakes struct {
	names    []string
	versions map[string]string
	ahead    map[string]time.Duration
	starts   []string // of the processes, whose metrics are read in turn
	turn     atomic.Int64
	scrapes  atomic.Int64
}

// dial returns a client of the next node.
func (f *fakes) dial(t *testing.T, serving *sync.WaitGroup) (*client.Client, error) {
	t.Helper()
	name := f.names[int(f.turn.Add(1)-1)%len(f.names)]
	return client.New(client.Config{Connections: 1, Dial: func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		serving.Go(func() { f.serve(theirs, name) })
		return ours, nil
	}})
}

// serve answers as a node does.
func (f *fakes) serve(conn net.Conn, name string) {
	defer conn.Close()
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		var request struct {
			ID json.RawMessage
			Op string
		}
		if json.Unmarshal(lines.Bytes(), &request) != nil {
			return
		}
		result := `{"ok":true,"data":"pong"}`
		if request.Op == "info" {
			version := "1"
			if v, ok := f.versions[name]; ok {
				version = v
			}
			result = fmt.Sprintf(`{"ok":true,"node":%q,"version":%q,"time":%q}`, name, version, time.Now().Add(f.ahead[name]).Format(time.RFC3339Nano))
		}
		if _, err := fmt.Fprintf(conn, `{"id":%s,"status":"done","result":%s}`+"\n", request.ID, result); err != nil {
			return
		}
	}
}

// withMetrics answers with the metrics of the processes in turn, and to other requests like next.
func (f *fakes) withMetrics(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics" || len(f.starts) == 0 {
			next(w, r)
			return
		}
		fmt.Fprintf(w, "# HELP\nprocess_start_time_seconds %s\n", f.starts[int(f.scrapes.Add(1))%len(f.starts)])
	}
}

// register answers with nodes that renewed their entries so long ago.
func register(ago map[string]time.Duration, queues string) http.HandlerFunc {
	now := time.Now()
	return func(w http.ResponseWriter, r *http.Request) {
		var list []string
		for _, name := range []string{"anna", "boris", "carla"} {
			if d, ok := ago[name]; ok {
				list = append(list, fmt.Sprintf(`{"node":%q,"actions":["echo"],"queues":["*"],"seen_at":%q}`, name, now.Add(-d).Format(time.RFC3339Nano)))
			}
		}
		switch {
		case r.URL.Path == "/v1/tasks":
			fmt.Fprint(w, `{"ok":true,"tasks":[{"action":"shrink"},{"action":"echo"},{"action":"shrink"}]}`) // of each state
		case r.URL.Path == "/v1/queues":
			fmt.Fprintf(w, `{"ok":true,"queues":[%s]}`, queues)
		case ago == nil:
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, `{"code":"unavailable","detail":"this node has no store, so it keeps no tasks"}`)
		default:
			fmt.Fprintf(w, `{"ok":true,"nodes":[%s]}`, strings.Join(list, ","))
		}
	}
}

func TestTheNodesOfASystemAreCompared(t *testing.T) {
	t.Parallel()
	all := map[string]time.Duration{"anna": 0, "boris": time.Second, "carla": 2 * time.Second}
	names := []string{"anna", "boris", "carla"}
	for name, c := range map[string]struct {
		fakes *fakes
		ago   map[string]time.Duration
		part  string
		want  Verdict
		saw   string
	}{
		"all are there":      {&fakes{names: names}, all, "nodes", OK, "3 nodes: anna, boris, carla"},
		"all are reached":    {&fakes{names: names}, all, "balancer", OK, "each of 3 nodes"},
		"one is late":        {&fakes{names: names}, map[string]time.Duration{"anna": 0, "boris": 12 * time.Second}, "nodes", Warning, "boris 12s ago"},
		"one is not reached": {&fakes{names: names[:2]}, all, "balancer", Warning, "2 of 3 nodes, never to carla"},
		"one alone answers":  {&fakes{names: names[:1]}, all, "balancer", Warning, "only anna answers here, never boris, carla"},
		"one is of another":  {&fakes{names: append(names, "dora")}, map[string]time.Duration{"anna": 0, "carla": 0}, "balancer", Wrong, "here: boris, dora"},
		"one has another":    {&fakes{names: names, versions: map[string]string{"boris": "2"}}, all, "versions", Warning, "1 (anna, carla), 2 (boris)"},
		"all have one":       {&fakes{names: names}, all, "versions", OK, "all that answer have 1 (anna, boris, carla)"},
		"one is ahead":       {&fakes{names: names, ahead: map[string]time.Duration{"carla": time.Hour}}, all, "clocks", Warning, "carla by 1h0m0s"},
		"one is behind":      {&fakes{names: names, ahead: map[string]time.Duration{"carla": -time.Hour}}, all, "clocks", Warning, "carla by -1h0m0s"},
		"their clocks agree": {&fakes{names: names}, all, "clocks", OK, "3 nodes agree"},
		"two share a name":   {&fakes{names: names[:1], starts: []string{"1.7e+09", "1.8e+09"}}, map[string]time.Duration{"anna": 0}, "node names", Wrong, "2 processes answer here, but the store knows only 1 node: anna"},
		"there is no store":  {&fakes{names: names}, nil, "nodes", OK, "without a store"},
		"versions with none": {&fakes{names: names, versions: map[string]string{"boris": "2"}}, nil, "versions", Warning, "2 (boris)"},
	} {
		var serving sync.WaitGroup
		s := answering(t, 0, c.fakes.withMetrics(register(c.ago, "")))
		s.Dial = func() (*client.Client, error) { return c.fakes.dial(t, &serving) }
		if f := lookFor(t, s, "nodes", c.part); f.Verdict != c.want || !strings.Contains(f.Saw, c.saw) || (f.Fix == "") != (c.want == OK) {
			t.Errorf("%s: found %+v", name, f)
		}
		serving.Wait()
	}
}

// TestANodeThatHasJustStartedIsWaitedFor has a store that lists the second node only at the second request.
func TestANodeThatHasJustStartedIsWaitedFor(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	early, late := register(map[string]time.Duration{"anna": 0}, ""), register(map[string]time.Duration{"anna": 0, "boris": 0}, "")
	s := answering(t, 0, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/nodes" {
			http.NotFound(w, r)
			return
		}
		if asked.Add(1) == 1 {
			early(w, r)
			return
		}
		late(w, r)
	})
	var serving sync.WaitGroup
	f := &fakes{names: []string{"anna", "boris"}}
	s.Dial = func() (*client.Client, error) { return f.dial(t, &serving) }
	s.Grace = time.Minute
	if found := lookFor(t, s, "nodes", "balancer"); found.Verdict != OK || asked.Load() != 2 {
		t.Errorf("found %+v after %d questions", found, asked.Load())
	}
	serving.Wait()
}

// lookFor runs one check and returns its finding about a part.
func lookFor(t *testing.T, s System, check, part string) Finding {
	t.Helper()
	return findingOf(t, part, runCheck(t, s, check))
}

func TestTasksThatNobodyCanRunAreFound(t *testing.T) {
	t.Parallel()
	for queues, c := range map[string]struct {
		want Verdict
		saw  string
	}{
		"":                            {OK, "there is none yet"},
		`{"queue":"mail","queued":7}`: {OK, "1 queue; every task has a node that can run it"},
		`{"queue":"mail","queued":7,"unserved":true}`:   {Warning, "4 shrink tasks of queue mail can be run by no node: none has the action"},
		`{"queue":"mail","queued":7,"paused":true}`:     {Warning, "mail is paused; 7 queued tasks in it"},
		`{"queue":"mail","paused":true},{"queue":"ok"}`: {OK, "2 queues; every task has a node that can run it"},
	} {
		s := answering(t, 0, register(map[string]time.Duration{"anna": 0}, queues))
		if f := lookFor(t, s, "queues", "queues"); f.Verdict != c.want || !strings.Contains(f.Saw, c.saw) {
			t.Errorf("%s: found %+v", queues, f)
		}
	}
}
