package dashboard

import (
	"html/template"
	"net/http"
	"slices"
	"time"

	"github.com/posta-tasks/posta/store"
	"github.com/posta-tasks/posta/task"
)

// overviewBody is the data of the first page.
type overviewBody struct {
	Findings  []finding
	Totals    map[string]int64 // of all queues, by state
	RateIn    float64
	RateOut   float64
	Oldest    time.Duration
	Queues    []task.Queue
	Nodes     int
	Workers   int
	Slots     int
	Busy      int
	Map       template.HTML
	Spans     []Span
	Past      Past
	Ended     template.HTML
	Runs      template.HTML
	Backlog   template.HTML
	EndedRows []row
	Actions   []topAction
	All       bool // the visitor may see the whole system
}

// row is a row of the table beside a chart.
type row struct {
	When   string
	Values []string
}

// overview shows whether anything is wrong, and what the system does.
func (d *Dashboard) overview(q *request) *task.Error {
	span := q.r.URL.Query().Get("span")
	known := slices.ContainsFunc(Spans(), func(s Span) bool { return s.Name == span })
	if span != "" && !known {
		return task.RefuseField(task.InvalidRequest, "span", "%s", q.lang.text("error.span"))
	}
	s := d.look(q)
	b := overviewBody{Findings: d.findings(q, s), Queues: s.queues, Nodes: len(s.nodes), Workers: len(s.workers), Spans: Spans(), Totals: map[string]int64{}}
	for _, one := range s.queues {
		b.Totals["scheduled"] += one.Scheduled
		b.Totals["queued"] += one.Queued
		b.Totals["running"] += one.Running
		b.Totals["failed"] += one.Failed
		b.RateIn += one.RateIn
		b.RateOut += one.RateOut
		b.Oldest = max(b.Oldest, one.OldestAge)
	}
	slices.SortStableFunc(b.Queues, func(a, b task.Queue) int { return int(b.Queued + b.Running - a.Queued - a.Running) })
	b.Queues = b.Queues[:min(8, len(b.Queues))]
	for _, n := range s.nodes {
		b.Slots += n.Slots
	}
	for _, c := range s.latest {
		b.Busy += c.Busy
	}
	if len(s.nodes) == 0 {
		for _, c := range s.latest {
			b.Slots += c.Slots
		}
	}
	if b.All = s.all; b.All {
		b.Map = topology(q, s)
		d.charts(q, &b, span)
		b.Actions = topActions(s.latest, 8)
	}
	q.show(http.StatusOK, "overview", "overview.title", &frame{Body: b, Part: "overview"})
	return nil
}

// charts draws the history.
func (d *Dashboard) charts(q *request, b *overviewBody, span string) {
	l := q.lang
	b.Past = d.config.History.Past(span, q.now)
	p := &b.Past
	from, to := l.text("time.ago", l.coarse(p.Span.Step*time.Duration(p.Span.Count))), l.text("time.now")
	b.Ended = chart(l.text("overview.ended"), []series{
		{"done", l.text("state.done"), p.Ended[0]}, {"failed", l.text("state.failed"), p.Ended[1]}, {"cancelled", l.text("state.cancelled"), p.Ended[2]},
	}, from, to, l.rate)
	b.Runs = chart(l.text("overview.runs"), []series{
		{"done", l.text("state.done"), p.Runs[0]}, {"failed", l.text("state.failed"), p.Runs[1]}, {"queued", l.text("state.timed_out"), p.Runs[2]}, {"cancelled", l.text("state.cancelled"), p.Runs[3]},
	}, from, to, l.rate)
	b.Backlog = chart(l.text("overview.backlog"), []series{{"queued", l.text("overview.backlog"), p.Backlog}}, from, to, func(x float64) string { return l.decimal(x, 1) })
	const rows = 10
	size := (len(p.Backlog) + rows - 1) / rows
	for end := len(p.Backlog); end > 0; end -= size {
		begin0 := max(0, end-size)
		r := row{When: l.text("time.ago", l.coarse(p.Span.Step*time.Duration(len(p.Backlog)-begin0)))}
		for _, values := range [][]float64{p.Ended[0], p.Ended[1], p.Ended[2], p.Runs[0], p.Runs[1], p.Backlog} {
			r.Values = append(r.Values, l.rate(mean(values[begin0:end])))
		}
		b.EndedRows = append(b.EndedRows, r)
	}
}

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(max(1, len(values)))
}

// state is the system as it is now. What the store did not answer is empty.
type state struct {
	queues  []task.Queue
	nodes   []task.Node
	workers []task.Worker
	latest  map[string]Counters // of the nodes of this process
	running map[string]int      // running tasks by node, for the nodes of other processes; at most searchPage
	parts   Parts
	refusal *task.Error
	all     bool // the visitor may see the whole system
}

// look collects what the system does now, in a bounded number of calls.
func (d *Dashboard) look(q *request) *state {
	source := d.config.Source
	s := &state{parts: source.Parts(), latest: d.config.History.Latest(q.now), running: map[string]int{}}
	s.workers, _ = source.Workers(q.ctx())
	s.all = source.SeesAll(q.ctx())
	if !s.all {
		s.latest = nil
	}
	if !source.Keeps() {
		return s
	}
	s.queues, s.refusal = source.Queues(q.ctx())
	nodes, refusal := source.Nodes(q.ctx())
	s.nodes = nodes
	if s.refusal == nil {
		s.refusal = refusal
	}
	if len(s.latest) >= len(s.nodes) { // this process has them all
		return s
	}
	page, _ := source.List(q.ctx(), store.Query{State: task.Running, Limit: searchPage})
	for i := range page.Tasks {
		s.running[page.Tasks[i].Node]++
	}
	return s
}

// busy returns how many slots of a node are in use, and how many tasks wait for one.
func (s *state) busy(n *task.Node) (busy, waiting int) {
	if c, ok := s.latest[n.Name]; ok {
		return c.Busy, c.Waiting
	}
	return min(n.Slots, s.running[n.Name]), 0
}

// finding is something that a person should know, in words.
type finding struct {
	Level string // bad, warn or good
	Text  string
	Link  string // relative to /
	More  string // the text of the link
}

const (
	// lateAfter is how long a task may be due until its queue is a finding.
	lateAfter = time.Minute
	// silentAfter is how long a node may be silent until it is a finding; a heartbeat comes every five seconds.
	silentAfter = 11 * time.Second
	// maxFindings is how many findings of one kind are shown.
	maxFindings = 5
)

// findings returns what is wrong, worst first.
func (d *Dashboard) findings(q *request, s *state) []finding {
	l := q.lang
	var bad, warn []finding
	if s.refusal != nil && s.refusal.Code != task.Forbidden || s.parts.StoreAway {
		bad = append(bad, finding{"bad", l.text("find.store"), "settings", l.text("nav.settings")})
	}
	if s.parts.BrokerAway {
		bad = append(bad, finding{"bad", l.text("find.broker"), "settings", l.text("nav.settings")})
	}
	if s.parts.BlobsAway {
		bad = append(bad, finding{"bad", l.text("find.blobs"), "settings", l.text("nav.settings")})
	}
	bad = append(bad, d.unserved(q, s)...)
	warn = append(warn, d.silentNodes(q, s)...)
	for _, n := range s.nodes {
		if n.Stuck > 0 {
			warn = append(warn, finding{"warn", l.text("find.stuck", visible(n.Name), l.number(int64(n.Stuck))), "nodes", l.text("nav.nodes")})
		}
	}
	for _, w := range s.workers {
		if w.Stuck {
			warn = append(warn, finding{"warn", l.text("find.stuckworker", visible(w.Name)), "nodes", l.text("nav.nodes")})
		}
	}
	for _, one := range s.queues {
		link := "tasks" + queryOf("queue", one.Name, "state", string(task.Queued))
		switch {
		case one.Paused && one.Queued > 0:
			warn = append(warn, finding{"warn", l.text("find.paused", one.Name, l.count("tasks", one.Queued)), "queues", l.text("find.seequeue")})
		case one.OldestAge > lateAfter && !one.Unserved:
			warn = append(warn, finding{"warn", l.text("find.late", one.Name, l.span(one.OldestAge), l.count("tasks", one.Queued)), link, l.text("find.seetasks")})
		}
	}
	if past := d.config.History.Past("5m", q.now); s.all && past.Failed > 0 {
		warn = append(warn, finding{"warn", l.count("find.failed", past.Failed), "failures", l.text("nav.failures")})
	}
	if s.parts.Draining {
		warn = append(warn, finding{"warn", l.text("find.draining"), "nodes", l.text("nav.nodes")})
	}
	list := append(bad, warn...)
	if len(list) == 0 && !s.all {
		return []finding{{"good", l.text("find.partly"), "tasks", l.text("find.seetasks")}}
	}
	if len(list) == 0 && d.config.Source.Keeps() {
		return []finding{{"good", l.text("find.good", l.count("nodes", int64(len(s.nodes))), l.count("queues", int64(len(s.queues)))), "", ""}}
	}
	if len(list) == 0 {
		return []finding{{"good", l.text("find.nostore"), "try", l.text("nav.try")}}
	}
	return list[:min(len(list), 3*maxFindings)]
}

// unserved names the actions that no node has, for the queues whose tasks wait for one.
func (d *Dashboard) unserved(q *request, s *state) (list []finding) {
	for _, one := range s.queues {
		if !one.Unserved || len(list) >= maxFindings {
			continue
		}
		action, count := "", 0
		for _, state := range []task.State{task.Queued, task.Scheduled} {
			page, _ := d.config.Source.List(q.ctx(), store.Query{Queue: one.Name, State: state, Limit: maxAhead})
			for i := range page.Tasks {
				a := page.Tasks[i].Action
				served := slices.ContainsFunc(s.nodes, func(n task.Node) bool {
					return slices.Contains(n.Actions, a) && (slices.Contains(n.Queues, one.Name) || slices.Contains(n.Queues, "*"))
				})
				if !served && (action == "" || a == action) {
					action, count = a, count+1
				}
			}
		}
		text := q.lang.text("find.unserved", one.Name)
		link := "tasks" + queryOf("queue", one.Name)
		if action != "" {
			text = q.lang.text("find.unservedaction", q.lang.count("tasks", int64(count)), one.Name, visible(brief(action, 60)))
			link = "tasks" + queryOf("queue", one.Name, "action", action)
		}
		list = append(list, finding{"bad", text, link, q.lang.text("find.seetasks")})
	}
	return list
}

// silentNodes names nodes whose heartbeats are missing.
func (d *Dashboard) silentNodes(q *request, s *state) (list []finding) {
	var newest time.Time
	for _, n := range s.nodes {
		if n.Seen.After(newest) {
			newest = n.Seen
		}
	}
	if !s.all {
		return nil
	}
	silent := d.live.gone(s.nodes, q.now)
	for _, n := range s.nodes {
		if age := newest.Sub(n.Seen); age > silentAfter {
			silent[n.Name] = age
		}
	}
	for _, name := range sortedKeys(silent) {
		if silent[name] > silentAfter && len(list) < maxFindings {
			list = append(list, finding{"warn", q.lang.text("find.silent", visible(name), q.lang.span(silent[name].Truncate(time.Second))), "nodes", q.lang.text("nav.nodes")})
		}
	}
	return list
}

// topology draws the parts of the system and how they are connected.
func topology(q *request, s *state) template.HTML {
	const most, width, boxWidth = 8, 980.0, 214.0
	l := q.lang
	nodes := s.nodes
	if len(nodes) == 0 {
		for _, name := range sortedKeys(s.latest) {
			nodes = append(nodes, task.Node{Name: name, Slots: s.latest[name].Slots})
		}
	}
	shown := nodes[:min(most, len(nodes))]
	workers := s.workers[:min(most, len(s.workers))]
	rows := max(len(shown), len(workers)/2+1, 3)
	height := float64(rows)*74 + 22
	d := beginAs("group", width, height, l.text("map.name"))
	middle := height / 2
	m := &mapping{d, q, width, height}
	step := (height - 10) / float64(max(1, len(shown)))
	var inWork int64
	for _, one := range s.queues {
		inWork += one.Running
	}
	for i := range shown {
		y := 5 + step*(float64(i)+0.5)
		busy, _ := s.busy(&shown[i])
		m.wire(170, middle, 250, y, busy > 0)
		m.wire(250+boxWidth, y, 546, middle, inWork > 0)
	}
	m.box(6, middle-27, 164, 54, "", l.text("map.clients"), l.text("map.clientsnote"), false)
	for i := range shown {
		y := 5 + step*(float64(i)+0.5)
		busy, waiting := s.busy(&shown[i])
		note := l.text("map.slots", l.number(int64(busy)), l.number(int64(shown[i].Slots)))
		if waiting > 0 {
			note += " · " + l.text("map.waiting", l.number(int64(waiting)))
		}
		m.box(250, y-31, boxWidth, 62, "nodes", brief(visible(shown[i].Name), 24), note, false)
		m.slots(264, y+14, boxWidth-28, busy, shown[i].Slots)
	}
	if extra := len(nodes) - len(shown); extra > 0 {
		d.label("note", 250+boxWidth/2, height-2, "middle", l.text("map.more", l.number(int64(extra))))
	}
	m.parts(s, middle, inWork)
	return d.end()
}

// mapping draws a topology.
type mapping struct {
	*drawing
	q             *request
	width, height float64
}

// parts draws the queues with their store in the middle, and what is to their right.
func (m *mapping) parts(s *state, middle float64, running int64) {
	l, x := m.q.lang, 546.0
	var waiting int64
	for _, one := range s.queues {
		waiting += one.Queued + one.Scheduled
	}
	away := s.parts.StoreAway || s.refusal != nil
	type part struct {
		link, name, note string
		away             bool
	}
	var right []part
	if s.parts.Broker != "" {
		right = append(right, part{"settings", l.text("map.broker"), visible(s.parts.Broker), s.parts.BrokerAway})
	}
	if s.parts.Blobs != "" {
		right = append(right, part{"settings", l.text("map.blobs"), visible(s.parts.Blobs), s.parts.BlobsAway})
	}
	var held int
	for _, w := range s.workers {
		held += w.Held
	}
	note := l.text("map.noworkers")
	if len(s.workers) > 0 {
		var slots int
		for _, w := range s.workers {
			slots += w.Slots
		}
		note = l.count("workers", int64(len(s.workers))) + " · " + l.text("map.slots", l.number(int64(held)), l.number(int64(slots)))
	}
	right = append(right, part{"nodes", l.text("map.workers"), note, false})
	if s.parts.Store == "" {
		m.box(x, middle-31, 178, 62, "try", l.text("map.nostore"), l.text("map.nostorenote"), false)
	} else {
		step := (m.height - 10) / float64(len(right))
		for i := range right {
			m.wire(x+178, middle, 796, 5+step*(float64(i)+0.5), right[i].link == "nodes" && held > 0)
		}
		m.box(x, middle-40, 178, 80, "queues", l.text("map.store"), visible(s.parts.Store), away)
		m.label("note", x+16, middle+27, "start", l.text("map.waits", l.number(waiting), l.number(running)))
	}
	step := (m.height - 10) / float64(len(right))
	for i, p := range right {
		y := 5 + step*(float64(i)+0.5)
		m.box(796, y-27, 178, 54, p.link, p.name, p.note, p.away)
	}
}

// box draws a part, as a link if it has one.
func (m *mapping) box(x, y, w, h float64, link, name, note string, away bool) {
	class := "box"
	if away {
		class += " away"
		note = m.q.lang.text("map.away")
	}
	if link != "" {
		m.raw(`<a href="` + m.q.root() + link + `">`)
	}
	m.rect(class, x, y, w, h, 10)
	top := y + h/2 - 4
	if h > 60 {
		top = y + 22
	}
	m.label("", x+16, top, "start", name)
	m.label("note", x+16, top+17, "start", note)
	if link != "" {
		m.raw(`</a>`)
	}
}

// wire connects two points with a curve.
func (m *mapping) wire(x1, y1, x2, y2 float64, busy bool) {
	class := "wire"
	if busy {
		class += " busy"
	}
	bend := (x2 - x1) / 2
	m.path(class, "M"+coord(x1)+" "+coord(y1)+"C"+coord(x1+bend)+" "+coord(y1)+" "+coord(x2-bend)+" "+coord(y2)+" "+coord(x2)+" "+coord(y2))
}

// slots draws the slots of a node: one mark each, or as many as there is room for, filled in proportion.
func (m *mapping) slots(x, y, w float64, busy, slots int) {
	const gap, most = 3.0, 24
	n := max(1, min(slots, most))
	on := busy
	if slots > most {
		on = (busy*most + slots - 1) / slots
	}
	size := min(14, (w-gap*float64(n-1))/float64(n))
	for i := range n {
		class := "slot"
		if i < on {
			class += " on"
		}
		m.rect(class, x+float64(i)*(size+gap), y, size, 7, 2)
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
