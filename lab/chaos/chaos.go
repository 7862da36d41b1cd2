// Package chaos checks the promises about durable tasks. It puts a load on real nodes, kills, pauses and restarts them
// meanwhile, waits until every task is finished, and compares the answers to clients, what actions did, and what is in the
// store.
//
//	load ──requests──→ system ←──faults── schedule
//	  │                  │ journal of the actions
//	  └──→ history ←─────┴──────── harvest, when every task is finished
//	          └──→ check ──→ page
//
// A seed decides everything that is random. A run is kept in a directory, where it can be checked again. The system under
// test and its faults are one value, so a system of more processes is another value.
package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/posta-tasks/posta/lab/chaos/check"
	"github.com/posta-tasks/posta/lab/chaos/history"
	"github.com/posta-tasks/posta/lab/chaos/load"
	"github.com/posta-tasks/posta/lab/chaos/schedule"
)

// Config configures a run.
type Config struct {
	Binary string // posta, built with the tag chaos
	Dir    string // an empty directory for the files of the run
	Seed   uint64
	Tasks  int // new tasks; 0: 1,000
	Poison int // how many of them kill their process
	Slow   int // percentage of tasks that run longer than a lease
	// Later is how long these tasks take when they run again; 0: 6 s, so that the first attempt ends meanwhile.
	Later  time.Duration
	Busy   int    // percentage of tasks that take about half a second, so that tasks run at each kill
	Large  int    // percentage of tasks that need blob storage
	Mutant string // the mutant in Binary; "": none

	Kills    int
	Every    time.Duration // mean time between two faults; 0: 2 s
	Points   []string      // failpoints at which some of the kills happen
	Pauses   int           // pauses of less than 2 s
	Long     int           // pauses longer than a lease
	Restarts int           // with SIGTERM
	// Always has failpoints that are set at each start, in the format of internal/fail.
	Always string
	Drain  time.Duration // how long the tasks may take to finish after the faults; 0: 3 min

	Cluster *Cluster // nil: one process with a store in a file
	Workers bool     // workers in Go, Python and JavaScript run a part of the tasks, and have faults of their own
	Up      bool     // the process is posta up, a balancer and three nodes, and not one node
}

// Cluster is a system of several nodes. It says how nodes and clients reach the servers, and has a function for
// each fault of the servers.
type Cluster struct {
	Nodes  []string        // their addresses
	Fronts []string        // the addresses of the balancers, to which clients connect in turn
	Args   [][]string      // arguments of each node, such as --store and its value
	Env    []string        // environment of each node, in addition to that of this process
	Faults schedule.Faults // faults of the servers
	Kinds  []schedule.Kind // which faults, and how often
	// Stillborn is how many starts of a node in a row may fail because a server does not answer; 0: 20.
	Stillborn int
	Pairs     int // percentage of the faults that come in pairs, after those that come one at a time
}

const (
	// connections is the number of clients at the same time.
	connections = 8
	// lookEvery is how often the number of unfinished tasks is read.
	lookEvery = 100 * time.Millisecond
	// percentRemote is the percentage of tasks for workers, if there are any.
	percentRemote = 50
	// harvestTries is how often reading the tasks may begin.
	harvestTries = 100
)

// Run runs once and checks the run. It prints the plan first and the page last. An error means that the run failed.
func Run(ctx context.Context, config Config, out io.Writer) (check.Verdict, error) {
	config.Tasks, config.Drain = cmp.Or(config.Tasks, 1_000), cmp.Or(config.Drain, 3*time.Minute)
	r := &run{config: config, out: out, began: time.Now()}
	if err := r.make(ctx); err != nil {
		return check.Verdict{}, fmt.Errorf("seed %d: %w", config.Seed, err)
	}
	return Judge(config.Dir, out)
}

// Judge checks a run in a directory, and prints its page.
func Judge(dir string, out io.Writer) (check.Verdict, error) {
	kept, err := history.Load(dir)
	if err != nil {
		return check.Verdict{}, err
	}
	verdict := check.Run(kept)
	_, err = io.WriteString(out, page(kept, &verdict, dir))
	return verdict, err
}

// run is a run in progress.
type run struct {
	config Config
	out    io.Writer
	began  time.Time
	logs   *history.Logs
	about  history.About
}

func (r *run) make(ctx context.Context) (err error) {
	r.about = history.About{Seed: r.config.Seed, Began: r.began.UnixNano(), Mutant: r.config.Mutant}
	if r.logs, err = history.Create(r.config.Dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.logs.Close()) }()
	sys, err := newSystem(r.config, r.logs.Happened)
	if err != nil {
		return err
	}
	plan := schedule.Make(r.wish(sys.targets()))
	fmt.Fprintf(r.out, "seed %d, %d tasks, %d of them poison, %d faults in about %v; the plan:\n",
		r.config.Seed, r.config.Tasks, r.config.Poison, len(plan), schedule.Length(plan).Round(time.Second))
	for i, step := range plan {
		fmt.Fprintf(r.out, "%4d %v\n", i+1, step)
		r.about.Plan = append(r.about.Plan, step.String())
	}
	life, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- sys.run(life); stop() }()
	err = r.trial(life, sys, plan)
	stop()
	if broken := <-ended; broken != nil {
		err = broken // the other error is a consequence
	}
	if err != nil {
		return err
	}
	if r.about.Stale, err = sys.stale(); err != nil {
		return err
	}
	return history.Describe(r.config.Dir, r.about)
}

func (r *run) wish(targets []string) schedule.Config {
	c := r.config
	var more Cluster
	if c.Cluster != nil {
		more = *c.Cluster
	}
	if c.Workers {
		more.Kinds = append(workerKinds(c.Kills), more.Kinds...)
	}
	return schedule.Config{
		Seed: c.Seed, Targets: targets, Kills: c.Kills, Every: c.Every, Points: c.Points, Pauses: c.Pauses, Long: c.Long, Restart: c.Restarts,
		More: more.Kinds, Pairs: more.Pairs,
	}
}

// trial runs the load and the faults, waits until every task is finished, and reads the tasks.
func (r *run) trial(ctx context.Context, sys *system, plan []schedule.Step) error {
	remote := 0
	if r.config.Workers {
		remote = percentRemote
	}
	clients := load.New(load.Config{
		Remote: remote,
		Addrs:  sys.addrs, Seed: r.config.Seed, Tasks: r.config.Tasks, Poison: r.config.Poison, Slow: r.config.Slow, Later: cmp.Or(r.config.Later, 6*time.Second),
		Busy: r.config.Busy, Large: r.config.Large, Connections: connections,
		Over: schedule.Length(plan), Began: r.began, Events: r.logs.Clients,
	})
	enough, clientsDone := make(chan struct{}), make(chan struct{})
	go func() { defer close(clientsDone); clients.Run(ctx, enough) }()
	err := schedule.Run(ctx, plan, sys.faults, r.logs.Happened, func(begun int, s schedule.Step) {
		fmt.Fprintf(r.out, "%7v %4d of %d: %v; %d tasks are sent\n", time.Since(r.began).Round(time.Second), begun, len(plan), s, clients.Sent())
	})
	close(enough)
	if err != nil {
		return err
	}
	r.about.Healed = time.Now().UnixNano()
	fmt.Fprintf(r.out, "the plan is over after %v, %d tasks are sent\n", time.Since(r.began).Round(time.Second), clients.Sent())
	select {
	case <-clientsDone:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := r.rest(ctx, sys); err != nil {
		return err
	}
	return r.harvest(ctx, sys)
}

// rest waits until every task is finished, or until the time for that is over.
func (r *run) rest(ctx context.Context, sys *system) error {
	deadline, cancel := context.WithTimeout(ctx, r.config.Drain)
	defer cancel()
	for deadline.Err() == nil {
		left, err := r.left(deadline, sys)
		if err == nil && left == 0 {
			r.about.Drained = true
			fmt.Fprintf(r.out, "every task is finished after %v\n", time.Since(r.began).Round(time.Second))
			return nil
		}
		select {
		case <-time.After(lookEvery):
		case <-deadline.Done():
		}
	}
	fmt.Fprintf(r.out, "not every task is finished after %v\n", time.Since(r.began).Round(time.Second))
	return ctx.Err()
}

func (r *run) left(ctx context.Context, sys *system) (int, error) {
	in, err := newReader(ctx, sys.addrs[0])
	if err != nil {
		return 0, err
	}
	defer in.Close()
	return in.left()
}

// harvest reads the tasks. It begins again when the node stops or the connection breaks, since the last restart of
// the plan may not be over.
func (r *run) harvest(ctx context.Context, sys *system) error {
	var tasks []history.Record
	err := errors.New("nothing was read")
	for try := 0; err != nil && try < harvestTries; try++ {
		if try > 0 {
			select {
			case <-time.After(lookEvery):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		tasks, err = harvest(ctx, sys.addrs[0])
	}
	for i := range tasks {
		r.logs.Store.Add(&tasks[i])
	}
	fmt.Fprintf(r.out, "%d tasks are read after %v\n", len(tasks), time.Since(r.began).Round(time.Second))
	return err
}

// Place creates a directory for a run.
func Place(parent string, seed uint64, name string) (string, error) {
	dir := filepath.Join(parent, fmt.Sprintf("%s-%d-%s", time.Now().UTC().Format("20060102-150405"), seed, name))
	return dir, os.MkdirAll(dir, 0o700)
}
