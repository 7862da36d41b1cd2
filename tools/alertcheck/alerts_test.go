package alertcheck

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
)

const (
	rulesFile  = "../../deploy/prometheus/alerts.yaml"
	seriesFile = "../../node/testdata/series.golden"

	scraped = 15 * time.Second // the time between two scrapes
	history = 2 * time.Hour    // the time of scrapes before the evaluation
)

// values returns the value of a series at a scrape, counted from 0.
type values func(scrape int) float64

func steady(value float64) values { return func(int) float64 { return value } }

// rising returns a counter that grows by each at each scrape.
func rising(each float64) values { return func(scrape int) float64 { return each * float64(scrape) } }

// once returns a counter that grew only once, by this much, in the last four minutes.
func once(by float64) values {
	return func(scrape int) float64 {
		if scrape > int((history-4*time.Minute)/scraped) {
			return by
		}
		return 0
	}
}

// lately returns a gauge that has had a value only for the last half minute.
func lately(value float64) values {
	return func(scrape int) float64 {
		if scrape > int((history-30*time.Second)/scraped) {
			return value
		}
		return 0
	}
}

// scrape has the series that differ from those of a healthy node.
type scrape map[string]values

// healthy has the series of a working node. Series that are not listed are 0.
var healthy = scrape{
	`up{}`:                                                 steady(1),
	`posta_ready{}`:                                        steady(1),
	`posta_build_info{version="0.0.1"}`:                    steady(1),
	`posta_pool_slots{kind="pool"}`:                        steady(8),
	`posta_pool_busy{kind="pool"}`:                         steady(5),
	`posta_pool_slots{kind="quick"}`:                       steady(2),
	`posta_limit{name="max-connections"}`:                  steady(15_000),
	`posta_connections_open{door="lines"}`:                 steady(100),
	`posta_tasks_total{action="upper",outcome="done"}`:     rising(1_000),
	`posta_tasks_total{action="upper",outcome="failed"}`:   rising(10),
	`posta_durable_ended_total{queue="mail",state="done"}`: rising(100),
	`posta_queue_oldest_seconds{queue="mail"}`:             steady(2),
}

// Each alert has a scrape that must raise it and a similar one that must not.
var cases = map[string]struct{ raises, spares scrape }{
	"PostaNodeGone": {
		scrape{`up{}`: steady(0)},
		scrape{},
	},
	"PostaNodeNotReady": {
		scrape{`posta_ready{}`: steady(0)},
		scrape{`posta_ready{}`: func(n int) float64 { return 1 - lately(1)(n) }},
	},
	"PostaSlotsFull": {
		scrape{`posta_pool_waiting{}`: steady(3), `posta_pool_busy{kind="pool"}`: steady(8)},
		scrape{`posta_pool_waiting{}`: steady(3), `posta_pool_busy{kind="pool"}`: steady(7)},
	},
	"PostaSlotsStuck": {
		scrape{`posta_pool_stuck{}`: steady(1)},
		scrape{`posta_pool_stuck{}`: lately(1)},
	},
	"PostaActionPanics": {
		scrape{`posta_tasks_total{action="upper",outcome="panicked"}`: once(1)},
		scrape{`posta_tasks_total{action="upper",outcome="panicked"}`: steady(7)},
	},
	"PostaTasksFail": {
		scrape{`posta_tasks_total{action="upper",outcome="timed_out"}`: rising(100)},
		scrape{`posta_tasks_total{action="upper",outcome="timed_out"}`: rising(10)},
	},
	"PostaStoreAway": {
		scrape{`posta_durable_store_refused_total{}`: rising(1)},
		scrape{`posta_durable_store_refused_total{}`: steady(9)},
	},
	"PostaQueueUnserved": {
		scrape{`posta_queue_unserved{queue="mail"}`: steady(1)},
		scrape{`posta_queue_unserved{queue="mail"}`: lately(1)},
	},
	"PostaQueueLate": {
		scrape{`posta_queue_oldest_seconds{queue="mail"}`: steady(400)},
		scrape{`posta_queue_oldest_seconds{queue="mail"}`: steady(200)},
	},
	"PostaTasksFailForGood": {
		scrape{`posta_durable_ended_total{queue="mail",state="failed"}`: once(20)},
		scrape{`posta_durable_ended_total{queue="mail",state="failed"}`: once(5)},
	},
	"PostaTasksKillProcesses": {
		scrape{`posta_durable_crashed_total{}`: once(1)},
		scrape{`posta_durable_crashed_total{}`: steady(4)},
	},
	"PostaLeasesLost": {
		scrape{`posta_durable_leases_lost_total{}`: once(1)},
		scrape{`posta_durable_leases_lost_total{}`: steady(4)},
	},
	"PostaConnectionsRefused": {
		scrape{`posta_connections_refused_total{}`: once(1)},
		scrape{`posta_connections_refused_total{}`: steady(4)},
	},
	"PostaConnectionsNearTheLimit": {
		scrape{`posta_connections_open{door="lines"}`: steady(9_000), `posta_connections_open{door="http"}`: steady(4_000)},
		scrape{`posta_connections_open{door="lines"}`: steady(9_000)},
	},
	"PostaClientsDoNotRead": {
		scrape{`posta_slow_consumers_total{}`: once(20)},
		scrape{`posta_slow_consumers_total{}`: once(5)},
	},
	"PostaVersionsDiffer": {
		scrape{`posta_build_info{instance="n2:9001",version="0.0.2"}`: steady(1)},
		scrape{`posta_build_info{instance="n2:9001",version="0.0.1"}`: steady(1)},
	},
}

func TestEachAlertIsRaisedOnlyByItsProblem(t *testing.T) {
	t.Parallel()
	rules := rules(t)
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		if _, ok := rules[name]; !ok {
			t.Errorf("%s has no rule %s", rulesFile, name)
		}
	}
	for name, rule := range rules {
		c, ok := cases[name]
		if !ok {
			t.Errorf("rule %s has no test", name)
			continue
		}
		if !fires(t, rule, show(t, c.raises)) {
			t.Errorf("%s is not raised by the scrape that must raise it", name)
		}
		if fires(t, rule, show(t, c.spares)) {
			t.Errorf("%s is raised by the scrape that must not raise it", name)
		}
		if fires(t, rule, show(t, nil)) {
			t.Errorf("%s is raised by a healthy node", name)
		}
	}
}

// rules parses the file of rules with Prometheus' parser.
func rules(t *testing.T) map[string]rulefmt.Rule {
	t.Helper()
	text, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	groups, errs := rulefmt.Parse(text, false, model.UTF8Validation)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	rules := map[string]rulefmt.Rule{}
	for _, group := range groups.Groups {
		for _, rule := range group.Rules {
			rules[rule.Alert] = rule
		}
	}
	return rules
}

// fires reports whether the expression of a rule has had a result for the duration that the rule requires.
func fires(t *testing.T, rule rulefmt.Rule, data series) bool {
	t.Helper()
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute, LookbackDelta: 5 * time.Minute})
	end := time.UnixMilli(0).Add(history)
	start := end.Add(-time.Duration(rule.For))
	query, err := engine.NewRangeQuery(t.Context(), data, nil, rule.Expr, start, end, scraped)
	if err != nil {
		t.Fatal(err)
	}
	defer query.Close()
	found, err := query.Exec(t.Context()).Matrix()
	if err != nil {
		t.Fatalf("%s: %v", rule.Alert, err)
	}
	evaluations := int(time.Duration(rule.For)/scraped) + 1
	return slices.ContainsFunc(found, func(s promql.Series) bool { return len(s.Floats) == evaluations })
}

// show returns every series of a node, with the values of the scrape, else of the healthy node, else 0.
func show(t *testing.T, other scrape) series {
	t.Helper()
	text, err := os.ReadFile(seriesFile)
	if err != nil {
		t.Fatal(err)
	}
	data := series{}
	known := map[string]bool{shape(labels.FromStrings(labels.MetricName, "up")): true}
	for line := range strings.Lines(string(text)) {
		name := read(t, strings.TrimSpace(line))
		known[shape(name)] = true
		if name.Get(labels.MetricName) != "posta_build_info" {
			data.put(name, steady(0))
		}
	}
	for _, shown := range []scrape{healthy, other} {
		for text, values := range shown {
			name := read(t, text)
			if name.Get(labels.MetricName) == "posta_build_info" {
				name = labels.NewBuilder(name).Set("go_version", "go").Labels()
			}
			if !known[shape(name)] {
				t.Fatalf("no node has the series %s", text)
			}
			data.put(name, values)
		}
	}
	return data
}

func read(t *testing.T, text string) labels.Labels {
	t.Helper()
	name, err := parser.ParseMetric(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return name
}

// shape returns a series without the labels that differ between systems.
func shape(name labels.Labels) string {
	free := []string{"instance", "version", "go_version", "action", "queue"}
	var parts []string
	name.Range(func(l labels.Label) {
		if slices.Contains(free, l.Name) {
			l.Value = ""
		}
		if l.Name != "instance" {
			parts = append(parts, fmt.Sprintf("%s=%q", l.Name, l.Value))
		}
	})
	return strings.Join(parts, ",")
}
