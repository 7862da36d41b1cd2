package grid_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/posta-tasks/posta/internal/fail"
	"github.com/posta-tasks/posta/internal/testenv"
	"github.com/posta-tasks/posta/lab/build"
	"github.com/posta-tasks/posta/store/sqlite"
	"github.com/posta-tasks/posta/task"
)

// recorder is a testing.TB that keeps errors and does not fail.
type recorder struct {
	testing.TB
	messages []string
}

func (e *recorder) Errorf(format string, args ...any) {
	e.messages = append(e.messages, fmt.Sprintf(format, args...))
}

// TestTheVerdictNoticesWhatItIsFor breaks a good ending in one way at a time.
func TestTheVerdictNoticesWhatItIsFor(t *testing.T) {
	t.Parallel()
	entry := func(state task.State, attempt, generation int) task.Entry {
		return task.Entry{State: state, Attempt: attempt, Generation: generation}
	}
	cases := []struct {
		name, want string
		spoil      func(v *verdict, a *ask, one *task.Task)
	}{
		{"nothing", "", func(*verdict, *ask, *task.Task) {}},
		{"the task is gone", "lost: task T", func(v *verdict, _ *ask, _ *task.Task) { delete(v.tasks, "T") }},
		{"its key is another task's", "the key k was answered", func(v *verdict, _ *ask, _ *task.Task) {
			v.asks = append(v.asks, &ask{action: "upper", payload: `"x"`, key: "k", task: "U"})
		}},
		{"it is there twice", "was not requested", func(v *verdict, _ *ask, one *task.Task) {
			other := *one
			other.ID = "U"
			v.tasks["U"] = &other
		}},
		{"it was answered cancelled", "was answered cancelled and is done", func(_ *verdict, a *ask, _ *task.Task) {
			a.cancelled = "cancelled"
		}},
		{"another end was pushed", "was answered failed and is done", func(_ *verdict, a *ask, _ *task.Task) {
			a.pushed = []string{"failed"}
		}},
		{"its retry is forgotten", "has generation 0", func(_ *verdict, a *ask, _ *task.Task) { a.retried = true }},
		{"it ran after its end", "went from", func(_ *verdict, _ *ask, one *task.Task) {
			one.History = append(one.History, entry(task.Running, 2, 0), entry(task.Done, 2, 0))
			one.Attempt = 2
		}},
		{"it ended twice", "ended 2 times", func(_ *verdict, _ *ask, one *task.Task) {
			one.History = append(one.History, entry(task.Done, 1, 0))
		}},
		{"it never ended", "ended 0 times", func(_ *verdict, _ *ask, one *task.Task) { one.History = one.History[:2] }},
		{"a start is not counted", "attempt 1 at its start number 2", func(_ *verdict, _ *ask, one *task.Task) {
			one.History = slices.Insert(one.History, 2, entry(task.Queued, 1, 0), entry(task.Running, 1, 0))
		}},
		{"a crash counts as a failure", "with 1 failures", func(_ *verdict, _ *ask, one *task.Task) { one.Failures = 1 }},
		{"a crash counts though it was not alone", "and 1 crashes", func(_ *verdict, _ *ask, one *task.Task) { one.Crashes = 1 }},
		{"the result is another's", "has the result", func(_ *verdict, _ *ask, one *task.Task) {
			one.Result.Inline = []byte(`{"ok":true,"data":"Y"}`)
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := &ask{action: "upper", payload: `"x"`, key: "k", task: "T", pushed: []string{"done"}}
			one := &task.Task{ID: "T", Action: "upper", State: task.Done, Attempt: 1}
			one.Payload.Inline, one.Result.Inline = []byte(`"x"`), []byte(`{"ok":true,"data":"X"}`)
			one.History = []task.Entry{entry(task.Queued, 0, 0), entry(task.Running, 1, 0), entry(task.Done, 1, 0)}
			errors := &recorder{TB: t}
			v := &verdict{TB: errors, asks: []*ask{a}, tasks: map[string]*task.Task{"T": one}}
			c.spoil(v, a, one)
			v.promises()
			if (c.want == "") != (len(errors.messages) == 0) || !strings.Contains(strings.Join(errors.messages, "\n"), c.want) {
				t.Errorf("got %q, want %q", errors.messages, c.want)
			}
		})
	}
}

// TestTheGridCatchesAnAnswerBeforeCommit kills a node of that mutant between the two, which
// the point before the commit makes wide enough.
func TestTheGridCatchesAnAnswerBeforeCommit(t *testing.T) {
	t.Parallel()
	testenv.NeedTime(t, 10*time.Second)
	g := &grid{T: t, binary: build.Mutant(t, "answer-before-commit"), dir: t.TempDir(), addr: testenv.FreeAddr(t), client: newSession()}
	errors := &recorder{TB: t}
	for round := 0; round < 20 && len(errors.messages) == 0; round++ {
		p := g.start("commit.before=pause:200ms")
		if !g.serves(p) {
			t.Fatal("it does not start")
		}
		g.client.dial(t, g.addr)
		g.client.enqueue(t, &ask{action: "upper", payload: fmt.Sprintf(`"%d"`, round)})
		p.Kill(t)
		v := &verdict{TB: errors, asks: g.client.asks}
		v.load(filepath.Join(g.dir, "posta.db"), filepath.Join(g.dir, "blobs"))
		v.nothingIsLost()
	}
	if len(errors.messages) == 0 {
		t.Error("in 20 rounds it was not caught")
	}
}

// TestATaskUnderWhichTheProcessDiesAloneTwiceIsFailedAndNoOtherIs has every attempt kill its
// process, and one task that is due.
func TestATaskUnderWhichTheProcessDiesAloneTwiceIsFailedAndNoOtherIs(t *testing.T) {
	t.Parallel()
	testenv.NeedTime(t, 10*time.Second)
	g := &grid{T: t, binary: build.ForTest(t), dir: t.TempDir(), addr: testenv.FreeAddr(t), client: newSession()}
	p := g.start("run.launched=kill")
	if !g.serves(p) {
		t.Fatal("it does not start")
	}
	g.client.dial(t, g.addr)
	g.client.enqueue(t, &ask{action: "upper", payload: `"poison"`}, &ask{action: "upper", payload: `"later"`, options: `,"delay":3600`})
	for range task.MaxCrashes {
		g.killed(p)
		p = g.start("run.launched=kill")
	}
	g.killed(p)
	p = g.start("")
	if !g.serves(p) {
		t.Fatal("it does not start again")
	}
	p.Signal(syscall.SIGTERM)
	p.Wait(t, patience)
	v := &verdict{TB: t}
	v.load(filepath.Join(g.dir, "posta.db"), filepath.Join(g.dir, "blobs"))
	for _, one := range v.tasks {
		switch payload := string(one.Payload.Inline); {
		case payload == `"poison"`:
			if one.State != task.Failed || one.Code != task.Crashed || one.Crashes != task.MaxCrashes ||
				one.Attempt != task.MaxCrashes+1 || one.Failures != 0 {
				t.Errorf("the task that killed its process is %+v", one)
			}
		case one.State != task.Scheduled || one.Attempt != 0 || one.Suspect:
			t.Errorf("its neighbour is %+v", one)
		}
	}
	if len(v.tasks) != 2 {
		t.Errorf("there are %d tasks", len(v.tasks))
	}
}

// TestAStartThatFailsSaysWhyAndHarmsNothing has the store fail before the node serves.
func TestAStartThatFailsSaysWhyAndHarmsNothing(t *testing.T) {
	t.Parallel()
	testenv.NeedTime(t, 10*time.Second)
	for _, point := range []string{"migrate.step", "recover.written"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			g := &grid{T: t, binary: build.ForTest(t), dir: t.TempDir(), addr: testenv.FreeAddr(t)}
			command := exec.Command(g.binary, append([]string{"node", "--listen", g.addr}, g.store()...)...)
			command.Env = append(os.Environ(), fail.PointsVariable+"="+point+"=error")
			if out, err := command.CombinedOutput(); err == nil || !strings.Contains(string(out), fail.ErrAsked.Error()) {
				t.Errorf("%v\n%s", err, out)
			}
			s, err := sqlite.Open(sqlite.Config{Path: filepath.Join(g.dir, "posta.db")})
			if err != nil {
				t.Fatal(err)
			}
			s.Close()
		})
	}
}

// TestACollectorThatFailedRunsAgain reaches a point that a node passes once in an hour: only a test in a bubble of
// testing/synctest can wait for it.
func TestACollectorThatFailedRunsAgain(t *testing.T) {
	t.Parallel()
	testenv.NeedTime(t, 10*time.Second)
	for failpoints, passes := range map[string]bool{"orphans.found=error@1": true, "orphans.found=error": false} {
		command := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-tags", "chaos", "./durable",
			"-run", "^TestBodiesWithoutARowAreCollectedAfterADayAndNoOthers$")
		command.Dir = testenv.Root(t)
		command.Env = append(os.Environ(), fail.PointsVariable+"="+failpoints)
		if out, err := command.CombinedOutput(); passes != (err == nil) || strings.Contains(string(out), "no tests to run") {
			t.Errorf("%s: %v\n%s", failpoints, err, out)
		}
	}
}
