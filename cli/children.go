package cli

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/posta-tasks/posta/cli/terminal"
	"github.com/posta-tasks/posta/lineapi"
	"github.com/posta-tasks/posta/node"
	"github.com/posta-tasks/posta/worker/child"
)

// maxWorkerCount is the largest number of processes of one --worker.
const maxWorkerCount = 64

// workerPrograms returns the programs of --worker.
func (f *serveFlags) workerPrograms(out *terminal.Outside) (list []child.Program, err error) {
	if f.workerCount < 1 || f.workerCount > maxWorkerCount {
		return nil, misuse(fmt.Sprintf("1 to %d are allowed", maxWorkerCount), "--worker-count is %d", f.workerCount)
	}
	names := map[string]int{}
	for _, line := range f.workers {
		words, err := child.Split(line)
		if err != nil {
			return nil, misuse("write it as --worker 'python3 w.py'", "--worker: %w", err)
		}
		path, err := exec.LookPath(words[0])
		if err != nil {
			return nil, fail(exitConfig, "give its path, or make it executable with chmod +x", "--worker: the program %s is not there, or may not be run", words[0])
		}
		if path, err = filepath.Abs(path); err != nil {
			return nil, fail(exitConfig, "", "%w", err)
		}
		name := child.NameOf(words)
		if names[name]++; names[name] > 1 {
			name = fmt.Sprintf("%s-%d", name, names[name])
		}
		list = append(list, child.Program{Name: name, Path: path, Args: words, Env: environmentOfWorkers(out), Count: f.workerCount})
	}
	return list, nil
}

// environmentOfWorkers returns the environment of this process without the variables that configure Posta, since they may
// have secrets.
func environmentOfWorkers(out *terminal.Outside) (env []string) {
	for _, variable := range out.Env {
		if !strings.HasPrefix(variable, "POSTA_") {
			env = append(env, variable)
		}
	}
	return env
}

// startWorkers starts the workers of --worker and of the actions file. Their lines are served by the node. No worker starts
// any more when ctx has ended. The caller calls stop after the node has drained.
func (a *actionsFile) startWorkers(ctx context.Context, f *serveFlags, programs []child.Program, n *node.Node, logger *slog.Logger) (stop func()) {
	a.supervisor = child.New(func(ctx context.Context, conn net.Conn, name string, joined func(), drain <-chan struct{}) {
		n.ServeChild(ctx, conn, lineapi.Child{Name: name, Joined: joined, Drain: drain})
	}, f.limits.DrainTimeout, logger)
	a.programs = programs
	a.setWorkers(a.workersOfFile())
	hold := context.AfterFunc(ctx, a.supervisor.Hold)
	return func() {
		hold()
		a.supervisor.Close()
	}
}

// workersOfFile returns the programs of the actions of kind worker.
func (a *actionsFile) workersOfFile() []child.Program {
	if a.file == nil {
		return nil
	}
	return a.file.Workers()
}

// setWorkers has the workers of --worker and these of the file run.
func (a *actionsFile) setWorkers(ofFile []child.Program) {
	a.supervisor.Set(append(append([]child.Program{}, a.programs...), ofFile...))
}
