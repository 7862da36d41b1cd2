package node

import (
	"log/slog"
	"net/http"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/posta-tasks/posta/durable"
	"github.com/posta-tasks/posta/executor"
	"github.com/posta-tasks/posta/httpapi"
	"github.com/posta-tasks/posta/lineapi"
	"github.com/posta-tasks/posta/task"
	"github.com/posta-tasks/posta/worker"
)

// maxScrapes limits the scrapes that run at the same time. A scrape takes about a millisecond,
// so more of them only cost time.
const maxScrapes = 4

// metricsSource has the sources of the metrics. Each function is called once per scrape.
type metricsSource struct {
	version   string
	limits    task.Limits
	executor  func() executor.Stats
	lines     func() lineapi.Stats
	http      func() httpapi.Stats
	durable   func() (durable.Stats, []durable.Queue) // nil without a store
	workers   func() ([]task.Worker, worker.Stats)    // of this node
	passedOn  func() (missing, full int64)            // runs that were passed on to other nodes
	undecided func() int                              // connections that have not sent their first byte yet
	buffered  func() int64                            // bytes that the node buffers for clients
	refused   func() int64                            // connections refused before they came to a door
	ready     func() error
}

// metrics returns the handler of /metrics. The parts must exist before the first scrape.
func (n *Node) metrics() http.Handler {
	source := metricsSource{
		version:  n.config.Version,
		limits:   n.config.Limits,
		executor: func() executor.Stats { return n.executor.Stats() },
		lines:    func() lineapi.Stats { return n.lines.Stats() },
		http:     func() httpapi.Stats { return n.http.Stats() },
		workers: func() ([]task.Worker, worker.Stats) {
			return n.config.Workers.List(n.config.Name), n.config.Workers.Stats(n.config.Name)
		},
		passedOn: n.passedOn,
		undecided: func() int {
			n.port.mu.Lock()
			defer n.port.mu.Unlock()
			return len(n.port.waiting)
		},
		buffered: func() int64 { return n.budget.Used() },
		refused:  func() int64 { return n.port.refused.Load() },
		ready:    n.ready,
	}
	if n.durable != nil {
		source.durable = n.durableStats
	}
	return newMetrics(source, n.log)
}

// newMetrics returns a handler with a registry of its own, so that a process can have several
// nodes.
func newMetrics(source metricsSource, log *slog.Logger) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		newCollector(source),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: maxScrapes,
	})
}

// snapshot has the counters of all parts at a scrape.
type snapshot struct {
	metricsSource
	tasks executor.Stats
	line  lineapi.Stats
	web   httpapi.Stats
	kept  durable.Stats   // only with a store
	queue []durable.Queue // only with a store

	workersNow  []task.Worker
	workersEver worker.Stats
}

// emit reports one value, with the values of the labels in the metric's order.
type emit func(value float64, labels ...string)

// metric is a row of the table: a name, and the function that emits its values.
type metric struct {
	name, help string
	kind       prometheus.ValueType
	labels     []string
	values     func(s *snapshot, emit emit)
}

// metricsTable returns the metrics of every node. Labels have few values by construction:
// registered actions and "unknown", outcomes, codes, doors and limits.
func metricsTable() []metric {
	const counter, gauge = prometheus.CounterValue, prometheus.GaugeValue
	return []metric{
		{"posta_build_info", "The version of Posta and of Go; always 1.", gauge, []string{"version", "go_version"}, buildInfo},
		{"posta_ready", "Whether /readyz answers that the node is ready.", gauge, nil, ready},
		{"posta_tasks_total", "Tasks that have ended, by action and outcome; actions that are not registered count as unknown.", counter, []string{"action", "outcome"}, tasksTotal},
		{"posta_pool_slots", "Tasks that may run at once: in the pool, and quick ones in slots of their own.", gauge, []string{"kind"}, poolSlots},
		{"posta_pool_busy", "Slots that are in use.", gauge, []string{"kind"}, poolBusy},
		{"posta_pool_waiting", "Tasks that wait for a slot.", gauge, nil, func(s *snapshot, emit emit) { emit(float64(s.tasks.Waiting)) }},
		{"posta_pool_stuck", "Tasks that still run after their timeout.", gauge, nil, func(s *snapshot, emit emit) { emit(float64(s.tasks.Stuck)) }},
		{"posta_pool_stuck_total", "Tasks that continued to run after their timeout.", counter, nil, func(s *snapshot, emit emit) { emit(float64(s.tasks.StuckEver)) }},
		{"posta_connections_open", "Open connections by door; undecided ones have not sent their first byte yet.", gauge, []string{"door"}, connectionsOpen},
		{"posta_connections_refused_total", "Connections refused at the port: too many, or without the PROXY header that is required.", counter, nil, connectionsRefused},
		{"posta_connections_total", "Connections that a door has served.", counter, []string{"door"}, connectionsTotal},
		{"posta_received_bytes_total", "Bytes that clients have sent.", counter, []string{"door"}, bytesReceived},
		{"posta_sent_bytes_total", "Bytes that were sent to clients.", counter, []string{"door"}, bytesSent},
		{"posta_http_requests_total", "HTTP requests.", counter, nil, func(s *snapshot, emit emit) { emit(float64(s.web.Requests)) }},
		{"posta_http_requests_open", "HTTP requests that are being answered.", gauge, nil, func(s *snapshot, emit emit) { emit(float64(s.web.Running)) }},
		{"posta_refusals_total", "Requests that were refused, by door and code.", counter, []string{"door", "code"}, refusals},
		{"posta_slow_consumers_total", "Connections that were closed because their client did not read its replies.", counter, nil, func(s *snapshot, emit emit) { emit(float64(s.line.SlowConsumers)) }},
		{"posta_buffered_bytes", "Bytes that the node buffers for clients, up to the limit max-buffered.", gauge, nil, func(s *snapshot, emit emit) { emit(float64(s.buffered())) }},
		{"posta_workers", "Workers that are connected to this node.", gauge, nil, func(s *snapshot, emit emit) { emit(float64(len(s.workersNow))) }},
		{"posta_worker_slots", "Slots of these workers: free, held by attempts, or stuck in attempts that are over and unanswered.", gauge, []string{"state"}, workerSlots},
		{"posta_worker_adopted_total", "Leases that workers named when they connected again, and that went on.", counter, nil, func(s *snapshot, emit emit) { emit(float64(s.workersEver.Adopted)) }},
		{"posta_worker_lost_total", "Attempts whose worker has gone: died, silent (the network), or forgotten by a worker that came back.", counter, []string{"cause"}, workerLost},
		{"posta_runs_passed_on_total", "Direct runs that were sent to another node: missing (this node does not have the action) or full (it has no free slot).", counter, []string{"cause"}, runsPassedOn},
		{"posta_limit", "The limits of this node that are plain numbers, named like their flags; 0 means no limit.", gauge, []string{"name"}, limitsIn("")},
		{"posta_limit_bytes", "The limits of this node that are sizes, named like their flags.", gauge, []string{"name"}, limitsIn("bytes")},
		{"posta_limit_seconds", "The limits of this node that are times, named like their flags.", gauge, []string{"name"}, limitsIn("seconds")},
	}
}

func buildInfo(s *snapshot, emit emit) { emit(1, s.version, runtime.Version()) }

func ready(s *snapshot, emit emit) {
	if s.ready() != nil {
		emit(0)
		return
	}
	emit(1)
}

func tasksTotal(s *snapshot, emit emit) {
	for action, stats := range s.tasks.ByAction {
		emit(float64(stats.Done), action, executor.Done.String())
		emit(float64(stats.Failed), action, executor.Failed.String())
		emit(float64(stats.Panicked), action, executor.Panicked.String())
		emit(float64(stats.TimedOut), action, executor.TimedOut.String())
		emit(float64(stats.Cancelled), action, executor.Cancelled.String())
	}
}

func poolSlots(s *snapshot, emit emit) {
	emit(float64(s.tasks.Slots), "pool")
	emit(float64(s.tasks.QuickSlots), "quick")
}

func poolBusy(s *snapshot, emit emit) {
	emit(float64(s.tasks.SlotsBusy), "pool")
	emit(float64(s.tasks.QuickBusy), "quick")
}

func connectionsOpen(s *snapshot, emit emit) {
	emit(float64(s.line.Open), "lines")
	emit(float64(s.web.ConnectionsOpen), "http")
	emit(float64(s.undecided()), "undecided")
}

func connectionsTotal(s *snapshot, emit emit) {
	emit(float64(s.line.Opened), "lines")
	emit(float64(s.web.ConnectionsTotal), "http")
}

func bytesReceived(s *snapshot, emit emit) {
	emit(float64(s.line.BytesIn), "lines")
	emit(float64(s.web.BytesIn), "http")
}

func bytesSent(s *snapshot, emit emit) {
	emit(float64(s.line.BytesOut), "lines")
	emit(float64(s.web.BytesOut), "http")
}

func connectionsRefused(s *snapshot, emit emit) {
	emit(float64(s.refused()))
}

// refusals emits every code at both doors from the start, so that the first refusal is an
// increase and not a new series.
func refusals(s *snapshot, emit emit) {
	for _, code := range task.Codes() {
		emit(float64(s.line.Refusals[code]), "lines", string(code))
		emit(float64(s.web.Refused[code]), "http", string(code))
	}
}

func workerSlots(s *snapshot, emit emit) {
	var free, held, stuck int
	for i := range s.workersNow {
		w := &s.workersNow[i]
		if !w.Quiet {
			free += max(0, w.Slots-w.Held)
		}
		held += w.Held - w.Over
		stuck += w.Over
	}
	emit(float64(free), "free")
	emit(float64(held), "held")
	emit(float64(stuck), "stuck")
}

// workerLost emits every cause from the start, so that the first loss is an increase and not a new series.
func workerLost(s *snapshot, emit emit) {
	for _, cause := range []worker.Cause{worker.Died, worker.Forgotten, worker.Silent} {
		emit(float64(s.workersEver.Lost[cause]), string(cause))
	}
}

func runsPassedOn(s *snapshot, emit emit) {
	missing, full := s.passedOn()
	emit(float64(missing), string(task.PassedOnMissing))
	emit(float64(full), string(task.PassedOnFull))
}

// limitsIn returns the limits that have a unit. Each unit has a metric of its own, so that no
// query adds bytes to seconds.
func limitsIn(unit string) func(*snapshot, emit) {
	return func(s *snapshot, emit emit) {
		for _, limit := range s.limits.Table() {
			if limit.Unit() == unit {
				emit(limit.Number(), limit.Flag)
			}
		}
	}
}

// collector converts the counters of the parts to Prometheus' metrics at each scrape, so that
// the direct path only maintains its own counters.
type collector struct {
	source    metricsSource
	table     []metric
	descs     []*prometheus.Desc // in the order of table
	durations *prometheus.Desc
	waits     *prometheus.Desc
}

func newCollector(source metricsSource) *collector {
	c := &collector{source: source, table: metricsTable()}
	if source.durable != nil {
		c.table = append(c.table, durableTable()...)
	}
	for _, m := range c.table {
		c.descs = append(c.descs, prometheus.NewDesc(m.name, m.help, m.labels, nil))
	}
	c.durations = prometheus.NewDesc("posta_task_duration_seconds", "How long tasks ran, by action, without the wait for a slot.", []string{"action"}, nil)
	c.waits = prometheus.NewDesc("posta_queue_wait_seconds", "How long durable tasks had been due when this node started them, by queue.", []string{"queue"}, nil)
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range c.descs {
		descs <- desc
	}
	descs <- c.durations
	descs <- c.waits
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(metrics chan<- prometheus.Metric) {
	s := &snapshot{metricsSource: c.source, tasks: c.source.executor(), line: c.source.lines(), web: c.source.http()}
	s.workersNow, s.workersEver = c.source.workers()
	if c.source.durable != nil {
		s.kept, s.queue = c.source.durable()
	}
	for i, m := range c.table {
		m.values(s, func(value float64, labels ...string) {
			metrics <- prometheus.MustNewConstMetric(c.descs[i], m.kind, value, labels...)
		})
	}
	for action, stats := range s.tasks.ByAction {
		metrics <- histogram(c.durations, s.tasks.Bounds, action, stats.Buckets, stats.SumSeconds)
	}
	for queue, stats := range s.kept.ByQueue {
		metrics <- histogram(c.waits, s.kept.WaitBounds, queue, stats.Waits, stats.WaitSeconds)
	}
}

// histogram converts counts that are not cumulative. buckets has one more element than bounds,
// for the values above all bounds.
func histogram(desc *prometheus.Desc, bounds []float64, label string, buckets []int64, sum float64) prometheus.Metric {
	var count uint64
	cumulative := make(map[float64]uint64, len(bounds))
	for i, n := range buckets {
		count += uint64(n)
		if i < len(bounds) {
			cumulative[bounds[i]] = count
		}
	}
	return prometheus.MustNewConstHistogram(desc, count, sum, cumulative, label)
}
