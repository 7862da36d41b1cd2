package executor

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/actions"
)

// look waits until nobody tells any more for now.
func (w *collector) look() (events []Event, summaries []Summary) {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.events, w.summaries
}

// collector has the calls of Observe and Summarize.
type collector struct {
	mu        sync.Mutex // guards all below
	events    []Event
	summaries []Summary
}

func (w *collector) config() Config {
	return Config{
		QuickSlots: 1, Slots: 200,
		Observe: func(e Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, e)
		},
		Summarize: func(s Summary) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.summaries = append(w.summaries, s)
		},
	}
}

func TestObserveGetsEachTaskWhileThereAreFew(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var w collector
		e := newExecutor(t, w.config())
		for range 5 {
			laneRun(t, e, e.NewSource(), newResults(), nil, newTask(`"a"`, "echo", "1"), Task{Action: []byte("nope")})
			<-time.After(time.Second)
		}
		r := newResults()
		e.NewSource().Start(newTask("7", "sleep", "2"), r.deliver)
		<-r
		events, summaries := w.look()
		if len(events) != 11 || len(summaries) != 0 {
			t.Fatalf("%d events, %d summaries", len(events), len(summaries))
		}
		if got := events[0]; got.ID != `"a"` || got.Action != "echo" || got.Outcome != Done {
			t.Errorf("%+v", got)
		}
		if got := events[1]; got.ID != "" || got.Action != "nope" || got.Outcome != Failed {
			t.Errorf("%+v", got)
		}
		if got := events[10]; got != (Event{ID: "7", Action: "sleep", Duration: 2 * time.Second, Outcome: Done}) {
			t.Errorf("%+v", got)
		}
	})
}

func TestObserveGetsAFewDozenTasksASecondAndSummarizeAll(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var w collector
		e := newExecutor(t, w.config(), actions.New("fails", func(context.Context, *actions.Call) (any, error) { return nil, errOwn }))
		lane := e.NewLane()
		lane.Bind(e.NewSource())
		const perSecond, seconds = 1000, 5
		for range seconds * 10 {
			if err := lane.Enter(t.Context()); err != nil {
				t.Fatal(err)
			}
			for i := range perSecond / 10 {
				task := newTask("1", "echo", "1")
				if i%2 == 1 {
					task = newTask("2", "fails", "null")
				}
				if _, fate := lane.Run(task); fate != Answered {
					t.Fatalf("fate %d at task %d", fate, i)
				}
			}
			lane.Leave()
			<-time.After(100 * time.Millisecond)
		}
		<-time.After(2 * time.Second)
		events, summaries := w.look()
		if n := len(events); n < observed*seconds || n > observed*(seconds+1) {
			t.Errorf("Observe was called for %d tasks in %d seconds", n, seconds)
		}
		var sum Summary
		for _, s := range summaries {
			sum.Tasks, sum.Failed, sum.Window = sum.Tasks+s.Tasks, sum.Failed+s.Failed, sum.Window+s.Window
			if s.Window > 2*time.Second || s.Tasks == 0 {
				t.Errorf("a summary is %+v", s)
			}
		}
		if sum.Tasks != perSecond*seconds || sum.Failed != perSecond*seconds/2 || len(summaries) > seconds+1 {
			t.Errorf("%d summaries have together %+v", len(summaries), sum)
		}
	})
}

func TestASummaryHasEveryTaskOfItsSecondAlsoTheFirst(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var w collector
		e := newExecutor(t, w.config())
		source, r := e.NewSource(), newResults()
		for i := range 100 {
			source.Start(newTask("1", "sleep", []string{"0.1", "0.2"}[i%2]), r.deliver)
		}
		for range 100 {
			<-r
		}
		<-time.After(2 * time.Second)
		events, summaries := w.look()
		if len(summaries) != 1 || summaries[0].Tasks != 100 || summaries[0].Failed != 0 {
			t.Errorf("%d events, summaries %+v", len(events), summaries)
		}
	})
}

func TestWithoutObserveNothingIsSampled(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		e := newExecutor(t, Config{QuickSlots: 1})
		r := newResults()
		for range 100 {
			laneRun(t, e, e.NewSource(), r, nil, newTask("1", "echo", "1"))
		}
		if e.Stats().ByAction["echo"].Done != 100 {
			t.Error("the tasks are not counted")
		}
	})
}
