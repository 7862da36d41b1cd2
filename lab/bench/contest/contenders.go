package contest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/posta-tasks/posta/lab/bench/lab"
	"github.com/posta-tasks/posta/lab/bench/load"
	"github.com/posta-tasks/posta/lab/bench/tasks"
)

// contender is a system that is compared, and is running.
type contender struct {
	name string
	safe string // what an acknowledged task survives
	// bulk reports whether many tasks can be enqueued in one call, or without waiting for the answer to each.
	bulk    bool
	measure func(context.Context, tasks.Round) (tasks.Sample, error)
	steady  func(ctx context.Context, rate int, d time.Duration) (tasks.Sample, error)
}

// peerKind describes how another system is started.
type peerKind struct {
	name, safe, client string
	bulk               bool
	// most is the largest number of tasks in a round, for a system that takes longer to run tasks than to accept
	// them; 0: no limit.
	most   int
	server func(b *durableBench, ctx context.Context, dir string) (place, error)
}

// place is where a peer keeps its tasks, in the format of its client, and the processes that keep them.
type place struct {
	name string
	pids []int
}

func placeOf(p *lab.Process, err error) (place, error) {
	if err != nil {
		return place{}, err
	}
	return place{p.Addr, []int{p.Pid()}}, nil
}

func peerKinds() []peerKind {
	beanstalkd := func(flags ...string) func(*durableBench, context.Context, string) (place, error) {
		return func(b *durableBench, ctx context.Context, dir string) (place, error) {
			if len(flags) == 0 {
				return placeOf(b.lab.Beanstalkd(ctx))
			}
			return placeOf(b.lab.Beanstalkd(ctx, append([]string{"-b", dir}, flags...)...))
		}
	}
	return []peerKind{
		{name: "beanstalkd-f0", safe: powerLoss, client: "beanstalkd", bulk: true, most: 20_000, server: beanstalkd("-f0")},
		{name: "beanstalkd", safe: "kill -9 (fsync within 50 ms)", client: "beanstalkd", bulk: true, server: beanstalkd("-f50")},
		{name: "beanstalkd-memory", safe: "nothing", client: "beanstalkd", bulk: true, server: beanstalkd()},
		{name: "asynq", safe: powerLoss, client: "asynq", most: 4_000, server: redis},
		{name: "river", safe: powerLoss, client: "river", bulk: true, most: 4_000, server: inFile},
	}
}

// powerLoss says that an acknowledged task was synced to the disk.
const powerLoss = "power loss"

func redis(b *durableBench, ctx context.Context, dir string) (place, error) {
	return placeOf(b.lab.Redis(ctx, dir))
}

// inFile is the place of a peer that runs inside its client and keeps tasks in a file.
func inFile(_ *durableBench, _ context.Context, dir string) (place, error) {
	return place{name: filepath.Join(dir, "river.db")}, nil
}

func (k *Kind) peerNames() []string {
	var names []string
	for _, p := range k.peers {
		names = append(names, p.name)
	}
	return names
}

// contenders starts all systems once, for all parts that compare them. It leaves out peers that are not installed.
func (b *durableBench) contenders(ctx context.Context) ([]*contender, error) {
	if b.group != nil {
		return b.group, nil
	}
	for _, start := range b.own {
		c, err := start(b, ctx)
		if err != nil {
			return nil, err
		}
		b.group = append(b.group, c)
	}
	if len(b.asked) == 0 {
		return b.group, nil
	}
	program, err := b.lab.BuildPeers(ctx)
	if err != nil {
		b.absent = append(b.absent, "all peers: "+err.Error())
		return b.group, nil
	}
	for _, kind := range b.peers {
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
	if err != nil {
		return nil, err
	}
	return postaContender("Posta, one node", targetOfPosta(p)), nil
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
	return postaContender("Posta, `posta up`", targetOfPosta(p)), b.prepare(ctx, p)
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

// prepare verifies a new Posta by reading all its records, and pauses the queue of waiting tasks.
func (b *durableBench) prepare(ctx context.Context, p *lab.Process) error {
	if err := b.lab.Served(ctx, p); err != nil {
		return err
	}
	return verify(ctx, targetOfPosta(p))
}

func verify(ctx context.Context, to tasks.Target) error {
	if err := tasks.Verify(ctx, to); err != nil {
		return err
	}
	control, err := tasks.Open(ctx, to.Addrs[0])
	if err != nil {
		return err
	}
	defer control.Close()
	return control.Pause(tasks.Backlog)
}

func targetOfPosta(p *lab.Process) tasks.Target {
	return tasks.Target{Addrs: []string{p.Addr}, PIDs: []int{p.Pid()}}
}

func postaContender(name string, to tasks.Target) *contender {
	return &contender{
		name: name, safe: powerLoss, bulk: true,
		measure: func(ctx context.Context, r tasks.Round) (tasks.Sample, error) {
			return tasks.Measure(ctx, to, r)
		},
		steady: func(ctx context.Context, rate int, d time.Duration) (tasks.Sample, error) {
			return tasks.Steady(ctx, to, rate, d)
		},
	}
}

// peer starts another system: its server, if it has one, and its client. The client is frozen except while it is
// measured, since some poll for tasks many times a second.
func (b *durableBench) peer(ctx context.Context, program string, kind peerKind) (*contender, error) {
	if !slices.Contains(b.asked, kind.name) {
		return nil, fmt.Errorf("not asked for, so %w", lab.ErrMissing)
	}
	dir, err := b.lab.Dir(kind.name)
	if err != nil {
		return nil, err
	}
	at, err := kind.server(b, ctx, dir)
	if err != nil {
		return nil, err
	}
	client, err := b.lab.Peer(ctx, program, kind.client, at.name)
	if err != nil {
		return nil, err
	}
	c := &contender{name: kind.name, safe: kind.safe, bulk: kind.bulk}
	c.measure = func(_ context.Context, r tasks.Round) (tasks.Sample, error) {
		return b.askPeer(client, at.pids, peerRequest{
			Producers: r.Connections, Batch: r.Depth, Work: r.Queue == tasks.Worked, For: r.For, Most: kind.most,
		})
	}
	c.steady = func(_ context.Context, rate int, d time.Duration) (tasks.Sample, error) {
		return b.askPeer(client, at.pids, peerRequest{Producers: workedShape.Connections, Batch: 1, Work: true, For: d, Rate: rate})
	}
	return c, client.Freeze()
}

// peerRequest describes a round of a peer, and peerAnswer its outcome, as bench/peers reads and writes them.
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

func (b *durableBench) askPeer(client *lab.Process, server []int, r peerRequest) (tasks.Sample, error) {
	if err := client.Thaw(); err != nil {
		return tasks.Sample{}, err
	}
	text, err := json.Marshal(r)
	if err != nil {
		return tasks.Sample{}, err
	}
	pids := append([]int{client.Pid()}, server...)
	cpu := load.CPUOf(pids)
	line, err := b.lab.Ask(client, string(text))
	if err != nil {
		return tasks.Sample{}, err
	}
	cpu = load.CPUOf(pids) - cpu
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
