package contest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/posta-tasks/posta/lab/bench/load"
	"github.com/posta-tasks/posta/lab/bench/report"
	"github.com/posta-tasks/posta/lab/bench/tasks"
)

// perTaskGoal is how many statements, and how many messages, a task may cost at full load.
const perTaskGoal = 0.2

// counted is what a round cost on the servers.
type counted struct {
	Load       string             `json:"load"`
	Sample     tasks.Sample       `json:"sample"`
	Statements float64            `json:"statements"` // a task
	Messages   float64            `json:"messages"`   // a task, published by the nodes
	By         map[string]float64 `json:"by"`         // statements a task, by kind
	Rows       map[string]float64 `json:"rows"`       // rows that they returned, a task
	CPU        []float64          `json:"cpu"`        // microseconds a task: PostgreSQL, RabbitMQ, nodes, load
}

// parts are the processes whose CPU time is reported separately.
func (c *cluster) parts() [][]int {
	nodes := []int{c.door.Pid()}
	for _, p := range c.workers {
		nodes = append(nodes, p.Pid())
	}
	return [][]int{{c.db.PID}, {c.broker.PID}, nodes}
}

func (c *cluster) cpu() []time.Duration {
	var out []time.Duration
	for _, pids := range c.parts() {
		out = append(out, load.CPUOf(pids))
	}
	return append(out, load.CPUTime(os.Getpid()))
}

// statements counts the statements in PostgreSQL and the messages in RabbitMQ of a task at full load.
func (b *durableBench) statements(ctx context.Context) ([]report.Section, error) {
	c, err := b.theCluster(ctx)
	if err != nil {
		return nil, err
	}
	out := report.Section{
		Title: "Statements and messages per task, three nodes",
		Head:  []string{"load", "statements a task", "AMQP messages a task", "tasks/s", "CPU µs/task: PostgreSQL, RabbitMQ, nodes, load", "the most frequent statements a task (rows a task)"},
		Notes: []string{"The counts come from pg_stat_statements and from the counters of RabbitMQ. They include statements that begin and end transactions, and those of the heartbeats."},
	}
	var data []counted
	for _, r := range []struct {
		name  string
		shape load.Shape
		to    tasks.Target
	}{
		{"one task a call", callShape, c.workersTarget()},
		{"128 at once", workedShape, c.workersTarget()},
		{"128 at once, by a node that works none", workedShape, c.doorTarget()},
	} {
		one, err := b.countRound(ctx, c, r.to, tasks.Round{Shape: r.shape, Queue: tasks.Worked, For: 4 * b.round, Keep: keepLong})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.name, err)
		}
		one.Load = r.name
		data = append(data, one)
		statements, messages := fmt.Sprintf("%.3f", one.Statements), fmt.Sprintf("%.3f", one.Messages)
		if r.shape == workedShape { // full load
			statements = reach(statements, one.Statements < perTaskGoal, fmt.Sprint(perTaskGoal))
			messages = reach(messages, one.Messages < perTaskGoal, fmt.Sprint(perTaskGoal))
		}
		out.Rows = append(out.Rows, []string{
			r.name, statements, messages, report.Thousands(one.Sample.Rate), fmt.Sprintf("%.0f", one.CPU), one.most(),
		})
	}
	out.Data = data
	return []report.Section{out}, nil
}

// countRound measures a round while the servers count.
func (b *durableBench) countRound(ctx context.Context, c *cluster, to tasks.Target, r tasks.Round) (counted, error) {
	conn, err := pgx.Connect(ctx, c.db.URL)
	if err != nil {
		return counted{}, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := count(ctx, conn, "all"); err != nil {
		return counted{}, err
	}
	before, err := c.messages()
	if err != nil {
		return counted{}, err
	}
	cpu := c.cpu()
	sample, err := tasks.Measure(ctx, to, r)
	if err != nil {
		return counted{}, err
	}
	used := c.cpu()
	after, err := c.messages()
	if err != nil {
		return counted{}, err
	}
	if err := count(ctx, conn, "none"); err != nil {
		return counted{}, err
	}
	n := float64(sample.Tasks)
	out := counted{Sample: sample, Messages: float64(after-before) / n, By: map[string]float64{}, Rows: map[string]float64{}}
	for i := range used {
		out.CPU = append(out.CPU, float64(used[i]-cpu[i])/float64(time.Microsecond)/n)
	}
	rows, err := conn.Query(ctx, "SELECT query, calls, rows FROM pg_stat_statements")
	if err != nil {
		return counted{}, err
	}
	var text string
	var calls, given int64
	_, err = pgx.ForEachRow(rows, []any{&text, &calls, &given}, func() error {
		out.By[kindOf(text)] += float64(calls) / n
		out.Rows[kindOf(text)] += float64(given) / n
		out.Statements += float64(calls) / n
		return nil
	})
	return out, err
}

// count makes PostgreSQL count statements from 0, or stop counting.
func count(ctx context.Context, conn *pgx.Conn, which string) error {
	for _, text := range []string{
		"CREATE EXTENSION IF NOT EXISTS pg_stat_statements", "ALTER SYSTEM SET pg_stat_statements.track = '" + which + "'",
		"SELECT pg_reload_conf()", "SELECT pg_sleep(0.3)",
	} {
		if _, err := conn.Exec(ctx, text); err != nil {
			return err
		}
	}
	if which == "none" {
		return nil
	}
	_, err := conn.Exec(ctx, "SELECT pg_stat_statements_reset()")
	return err
}

func countOn(ctx context.Context, url, which string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return count(ctx, conn, which)
}

// kinds recognises each kind of statement by a text that only it contains.
var kinds = []struct{ has, name string }{
	{"INSERT INTO keys", "accept"}, {"ask, again_at", "record"}, {"asked_attempt", "record"}, {"fronts AS", "claim next"},
	{"rooms AS", "claim by ids"}, {"renewed AS", "renew"}, {"becomes", "reap"}, {"begin", "begin"}, {"commit", "commit"},
	{"WITH ORDINALITY AS a(asked, ord)", "get"}, {"bucket_end", "tend"}, {"FROM queues", "queues"}, {"nodes", "beat"},
}

func kindOf(text string) string {
	for _, k := range kinds {
		if strings.Contains(text, k.has) {
			return k.name
		}
	}
	words := strings.Fields(text)
	return strings.ToLower(strings.Join(words[:min(3, len(words))], " "))
}

// most lists the most frequent statements, with the rows that each returned per task.
func (c *counted) most() string {
	var parts []string
	for _, name := range slices.SortedFunc(maps.Keys(c.By), func(a, b string) int { return cmp.Compare(c.By[b], c.By[a]) }) {
		if len(parts) < 5 {
			parts = append(parts, fmt.Sprintf("%s %.3f (%.2f)", name, c.By[name], c.Rows[name]))
		}
	}
	return strings.Join(parts, ", ")
}

// received matches the counters of RabbitMQ for published messages, one for each protocol and kind of queue.
var received = regexp.MustCompile(`messages_received_total\s*=>\s*(\d+)`)

// messages returns how many messages RabbitMQ has received.
func (c *cluster) messages() (sum int64, err error) {
	text, err := c.broker.Control("eval", "rabbit_global_counters:overview().")
	if err != nil {
		return 0, err
	}
	found := received.FindAllStringSubmatch(text, -1)
	if len(found) == 0 {
		return 0, fmt.Errorf("no messages_received_total in %s", text)
	}
	for _, match := range found {
		n, err := strconv.ParseInt(match[1], 10, 64)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// weighed has the sizes of the tables after a number of tasks.
type weighed struct {
	Passed   int           `json:"passed"`
	Took     time.Duration `json:"took_ns"`
	Tasks    int64         `json:"tasks"`    // bytes of the table of unfinished tasks
	Indexes  int64         `json:"indexes"`  // bytes of its indexes
	Finished int64         `json:"finished"` // bytes of the partitions of finished tasks, with indexes
	Rest     int64         `json:"rest"`     // bytes of the other tables, with indexes
}

const weigh = `SELECT pg_table_size('posta.tasks'), pg_indexes_size('posta.tasks'),
	(SELECT coalesce(sum(pg_total_relation_size(inhrelid)), 0)::bigint FROM pg_inherits WHERE inhparent = 'posta.finished'::regclass),
	(SELECT sum(pg_total_relation_size('posta.' || name))::bigint FROM unnest(ARRAY['keys', 'queues', 'counts', 'nodes', 'sweep']) AS t(name))`

// passed measures the tables while very many tasks pass through, each kept for a second.
func (b *durableBench) passed(ctx context.Context) ([]report.Section, error) {
	c, err := b.startCluster(ctx)
	if err != nil {
		return nil, err
	}
	defer b.endCluster(c)
	conn, err := pgx.Connect(ctx, c.db.URL)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	out := report.Section{
		Title: "Tables while tasks pass through, each kept for a second",
		Head:  []string{"passed", "tasks/s", "unfinished tasks", "its indexes", "finished tasks, indexes included", "the rest"},
		Notes: []string{"A partition of finished tasks has those of ten minutes, and is dropped when the last of them has gone."},
	}
	var data []weighed
	began := time.Now()
	const weighings = 10
	for sum := 0; len(data) < weighings; {
		r := tasks.Round{Shape: workedShape, Queue: tasks.Worked, For: time.Hour, Most: b.pass / weighings / workedShape.Connections, Keep: 1, Unread: true}
		sample, err := tasks.Measure(ctx, c.workersTarget(), r)
		if err != nil {
			return []report.Section{out}, err
		}
		sum += sample.Tasks
		w := weighed{Passed: sum, Took: time.Since(began)}
		if err := conn.QueryRow(ctx, weigh).Scan(&w.Tasks, &w.Indexes, &w.Finished, &w.Rest); err != nil {
			return []report.Section{out}, err
		}
		b.lab.Say("  %d tasks have passed: %+v", sum, w)
		data = append(data, w)
		out.Rows = append(out.Rows, []string{
			report.Thousands(float64(sum)), report.Thousands(sample.Rate), report.Mebibytes(w.Tasks),
			report.Mebibytes(w.Indexes), report.Mebibytes(w.Finished), report.Mebibytes(w.Rest),
		})
	}
	out.Data = data
	return []report.Section{out}, nil
}
