package contest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/posta-tasks/posta/bench/lab"
	"github.com/posta-tasks/posta/bench/load"
	"github.com/posta-tasks/posta/bench/tasks"
)

// contender is a system that keeps tasks, and runs.
type contender struct {
	name string
	safe string // what an acknowledged task survives
	// bulk tells whether many tasks can be enqueued in one call, or without waiting for the answer to each.
	bulk    bool
	measure func(context.Context, tasks.Round) (tasks.Sample, error)
	steady  func(ctx context.Context, rate int, d time.Duration) (tasks.Sample, error)
}

// peerKind is how one of the others is started.
type peerKind struct {
	name, safe, client string
	bulk               bool
	// most bounds the tasks of a round for one that takes longer to work tasks than to accept them; 0: no bound.
	most   int
	server func(l *lab.Lab, ctx context.Context, dir string) (*lab.Process, error) // nil: it lives in its client
}

func peerKinds() []peerKind {
	beanstalkd := func(flags ...string) func(*lab.Lab, context.Context, string) (*lab.Process, error) {
		return func(l *lab.Lab, ctx context.Context, dir string) (*lab.Process, error) {
			if len(flags) == 0 {
				return l.Beanstalkd(ctx)
			}
			return l.Beanstalkd(ctx, append([]string{"-b", dir}, flags...)...)
		}
	}
	return []peerKind{
		{"beanstalkd-f0", "power loss", "beanstalkd", true, 20_000, beanstalkd("-f0")},
		{"beanstalkd", "kill -9 (fsync within 50 ms)", "beanstalkd", true, 0, beanstalkd("-f50")},
		{"beanstalkd-memory", "nothing", "beanstalkd", true, 0, beanstalkd()},
		{"asynq", "power loss", "asynq", false, 4_000, (*lab.Lab).Redis},
		{"river", "power loss", "river", true, 4_000, nil},
	}
}

func peerNames() []string {
	var names []string
	for _, k := range peerKinds() {
		names = append(names, k.name)
	}
	return names
}

// contenders starts all systems, once for all parts that compare them. Peers that are not installed are left out.
func (b *durableBench) contenders(ctx context.Context) ([]*contender, error) {
	if b.group != nil {
		return b.group, nil
	}
	for _, start := range []func(context.Context) (*contender, error){b.oneNode, b.threeNodes} {
		c, err := start(ctx)
		if err != nil {
			return nil, err
		}
		b.group = append(b.group, c)
	}
	if len(b.peers) == 0 {
		return b.group, nil
	}
	program, err := b.lab.BuildPeers(ctx)
	if err != nil {
		b.absent = append(b.absent, "all peers: "+err.Error())
		return b.group, nil
	}
	for _, kind := range peerKinds() {
		c, err := b.peer(ctx, program, kind)
		switch {
		case errors.Is(err, lab.ErrMissing):
			b.absent = append(b.absent, kind.name+": "+err.Error())
		case err != nil:
			return nil, fmt.Errorf("%s: %w", kind.name, err)
		default:
			b.group = append(b.group, c)
		}
	}
	return b.group, nil
}

func (b *durableBench) oneNode(ctx context.Context) (*contender, error) {
	p, err := b.keeper(ctx, "node")
	return postaContender("Posta, one node", p), err
}

func (b *durableBench) threeNodes(ctx context.Context) (*contender, error) {
	dir, err := b.lab.Dir("up")
	if err != nil {
		return nil, err
	}
	p, err := b.lab.Up(ctx, dir)
	if err != nil {
		return nil, err
	}
	return postaContender("Posta, `posta up`", p), b.prepare(ctx, p)
}

// keeper starts one node with an empty store.
func (b *durableBench) keeper(ctx context.Context, name string) (*lab.Process, error) {
	dir, err := b.lab.Dir(name)
	if err != nil {
		return nil, err
	}
	p, err := b.lab.Keeper(ctx, dir)
	if err != nil {
		return nil, err
	}
	return p, b.prepare(ctx, p)
}

// prepare verifies a fresh Posta, whose records may all be read for once, and pauses the queue of waiting tasks.
func (b *durableBench) prepare(ctx context.Context, p *lab.Process) error {
	if err := b.lab.Served(ctx, p); err != nil {
		return err
	}
	if err := tasks.Verify(ctx, targetOfPosta(p)); err != nil {
		return err
	}
	control, err := tasks.Open(ctx, p.Addr)
	if err != nil {
		return err
	}
	defer control.Close()
	return control.Pause(tasks.Backlog)
}

func targetOfPosta(p *lab.Process) tasks.Target { return tasks.Target{Addr: p.Addr, PID: p.PID()} }

func postaContender(name string, p *lab.Process) *contender {
	if p == nil {
		return nil
	}
	return &contender{
		name: name, safe: "power loss", bulk: true,
		measure: func(ctx context.Context, r tasks.Round) (tasks.Sample, error) {
			return tasks.Measure(ctx, targetOfPosta(p), r)
		},
		steady: func(ctx context.Context, rate int, d time.Duration) (tasks.Sample, error) {
			return tasks.Steady(ctx, targetOfPosta(p), rate, d)
		},
	}
}

// peer starts one of the others: its server, if it has one, and its client. The client is frozen except while it is
// measured, since some look for tasks many times a second.
func (b *durableBench) peer(ctx context.Context, program string, kind peerKind) (*contender, error) {
	if !slices.Contains(b.peers, kind.name) {
		return nil, fmt.Errorf("not asked for, so %w", lab.ErrMissing)
	}
	dir, err := b.lab.Dir(kind.name)
	if err != nil {
		return nil, err
	}
	place, server := filepath.Join(dir, "river.db"), 0
	if kind.server != nil {
		p, err := kind.server(b.lab, ctx, dir)
		if err != nil {
			return nil, err
		}
		place, server = p.Addr, p.PID()
	}
	client, err := b.lab.Peer(ctx, program, kind.client, place)
	if err != nil {
		return nil, err
	}
	c := &contender{name: kind.name, safe: kind.safe, bulk: kind.bulk}
	c.measure = func(_ context.Context, r tasks.Round) (tasks.Sample, error) {
		return b.askPeer(client, server, peerRequest{
			Producers: r.Connections, Batch: r.Depth, Work: r.Queue == tasks.Worked, For: r.For, Most: kind.most,
		})
	}
	c.steady = func(_ context.Context, rate int, d time.Duration) (tasks.Sample, error) {
		return b.askPeer(client, server, peerRequest{Producers: workedShape.Connections, Batch: 1, Work: true, For: d, Rate: rate})
	}
	return c, client.Freeze()
}

// peerRequest is a round of a peer, and peerAnswer what came of it, as bench/peers reads and writes them.
type peerRequest struct {
	Producers int           `json:"producers"`
	Batch     int           `json:"batch"`
	Work      bool          `json:"work"`
	For       time.Duration `json:"for_ns"`
	Most      int           `json:"most"`
	Rate      int           `json:"rate"`
}

type peerAnswer struct {
	Tasks int           `json:"tasks"`
	Took  time.Duration `json:"took_ns"`
	P50   time.Duration `json:"p50_ns"`
	P99   time.Duration `json:"p99_ns"`
	Error string        `json:"error"`
}

func (b *durableBench) askPeer(client *lab.Process, server int, r peerRequest) (tasks.Sample, error) {
	if err := client.Thaw(); err != nil {
		return tasks.Sample{}, err
	}
	text, err := json.Marshal(r)
	if err != nil {
		return tasks.Sample{}, err
	}
	cpu := load.CPUTime(client.PID()) + load.CPUTime(server)
	line, err := b.lab.Ask(client, string(text))
	if err != nil {
		return tasks.Sample{}, err
	}
	cpu = load.CPUTime(client.PID()) + load.CPUTime(server) - cpu
	var a peerAnswer
	if err := json.Unmarshal([]byte(line), &a); err != nil {
		return tasks.Sample{}, err
	}
	if a.Error != "" {
		return tasks.Sample{}, errors.New(a.Error)
	}
	out, err := tasks.SampleOf(a.Tasks, a.Took, cpu)
	out.P50, out.P99 = float64(a.P50)/float64(time.Microsecond), float64(a.P99)/float64(time.Microsecond)
	return out, errors.Join(err, client.Freeze())
}
