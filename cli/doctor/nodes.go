package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/posta-tasks/posta/client"
	"github.com/posta-tasks/posta/task"
)

const (
	// seenWithin is how lately a node has told the store that it lives: it does so every 5 s, and is
	// forgotten after 15 s.
	seenWithin = 10 * time.Second
	// meetings is how often a connection is opened for each node that there is, and meetingsMost at
	// all: with three nodes behind a balancer that chooses by chance, one of 16,000 runs misses a
	// node. They are held until all are open, since some balancers choose the least connected.
	meetings     = 8
	meetingsMost = 64
	// meetingsLeast is after how many for each node no more are opened when all have answered; until
	// then one may turn up that the store does not know.
	meetingsLeast = 2
)

// Node is a node as the store has it, and as GET /v1/nodes shows it.
type Node struct {
	Node    string    `json:"node"`
	PID     int       `json:"pid"`
	Actions []string  `json:"actions"`
	Queues  []string  `json:"queues"`
	Slots   int       `json:"slots"`
	Started time.Time `json:"started_at"`
	Seen    time.Time `json:"seen_at"`
	Stuck   int       `json:"stuck"`
}

// met is a node that has answered.
type met struct {
	client.Info
	ahead time.Duration // its clock before ours
	known bool          // it tells its clock
}

// errNoStore says that a node has no store, and so no register of others.
var errNoStore = task.Refuse(task.Unavailable, "this node has no store, so it knows of no others")

// nodes compares those that the store knows with those that answer here.
func (s System) nodes(ctx context.Context) []Finding {
	list, err := s.Nodes(ctx)
	stored := !errors.Is(err, errNoStore)
	if err != nil && stored {
		return []Finding{Fault(s.hint(err), "the nodes are not known: %s", plain(err))}
	}
	there, err := s.meet(ctx, names(list))
	if err != nil && len(there) == 0 {
		return []Finding{Fault(s.hint(err), "no node answers: %s", err)}
	}
	if !stored {
		return []Finding{Good("without a store no node knows of others"), versions(there), clocks(there)}
	}
	early := len(list)
	if list = s.settled(ctx, list, there); len(list) > early {
		if more, err := s.meet(ctx, names(list)); err == nil {
			maps.Copy(there, more)
		}
	}
	findings := []Finding{seen(list), versions(there), clocks(there), reached(names(list), there)}
	return append(findings, stuck(list)...)
}

// settled waits for those that answer and that the store does not know, since they may have just
// started, and gives the nodes that it knows then.
func (s System) settled(ctx context.Context, list []Node, there map[string]met) []Node {
	const pause = 500 * time.Millisecond
	for began := time.Now(); len(strangers(names(list), there)) > 0 && time.Since(began) < s.Grace; {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return list
		}
		if now, err := s.Nodes(ctx); err == nil {
			list = now
		}
	}
	return list
}

// strangers are those that answer and that the store does not know.
func strangers(all []string, there map[string]met) (list []string) {
	for _, name := range slices.Sorted(maps.Keys(there)) {
		if !slices.Contains(all, name) {
			list = append(list, name)
		}
	}
	return list
}

func names(list []Node) []string {
	var all []string
	for _, n := range list {
		all = append(all, n.Node)
	}
	return all
}

// Nodes asks for the live nodes that the store knows. A refusal is a *task.Error.
func (s System) Nodes(ctx context.Context) ([]Node, error) {
	var answer struct{ Nodes []Node }
	err := s.read(ctx, "/v1/nodes", &answer)
	return answer.Nodes, err
}

// read gets a JSON document.
func (s System) read(ctx context.Context, path string, to any) error {
	status, _, text, err := s.get(ctx, path)
	var problem struct {
		Code   task.Code
		Detail string
		Field  string
	}
	switch {
	case err != nil:
		return err
	case status == http.StatusOK:
		return json.Unmarshal(text, to)
	case json.Unmarshal(text, &problem) != nil || problem.Code == "":
	case problem.Code == task.Unavailable && strings.Contains(problem.Detail, "no store"):
		return errNoStore
	default:
		return &task.Error{Code: problem.Code, Message: problem.Detail, Field: problem.Field}
	}
	return errors.New(reason(status, text))
}

// IsWithoutStore reports whether an error of Nodes says that the node that answered has no store.
func IsWithoutStore(err error) bool { return errors.Is(err, errNoStore) }

// meet opens connections until all nodes have answered, or enough have been opened.
func (s System) meet(ctx context.Context, all []string) (map[string]met, error) {
	there := map[string]met{}
	var open []*client.Client
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for n := range min(meetings*max(len(all), 1), meetingsMost) {
		c, err := s.Dial()
		if err != nil {
			return there, err
		}
		open = append(open, c)
		began := s.Now()
		info, err := c.Info(ctx)
		if err != nil {
			return there, err
		}
		now := s.Now()
		there[info.Node] = met{info, info.Time.Sub(began.Add(now.Sub(began) / 2)), !info.Time.IsZero()}
		if len(all) > 0 && n >= meetingsLeast*len(all) && !slices.ContainsFunc(all, func(name string) bool { _, ok := there[name]; return !ok }) {
			break
		}
	}
	return there, nil
}

// seen judges when nodes have last told that they live, by the newest of them: the clock is the store's.
func seen(list []Node) Finding {
	if len(list) == 0 {
		return Doubt("if it has just started, ask again in 5 s; otherwise look at its log", "the store knows no node")
	}
	newest := slices.MaxFunc(list, func(a, b Node) int { return a.Seen.Compare(b.Seen) }).Seen
	var late []string
	for _, n := range list {
		if ago := newest.Sub(n.Seen); ago > seenWithin {
			late = append(late, fmt.Sprintf("%s %s ago", n.Node, ago.Round(time.Second)))
		}
	}
	if len(late) > 0 {
		return Doubt("look at its log: it has ended, hangs, or does not reach the store; after 15 s its tasks run elsewhere",
			"%s, of which some were seen long ago: %s", amount(len(list), "node"), strings.Join(late, ", "))
	}
	return Good("%s: %s", amount(len(list), "node"), strings.Join(names(list), ", "))
}

func amount(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprint(n, " ", noun, "s")
}

// versions compares those of the nodes that answered.
func versions(there map[string]met) Finding {
	by := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(there)) {
		by[there[name].Version] = append(by[there[name].Version], name)
	}
	var list []string
	for _, version := range slices.Sorted(maps.Keys(by)) {
		list = append(list, version+" ("+strings.Join(by[version], ", ")+")")
	}
	if len(list) > 1 {
		return Doubt("a roll-out under way looks like this; otherwise replace the older", "the nodes have different versions: %s", strings.Join(list, ", ")).Of("versions")
	}
	return Good("all that answer have %s", strings.Join(list, "")).Of("versions")
}

// clocks compares those of the nodes with ours.
func clocks(there map[string]met) Finding {
	var apart []string
	told := 0
	for _, name := range slices.Sorted(maps.Keys(there)) {
		n := there[name]
		if n.known {
			told++
		}
		if n.known && n.ahead.Abs() > clockTolerance {
			apart = append(apart, fmt.Sprintf("%s by %s", name, n.ahead.Round(time.Second)))
		}
	}
	switch {
	case len(apart) > 0:
		return Doubt("let all machines follow the same time server; tasks are not in danger, for leases go by the store's clock",
			"clocks are before or behind this machine's: %s", strings.Join(apart, ", ")).Of("clocks")
	case told == 0:
		return Good("no node tells its clock: they are of an older version").Of("clocks")
	}
	return Good("those of %s agree with this machine's", amount(told, "node")).Of("clocks")
}

// reached judges whether this address leads to all nodes.
func reached(all []string, there map[string]met) Finding {
	var never []string
	for _, name := range all {
		if _, ok := there[name]; !ok {
			never = append(never, name)
		}
	}
	strange := strangers(all, there)
	var f Finding
	switch {
	case len(strange) > 0:
		f = Fault("give all nodes behind one address the same --store; one that has just started is known within 5 s",
			"the store does not know all that answer here: %s", strings.Join(strange, ", "))
	case len(never) > 0 && len(there) == 1:
		f = Doubt("nothing, if --to names a node itself; a balancer should lead to all: look at its configuration, and whether it can reach them",
			"only %s answers here, never %s", slices.Collect(maps.Keys(there))[0], strings.Join(never, ", "))
	case len(never) > 0:
		f = Doubt("look at the balancer's configuration, at the node's /readyz, and whether the balancer can reach it",
			"this address leads to %d of %s, never to %s", len(there), amount(len(all), "node"), strings.Join(never, ", "))
	default:
		f = Good("this address leads to each of %s", amount(len(all), "node"))
	}
	return f.Of("balancer")
}

// stuck warns of actions that still run though their time is over.
func stuck(list []Node) []Finding {
	var all []string
	for _, n := range list {
		if n.Stuck > 0 {
			all = append(all, fmt.Sprintf("%s on %s", amount(n.Stuck, "action"), n.Node))
		}
	}
	if len(all) == 0 {
		return nil
	}
	return []Finding{Doubt("fix them: an action must end when its context does, or attempts of one task run at the same time; the log of the node names the tasks",
		"actions run on though their time is over: %s", strings.Join(all, ", "))}
}
