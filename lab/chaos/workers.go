package chaos

import (
	"context"
	"path/filepath"
	"time"

	"github.com/posta-tasks/posta/internal/faultproxy"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/lab/chaos/history"
	"github.com/posta-tasks/posta/lab/chaos/schedule"
)

// The faults of a worker. All but the last are those of a node.
const (
	workerKill    = "worker-kill"
	workerPause   = "worker-pause"
	workerRestart = "worker-restart"
	workerCut     = "worker-cut" // its connections end
)

// worker is a process that runs tasks for the nodes, and the link over which it reaches them.
type worker struct {
	*node
	link *faultproxy.Link
}

// workers are the workers of a run, by name.
type workers map[string]*worker

// close closes the links.
func (w workers) close() {
	for _, one := range w {
		one.link.Close()
	}
}

// languages are the workers of a run, and how each is started below the folder lab. The one in Go is a node's program.
func languages(binary string) map[string][]string {
	return map[string][]string{
		"go": {binary}, "python": {"python3", "-B", "chaos/worker/worker.py"}, "javascript": {"node", "chaos/worker/worker.mjs"},
	}
}

// hire adds workers to the system, and their faults.
func (sys *system) hire(config Config, happened *history.Log, stillborn int) error {
	root, err := testenv.FindRoot()
	if err != nil {
		return err
	}
	sys.workers = workers{}
	for name, command := range languages(config.Binary) {
		link, err := faultproxy.NewLink(sys.addrs[len(sys.workers)%len(sys.addrs)])
		if err != nil {
			sys.workers.close()
			return err
		}
		for i := range command {
			if filepath.Dir(command[i]) == "chaos/worker" {
				command[i] = filepath.Join(root, "lab", command[i])
			}
		}
		sys.workers[name] = &worker{link: link, node: newNode(nodeConfig{
			Name: name, Binary: command[0], Args: command[1:], Logs: sys.logs, Happened: happened, Stillborn: stillborn,
			Env: []string{
				"POSTA_CHAOS_JOURNAL=" + sys.journal, "POSTA_CHAOS_WORKER=1", "POSTA_TO=" + link.Addr(),
				"PYTHONPATH=" + filepath.Join(root, "sdk", "python"),
			},
		})}
	}
	sys.faults[workerKill] = func(ctx context.Context, s schedule.Step) error { return sys.kill(ctx, sys.workers[s.Target].node) }
	sys.faults[workerPause] = func(ctx context.Context, s schedule.Step) error { return sys.workers[s.Target].pause(ctx, s.For) }
	sys.faults[workerRestart] = func(ctx context.Context, s schedule.Step) error { return sys.workers[s.Target].restart(ctx) }
	sys.faults[workerCut] = func(_ context.Context, s schedule.Step) error { sys.workers[s.Target].link.Disconnect(); return nil }
	return nil
}

// workerKinds returns the faults of the workers, in proportion to the kills of nodes. They are no fewer than one each.
func workerKinds(kills int) (list []schedule.Kind) {
	for _, name := range []string{"go", "javascript", "python"} {
		list = append(list,
			schedule.Kind{Fault: workerKill, Target: name, Count: max(1, kills/6)},
			schedule.Kind{Fault: workerPause, Target: name, Count: max(1, kills/25), For: 2 * time.Second},
			schedule.Kind{Fault: workerRestart, Target: name, Count: max(1, kills/12)},
			schedule.Kind{Fault: workerCut, Target: name, Count: max(1, kills/12)})
	}
	return list
}
