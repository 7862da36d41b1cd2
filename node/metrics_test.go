package node

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/durable/mailbox"
	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/httpapi"
	"github.com/posta-tasks/posta/lineapi"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/worker"
)

var update = flag.Bool("update", false, "write the golden files anew")

// scrape returns the text of /metrics for known counters.
func scrape(t *testing.T, ready error) string {
	t.Helper()
	handler := newMetrics(metricsSource{
		version: "0.0.1",
		limits:  task.Limits{Line: 1 << 20, Idle: 600e9, Slots: 8},
		executor: func() executor.Stats {
			return executor.Stats{
				Slots: 8, SlotsBusy: 3, QuickSlots: 2, QuickBusy: 1, Waiting: 5, Stuck: 1, StuckEver: 4,
				Bounds: []float64{0.001, 0.1},
				ByAction: map[string]executor.ActionStats{
					"upper":          {Done: 6, Failed: 2, Panicked: 1, TimedOut: 3, Cancelled: 4, Buckets: []int64{7, 5, 4}, SumSeconds: 1.5},
					executor.Unknown: {Failed: 9, Buckets: []int64{9, 0, 0}},
				},
			}
		},
		lines: func() lineapi.Stats {
			return lineapi.Stats{Open: 10, Opened: 11, BytesIn: 12, BytesOut: 13, SlowConsumers: 14, Refusals: map[task.Code]int64{task.InvalidJSON: 15}}
		},
		http: func() httpapi.Stats {
			return httpapi.Stats{ConnectionsOpen: 20, ConnectionsTotal: 21, BytesIn: 22, BytesOut: 23, Requests: 24, Running: 25, Refused: map[task.Code]int64{task.NotFound: 26}}
		},
		durable: func() (durable.Stats, []durable.Queue) {
			return durable.Stats{
					Held: 40, Running: 41, Waiting: 42, Accepted: 43, Claimed: 44, Done: 45, Failed: 46, Cancelled: 47, Again: 48, Released: 49,
					Stale: 50, Lost: 51, Reaped: 52, Crashed: 53, Deleted: 54, AcceptCalls: 55, ClaimCalls: 56, RecordCalls: 57, StoreRefused: 58, StoreOutages: 81, BlobOutages: 82, BrokerOutages: 83,
					ClaimsByIDs: 66, ClaimsByPoll: 67, ByQueue: map[string]durable.QueueStats{"mail": {Done: 45, Failed: 46, Cancelled: 47, Waits: []int64{2, 3, 4}, WaitSeconds: 7.5}}, WaitBounds: []float64{0.25, 86400},
					Mailbox: mailbox.Stats{Published: 68, Dropped: 69, Taken: 70, Sent: 71, Missed: 72},
				}, []durable.Queue{
					{Name: "mail", Paused: true, Scheduled: 60, Queued: 61, Running: 62, Failed: 63, Accepted: 64, Finished: 65},
					{Name: "slow", Unserved: true, OldestAge: time.Hour},
				}
		},
		workers: func() ([]task.Worker, worker.Stats) {
			return []task.Worker{{Slots: 8, Held: 3, Over: 1}, {Slots: 4, Held: 1, Quiet: true}},
				worker.Stats{Adopted: 90, Lost: map[worker.Cause]int64{worker.Died: 91, worker.Forgotten: 92, worker.Silent: 93}}
		},
		passedOn:  func() (missing, full int64) { return 94, 95 },
		undecided: func() int { return 30 },
		buffered:  func() int64 { return 32 },
		refused:   func() int64 { return 31 },
		ready:     func() error { return ready },
	}, slog.New(slog.DiscardHandler))
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if recorder.Code != http.StatusOK {
		t.Fatalf("status %d: %s", recorder.Code, recorder.Body)
	}
	return recorder.Body.String()
}

func TestTheMetricsMatchTheGoldenFile(t *testing.T) {
	t.Parallel()
	var names strings.Builder
	lines := bufio.NewScanner(strings.NewReader(scrape(t, nil)))
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "# ") && strings.Contains(lines.Text(), " posta_") {
			names.WriteString(lines.Text() + "\n")
		}
	}
	golden(t, "testdata/metrics.golden", names.String())
}

// golden compares a text with a file, or writes the file.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("the metrics differ from %s; go test ./node -run 'Metrics|Series' -update rewrites it (-want +got):\n%s", file, diff)
	}
}

// TestTheSeriesMatchThoseOfTheAlertTests compares every series that a node can have, without its value, with a file.
// tools/alertcheck evaluates the rules of deploy/prometheus on that file, so that no rule uses a name or a label that
// no node has.
func TestTheSeriesMatchThoseOfTheAlertTests(t *testing.T) {
	t.Parallel()
	var series strings.Builder
	for line := range strings.Lines(scrape(t, nil)) {
		if strings.HasPrefix(line, "posta_") {
			name := line[:strings.LastIndexByte(line, ' ')]
			series.WriteString(strings.ReplaceAll(name, runtime.Version(), "go") + "\n")
		}
	}
	golden(t, "testdata/series.golden", series.String())
}

func TestTheMetricsHaveTheValuesOfTheCounters(t *testing.T) {
	t.Parallel()
	text := scrape(t, nil)
	for _, line := range []string{
		`posta_ready 1`,
		`posta_tasks_total{action="upper",outcome="done"} 6`,
		`posta_tasks_total{action="upper",outcome="failed"} 2`,
		`posta_tasks_total{action="upper",outcome="panicked"} 1`,
		`posta_tasks_total{action="upper",outcome="timed_out"} 3`,
		`posta_tasks_total{action="upper",outcome="cancelled"} 4`,
		`posta_tasks_total{action="unknown",outcome="failed"} 9`,
		`posta_task_duration_seconds_bucket{action="upper",le="0.001"} 7`,
		`posta_task_duration_seconds_bucket{action="upper",le="0.1"} 12`,
		`posta_task_duration_seconds_bucket{action="upper",le="+Inf"} 16`,
		`posta_task_duration_seconds_sum{action="upper"} 1.5`,
		`posta_task_duration_seconds_count{action="upper"} 16`,
		`posta_pool_slots{kind="pool"} 8`,
		`posta_pool_slots{kind="quick"} 2`,
		`posta_pool_busy{kind="pool"} 3`,
		`posta_pool_busy{kind="quick"} 1`,
		`posta_pool_waiting 5`,
		`posta_buffered_bytes 32`,
		`posta_workers 2`,
		`posta_worker_slots{state="free"} 5`,
		`posta_worker_slots{state="held"} 3`,
		`posta_worker_slots{state="stuck"} 1`,
		`posta_worker_adopted_total 90`,
		`posta_worker_lost_total{cause="died"} 91`,
		`posta_worker_lost_total{cause="forgotten"} 92`,
		`posta_worker_lost_total{cause="silent"} 93`,
		`posta_runs_passed_on_total{cause="missing"} 94`,
		`posta_runs_passed_on_total{cause="full"} 95`,
		`posta_pool_stuck 1`,
		`posta_pool_stuck_total 4`,
		`posta_connections_open{door="lines"} 10`,
		`posta_connections_open{door="http"} 20`,
		`posta_connections_open{door="undecided"} 30`,
		`posta_connections_total{door="lines"} 11`,
		`posta_connections_total{door="http"} 21`,
		`posta_received_bytes_total{door="lines"} 12`,
		`posta_received_bytes_total{door="http"} 22`,
		`posta_sent_bytes_total{door="lines"} 13`,
		`posta_sent_bytes_total{door="http"} 23`,
		`posta_http_requests_total 24`,
		`posta_http_requests_open 25`,
		`posta_refusals_total{code="invalid_json",door="lines"} 15`,
		`posta_refusals_total{code="not_found",door="http"} 26`,
		`posta_refusals_total{code="overloaded",door="lines"} 0`,
		`posta_slow_consumers_total 14`,
		`posta_limit_bytes{name="max-line"} 1.048576e+06`,
		`posta_limit_seconds{name="idle-timeout"} 600`,
		`posta_limit{name="slots"} 8`,
		`posta_durable_held 40`,
		`posta_durable_running 41`,
		`posta_durable_waits_open 42`,
		`posta_durable_accepted_total 43`,
		`posta_durable_claimed_total 44`,
		`posta_durable_ended_total{queue="mail",state="done"} 45`,
		`posta_durable_ended_total{queue="mail",state="failed"} 46`,
		`posta_durable_ended_total{queue="mail",state="cancelled"} 47`,
		`posta_durable_again_total 48`,
		`posta_durable_released_total 49`,
		`posta_durable_stale_total 50`,
		`posta_durable_leases_lost_total 51`,
		`posta_durable_reaped_total 52`,
		`posta_durable_crashed_total 53`,
		`posta_durable_deleted_total 54`,
		`posta_durable_store_calls_total{call="accept"} 55`,
		`posta_durable_store_calls_total{call="claim"} 56`,
		`posta_durable_store_calls_total{call="record"} 57`,
		`posta_durable_store_refused_total 58`,
		`posta_durable_claims_total{of="ids"} 66`,
		`posta_durable_claims_total{of="next"} 67`,
		`posta_durable_hints_total{was="published"} 68`,
		`posta_durable_hints_total{was="dropped"} 69`,
		`posta_durable_hints_total{was="taken"} 70`,
		`posta_durable_events_total{was="told"} 71`,
		`posta_durable_events_total{was="missed"} 72`,
		`posta_queue_tasks{queue="mail",state="scheduled"} 60`,
		`posta_queue_tasks{queue="mail",state="queued"} 61`,
		`posta_queue_tasks{queue="mail",state="running"} 62`,
		`posta_queue_tasks{queue="mail",state="failed"} 63`,
		`posta_queue_accepted_total{queue="mail"} 64`,
		`posta_queue_finished_total{queue="mail"} 65`,
		`posta_queue_wait_seconds_bucket{queue="mail",le="0.25"} 2`,
		`posta_queue_wait_seconds_bucket{queue="mail",le="86400"} 5`,
		`posta_queue_wait_seconds_bucket{queue="mail",le="+Inf"} 9`,
		`posta_queue_wait_seconds_sum{queue="mail"} 7.5`,
		`posta_queue_paused{queue="mail"} 1`,
		`posta_queue_paused{queue="slow"} 0`,
		`posta_queue_unserved{queue="slow"} 1`,
		`posta_queue_oldest_seconds{queue="mail"} 0`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("the metrics do not contain %s", line)
		}
	}
	for _, name := range []string{"go_goroutines ", "process_open_fds ", "process_resident_memory_bytes "} {
		if !strings.Contains(text, "\n"+name) {
			t.Errorf("the metrics have no %s", name)
		}
	}
	if !strings.Contains(text, `posta_build_info{go_version="go1.`) {
		t.Error("the metrics do not contain the version of Go")
	}
}

func TestPostaReadyIsZeroWhenTheNodeIsNotReady(t *testing.T) {
	t.Parallel()
	if text := scrape(t, errors.New("draining")); !strings.Contains(text, "\nposta_ready 0\n") {
		t.Error("posta_ready is not 0")
	}
}

func TestEveryLimitIsAMetric(t *testing.T) {
	t.Parallel()
	text := scrape(t, nil)
	var limits task.Limits
	for _, limit := range limits.Table() {
		if !strings.Contains(text, limit.Metric()+`{name="`+limit.Flag+`"}`) {
			t.Errorf("limit %s has no metric", limit.Flag)
		}
		if strings.Count(text, `{name="`+limit.Flag+`"}`) != 1 {
			t.Errorf("limit %s has metrics of several units", limit.Flag)
		}
	}
}

func TestANodeServesItsMetrics(t *testing.T) {
	t.Parallel()
	n, err := New(Config{Name: "n1", Version: "0.0.1", Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	transport := &http.Transport{DisableKeepAlives: true}
	client := &http.Client{Transport: transport, Timeout: time.Minute}
	response, err := client.Get("http://" + n.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{`posta_connections_open{door="http"} 1`, `posta_tasks_total{action="fib",outcome="done"} 0`, `posta_ready 1`} {
		if !strings.Contains(string(text), "\n"+line+"\n") {
			t.Errorf("the metrics do not contain %s", line)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
