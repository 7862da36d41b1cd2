package doctor

import (
	"bytes"
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
	// seenWithin is how long ago a node may have renewed its entry in the store without a warning. A node renews it
	// every 5 s, and the store deletes it after 15 s.
	seenWithin = 10 * time.Second
	// dialsPerNode is how many connections are opened for each known node, and maxDials for all together. With three
	// nodes behind a balancer that chooses at random, one of 16,000 runs misses a node. The connections stay open
	// until the last one is, since some balancers choose the node with the fewest connections.
	dialsPerNode = 8
	maxDials     = 64
	// scrapesPerNode is how often the metrics are read for each known node, and maxScrapes for all together.
	scrapesPerNode = 4
	maxScrapes     = 16
	// minDialsPerNode is how many connections for each node are opened even if all known nodes have answered: a node
	// that the store does not know may answer too.
	minDialsPerNode = 2
)

// Node is a node as GET /v1/nodes shows it.
type Node struct {
	Node    string    `json:"node"`
	PID     int       `json:"pid"`
	Actions []string  `json:"actions"`
	Queues  []string  `json:"queues"`
	Slots   int       `json:"slots"`
	Started time.Time `json:"started_at"`
	Seen    time.Time `json:"seen_at"`
	Stuck   int       `json:"stuck"`
	Address string    `json:"address,omitempty"`
}

// answer is what a node replied to op info.
type answer struct {
	client.Info
	ahead    time.Duration // how far its clock is ahead of ours
	hasClock bool          // nodes of old versions do not send their time
}

// errNoStore says that a node has no store, and so no list of nodes.
var errNoStore = task.Refuse(task.Unavailable, "this node has no store, so it knows of no others")

// nodes compares the nodes that the store knows with those that answer at the address.
func (s System) nodes(ctx context.Context, _ string) []Finding {
	list, err := s.Nodes(ctx)
	stored := !errors.Is(err, errNoStore)
	if err != nil && stored {
		return []Finding{fault(s.hint(err), "the nodes are not known: %s", plain(err))}
	}
	there, err := s.meet(ctx, names(list))
	if err != nil && len(there) == 0 {
		return []Finding{fault(s.hint(err), "no node answers: %s", err)}
	}
	if !stored {
		return []Finding{good("without a store no node knows of others"), judgeVersions(there), judgeClocks(there)}
	}
	early := len(list)
	if list = s.awaitRegistration(ctx, list, there); len(list) > early {
		if more, err := s.meet(ctx, names(list)); err == nil {
			maps.Copy(there, more)
		}
	}
	findings := []Finding{judgeSeen(list), judgeVersions(there), judgeClocks(there), judgeReached(names(list), there)}
	findings = append(findings, s.judgeNames(ctx, list, there)...)
	return append(findings, judgeStuck(list)...)
}

// awaitRegistration waits until the store knows all nodes that answer, since one may have just started, but no longer
// than Grace. It returns the nodes that the store knows then.
func (s System) awaitRegistration(ctx context.Context, list []Node, there map[string]answer) []Node {
	const pause = 500 * time.Millisecond
	for began := time.Now(); len(unregistered(names(list), there)) > 0 && time.Since(began) < s.Grace; {
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

// unregistered returns the nodes that answer although the store does not know them.
func unregistered(all []string, there map[string]answer) (list []string) {
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

// Nodes returns the live nodes that the store knows. If the node refuses to list them, the error is a *task.Error.
func (s System) Nodes(ctx context.Context) ([]Node, error) {
	var body struct{ Nodes []Node }
	err := s.read(ctx, "/v1/nodes", &body)
	return body.Nodes, err
}

// read gets a JSON document and decodes it.
func (s System) read(ctx context.Context, path string, to any) error {
	status, _, text, err := s.get(ctx, path)
	return decode(status, text, err, to)
}

// decode decodes an answer. The error of a refusal is a *task.Error.
func decode(status int, text []byte, err error, to any) error {
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

// meet opens connections until all nodes have answered, or the limit on connections is reached. It returns what the
// nodes answered, by name.
func (s System) meet(ctx context.Context, all []string) (map[string]answer, error) {
	there := map[string]answer{}
	var open []*client.Client
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for n := range min(dialsPerNode*max(len(all), 1), maxDials) {
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
		there[info.Node] = answer{info, info.Time.Sub(began.Add(now.Sub(began) / 2)), !info.Time.IsZero()}
		if len(all) > 0 && n >= minDialsPerNode*len(all) && !slices.ContainsFunc(all, func(name string) bool { _, ok := there[name]; return !ok }) {
			break
		}
	}
	return there, nil
}

// judgeNames finds processes that share the name of a node: the store keeps one entry for both of them. Each process
// has at least one node, so there must be as many names as processes.
func (s System) judgeNames(ctx context.Context, list []Node, there map[string]answer) []Finding {
	all := append(names(list), unregistered(names(list), there)...)
	n := s.processes(ctx, len(all))
	if n <= len(all) {
		return nil
	}
	return []Finding{fault("give each node its own --name; without the flag it is the name of the host and the port",
		"%s answer here, but the store knows only %s: %s", fmt.Sprintf("%d processes", n), amount(len(all), "node"), strings.Join(all, ", ")).of("node names")}
}

// processes returns how many processes answer at the address, or 0 if that is not known. It reads the metrics of each,
// and keeps connections open meanwhile, as meet does.
func (s System) processes(ctx context.Context, nodes int) int {
	starts := map[string]bool{}
	var open []*client.Client
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for range min(scrapesPerNode*max(nodes, 1), maxScrapes) {
		c, err := s.Dial()
		if err != nil {
			return 0
		}
		open = append(open, c)
		if _, err := c.Info(ctx); err != nil {
			return 0
		}
		status, _, text, err := s.get(ctx, "/metrics")
		start := startOf(text)
		if err != nil || status != http.StatusOK || start == "" {
			return 0 // the token may not read metrics
		}
		starts[start] = true
	}
	return len(starts)
}

// startOf returns when a process started, as its metrics say, or "".
func startOf(metrics []byte) string {
	for line := range bytes.Lines(metrics) {
		if start, found := bytes.CutPrefix(line, []byte("process_start_time_seconds ")); found {
			return string(bytes.TrimSpace(start))
		}
	}
	return ""
}

// judgeSeen judges when the nodes last renewed their entries. It measures from the newest entry, since the times are
// by the clock of the store.
func judgeSeen(list []Node) Finding {
	if len(list) == 0 {
		return doubt("if it has just started, ask again in 5 s; otherwise look at its log", "the store knows no node")
	}
	newest := slices.MaxFunc(list, func(a, b Node) int { return a.Seen.Compare(b.Seen) }).Seen
	var late []string
	for _, n := range list {
		if ago := newest.Sub(n.Seen); ago > seenWithin {
			late = append(late, fmt.Sprintf("%s %s ago", n.Node, ago.Round(time.Second)))
		}
	}
	if len(late) > 0 {
		return doubt("look at its log: it has ended, hangs, or does not reach the store; after 15 s its tasks run elsewhere",
			"%s, of which some were seen long ago: %s", amount(len(list), "node"), strings.Join(late, ", "))
	}
	return good("%s: %s", amount(len(list), "node"), strings.Join(names(list), ", "))
}

func amount(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprint(n, " ", noun, "s")
}

// judgeVersions compares the versions of the nodes that answered.
func judgeVersions(there map[string]answer) Finding {
	by := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(there)) {
		by[there[name].Version] = append(by[there[name].Version], name)
	}
	var list []string
	for _, version := range slices.Sorted(maps.Keys(by)) {
		list = append(list, version+" ("+strings.Join(by[version], ", ")+")")
	}
	if len(list) > 1 {
		return doubt("a roll-out under way looks like this; otherwise replace the older", "the nodes have different versions: %s", strings.Join(list, ", ")).of("versions")
	}
	return good("all that answer have %s", strings.Join(list, "")).of("versions")
}

// judgeClocks compares the clocks of the nodes with that of this machine.
func judgeClocks(there map[string]answer) Finding {
	var apart []string
	with := 0
	for _, name := range slices.Sorted(maps.Keys(there)) {
		n := there[name]
		if n.hasClock {
			with++
		}
		if n.hasClock && n.ahead.Abs() > clockTolerance {
			apart = append(apart, fmt.Sprintf("%s by %s", name, n.ahead.Round(time.Second)))
		}
	}
	switch {
	case len(apart) > 0:
		return doubt("let all machines follow the same time server; tasks are not in danger, for leases go by the store's clock",
			"clocks are before or behind this machine's: %s", strings.Join(apart, ", ")).of("clocks")
	case with == 0:
		return good("no node tells its clock: they are of an older version").of("clocks")
	}
	return good("those of %s agree with this machine's", amount(with, "node")).of("clocks")
}

// judgeReached judges whether the address leads to all nodes.
func judgeReached(all []string, there map[string]answer) Finding {
	var never []string
	for _, name := range all {
		if _, ok := there[name]; !ok {
			never = append(never, name)
		}
	}
	unknown := unregistered(all, there)
	var f Finding
	switch {
	case len(unknown) > 0:
		f = fault("give all nodes behind one address the same --store; one that has just started is known within 5 s",
			"the store does not know all that answer here: %s", strings.Join(unknown, ", "))
	case len(never) > 0 && len(there) == 1:
		f = doubt("nothing, if --to names a node itself; a balancer should lead to all: look at its configuration, and whether it can reach them",
			"only %s answers here, never %s", slices.Collect(maps.Keys(there))[0], strings.Join(never, ", "))
	case len(never) > 0:
		f = doubt("look at the balancer's configuration, at the node's /readyz, and whether the balancer can reach it",
			"this address leads to %d of %s, never to %s", len(there), amount(len(all), "node"), strings.Join(never, ", "))
	default:
		f = good("this address leads to each of %s", amount(len(all), "node"))
	}
	return f.of("balancer")
}

// judgeStuck warns of actions that still run after their timeout.
func judgeStuck(list []Node) []Finding {
	var all []string
	for _, n := range list {
		if n.Stuck > 0 {
			all = append(all, fmt.Sprintf("%s on %s", amount(n.Stuck, "action"), n.Node))
		}
	}
	if len(all) == 0 {
		return nil
	}
	return []Finding{doubt("fix them: an action must end when its context does, or attempts of one task run at the same time; the log of the node names the tasks",
		"actions run on though their time is over: %s", strings.Join(all, ", "))}
}
