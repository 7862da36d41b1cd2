package grid_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/lab/build"
)

// stage is when the process with the fault runs.
type stage int

const (
	usual   stage = iota // from the beginning, and clients ask for one thing of each kind
	crash                // after another one that was killed while tasks ran
	drain                // as usual, but it is asked to stop
	long                 // as usual, and something runs for longer than a lease is left alone
	backup               // beside another one, which it makes a copy of
	workers              // as usual, and a worker has what is asked for
	adopted              // after another one that was killed while a worker held a task
)

// cells are what the grid tests: what is asked for, by when. Each point is in it.
func cells() map[string]stage {
	list := map[string]stage{
		"open.locked=kill": crash, "migrate.step=kill": usual, "recover.written=kill": crash, "recover.committed=kill": crash,
		"reap.written=kill": crash, "renew.asked=kill": long, "renew.written=kill": long,
		"drain.begun=kill": drain, "drain.ended=kill": drain, "backup.copied=kill": backup,
		"adopt.asked=kill@1": adopted, "adopt.written=kill@1": adopted, "adopt.committed=kill@1": adopted,
		"adopt.written=error@1": adopted, "abandon.written=error@1": workers,
	}
	for _, at := range []string{
		"push.entered@1", "push.entered@3", "push.written@2", "push.written@4", "outcome.read@1", "outcome.read@3", "release.asked@1",
		"abandon.asked@1", "abandon.written@1", "abandon.committed@1",
	} {
		point, n, _ := strings.Cut(at, "@")
		list[point+"=kill@"+n] = workers
	}
	for _, at := range []string{
		"line.read@3", "line.read@12", "blob.put@1", "blob.put@2", "blob.written@1", "blob.linked@1", "blob.linked@3", "payload.stored@1",
		"accept.asked@2", "accept.written@1", "accept.written@2", "accept.committed@1", "accept.committed@3", "accept.published@2",
		"accept.unused@1", "accept.answered@1", "accept.answered@2", "commit.before@6", "commit.before@12", "commit.after@6",
		"commit.after@12", "claim.asked@3", "claim.written@2", "claim.committed@1", "claim.committed@3", "run.loaded@1",
		"run.launched@1", "run.launched@4", "run.slot@2", "enter.written@1", "run.ended@2", "result.put@1", "result.stored@1", "record.asked@2", "record.written@1",
		"record.written@3", "record.committed@1", "record.committed@3", "record.notified@2", "cancel.written@1", "cancel.written@2",
		"retry.written@1", "change.committed@1", "change.committed@2", "change.committed@3", "cancel.notified@1", "cancel.notified@2",
		"retry.notified@1", "pause.committed@1", "pause.committed@2", "maintain.asked@3", "promote.written@1", "expire.written@1",
		"discard.written@1", "maintain.committed@4", "discard.committed@1", "blob.deleted@1", "blob.deleted@2",
	} {
		point, n, _ := strings.Cut(at, "@")
		list[point+"=kill@"+n] = usual
	}
	list["commit.before=error@6"] = usual // the first one is that of the start, which would end
	for _, p := range fail.Points() {
		if p.Fails && !slices.Contains([]string{"migrate.step", "recover.written", "backup.copied", "orphans.found", "commit.before", "adopt.written", "abandon.written"}, p.Name) {
			list[p.Name+"=error@1"] = usual
		}
	}
	return list
}

// elsewhere has the points that no cell can reach, and the test that does.
func elsewhere() map[string]string {
	return map[string]string{"orphans.found": "TestACollectorThatFailedRunsAgain"}
}

func TestTheGridHasACellForEachPoint(t *testing.T) {
	t.Parallel()
	covered := map[string]bool{}
	for asked := range cells() {
		point, what, _ := strings.Cut(asked, "=")
		covered[point] = covered[point] || strings.HasPrefix(what, "kill")
	}
	for _, p := range fail.Points() {
		if !covered[p.Name] && elsewhere()[p.Name] == "" {
			t.Errorf("no cell kills a process at %s", p.Name)
		}
	}
}

// together is how many cells run at once: they mostly wait.
const together = 8

// TestGrid breaks a node at each point, starts it again, and checks the promises.
func TestGrid(t *testing.T) {
	t.Parallel()
	testenv.NeedTime(t, time.Minute)
	binary := build.ForTest(t)
	places := make(chan struct{}, together)
	var all sync.WaitGroup
	for asked, stage := range cells() {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			t.Run(asked, func(t *testing.T) {
				(&grid{T: t, binary: binary, dir: t.TempDir(), client: newSession()}).cell(asked, stage)
			})
		})
	}
	all.Wait()
}

// grid is one cell while it runs.
type grid struct {
	*testing.T
	binary string
	dir    string
	addr   string
	client *session
	worker *worker // nil: there is none
	held   *ask    // what it has when the first process is killed
}

// cell is one fault, from the first start to the verdict.
func (g *grid) cell(asked string, when stage) {
	g.addr = testenv.FreeAddr(g.T)
	if when == crash {
		p := g.start("")
		g.serves(p)
		g.client.dial(g, g.addr)
		running := &ask{action: "sleep", payload: "0.33"}
		if !g.client.enqueue(g, running, &ask{action: "upper", payload: `"crash"`}) || !g.client.running(g, running) {
			g.Fatal("there is no crash to begin with")
		}
		p.Kill(g)
	}
	if when == workers || when == adopted {
		g.worker = work(g, g.addr)
	}
	if when == adopted {
		p := g.start("")
		g.serves(p)
		g.client.dial(g, g.addr)
		g.held = &ask{action: "work", payload: `"hold"`}
		if !g.client.enqueue(g, g.held) || !g.worker.awaitHold() {
			g.Fatal("there is nothing to adopt")
		}
		p.Kill(g)
	}
	first := asked
	if when == backup {
		first = ""
	}
	p := g.start(first)
	if g.serves(p) {
		g.client.dial(g, g.addr)
		g.drive(p, when)
	}
	if when == backup {
		g.copy(asked)
	}
	g.end(p, asked, when)
	p = g.start("")
	if !g.serves(p) {
		g.Fatal("it does not start again")
	}
	g.client.dial(g, g.addr)
	g.client.settle(g)
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(g, patience); code != 0 {
		g.Errorf("it was asked to stop and ended with %d", code)
	}
	v := &verdict{TB: g, asks: g.client.asks, fault: asked}
	v.judge(filepath.Join(g.dir, "posta.db"), filepath.Join(g.dir, "blobs"))
}

func (g *grid) store() []string {
	return []string{"--store", "sqlite://" + filepath.Join(g.dir, "posta.db"), "--blobs", "file://" + filepath.Join(g.dir, "blobs")}
}

// start starts a node with a fault, or with none.
func (g *grid) start(asked string) *testenv.Process {
	args := append([]string{"node", "--listen", g.addr, "--name", "n1", "--log-level", "error", "--drain-delay", "0"}, g.store()...)
	command := exec.Command(g.binary, args...)
	command.Env = append(os.Environ(), fail.PointsVariable+"="+asked)
	return testenv.StartCommand(g, command)
}

// serves waits until the node accepts connections; false means that it has ended before.
func (g *grid) serves(p *testenv.Process) bool {
	served := false
	testenv.Eventually(g, patience, func() error {
		select {
		case <-p.Ended():
			return nil
		default:
		}
		err := testenv.Accepts(g.addr)()
		served = err == nil
		return err
	})
	return served
}

// drive has clients ask for one thing of each kind.
func (g *grid) drive(p *testenv.Process, when stage) {
	switch when {
	case long:
		outlives := &ask{action: "sleep", payload: "6.5"}
		if g.client.enqueue(g, outlives) {
			g.client.finish(g, outlives)
		}
	case drain:
		running := &ask{action: "sleep", payload: "0.34"}
		if g.client.enqueue(g, running, &ask{action: "upper", payload: `"drain"`}) && g.client.running(g, running) {
			p.Signal(syscall.SIGTERM)
		}
	case workers:
		g.client.remote(g)
	case adopted:
		g.client.finish(g, g.held)
	default:
		g.client.mix(g)
	}
}

// end waits for the end that the fault should have brought about.
func (g *grid) end(p *testenv.Process, asked string, when stage) {
	if strings.Contains(asked, "error") || when == backup {
		p.Signal(syscall.SIGTERM)
		if code := p.Wait(g, patience); code != 0 {
			g.Errorf("it was asked to stop and ended with %d", code)
		}
		return
	}
	g.killed(p)
}

// killed waits until the process has killed itself.
func (g *grid) killed(p *testenv.Process) {
	g.Helper()
	select {
	case <-p.Ended():
	case <-time.After(patience):
		g.Fatal("it was not killed: nobody came by the point")
	}
	if code := p.Wait(g, patience); code != -1 {
		g.Fatalf("it ended with %d and was not killed", code)
	}
}

// copy makes a backup that is killed, and one that is not.
func (g *grid) copy(asked string) {
	for _, fault := range []string{asked, ""} {
		to := filepath.Join(g.dir, "copy")
		command := exec.Command(g.binary, append(append([]string{"backup"}, g.store()...), to)...)
		command.Env = append(os.Environ(), fail.PointsVariable+"="+fault)
		out, err := command.CombinedOutput()
		_, missing := os.Stat(to)
		if killed := fault != ""; killed != (err != nil) || killed != (missing != nil) {
			g.Errorf("backup with %q: %v, %v\n%s", fault, err, missing, fmt.Sprint(string(out)))
		}
	}
}
