package executor

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posta-tasks/posta/actions"
)

// moody takes as many microseconds as its payload says, by computing or by waiting, and
// now and then does what an action should not.
func moody() actions.Action {
	return actions.Action{Name: "moody", Append: func(ctx context.Context, call *actions.Call, dst []byte) ([]byte, error) {
		var n int
		if err := json.Unmarshal(call.Payload, &n); err != nil {
			return dst, err
		}
		switch mood := n % 10; {
		case mood < 5: // quick
		case mood < 7: // computes, and ends near the monitor's second look
			for begun := time.Now(); time.Since(begun) < time.Duration(n)*time.Microsecond; {
				runtime.Gosched()
			}
		case mood < 9:
			select {
			case <-time.After(time.Duration(n) * time.Microsecond):
			case <-ctx.Done():
				return dst, ctx.Err()
			}
		case n%3 == 0:
			panic(fmt.Sprint("mood ", n))
		case n%3 == 1:
			runtime.Goexit()
		}
		return fmt.Appendf(dst, `"n":%d`, n), nil
	}}
}

// TestEveryTaskGetsItsOwnResultOnceWhateverHappens has readers that share the lanes, as
// connections do, while others cancel and the statistics are read.
func TestEveryTaskGetsItsOwnResultOnceWhateverHappens(t *testing.T) {
	t.Parallel()
	const readers, tasks = 8, 400
	e := newExecutor(t, Config{Slots: 3, QuickSlots: 2, Observe: func(Event) {}, Summarize: func(Summary) {}}, moody())
	var got [readers * tasks]atomic.Int32
	var failed atomic.Int32
	deliver := func(task Task, result []byte) {
		var id, n int
		if json.Unmarshal(task.ID, &id) != nil || json.Unmarshal(task.Payload, &n) != nil || got[id].Add(1) != 1 {
			t.Errorf("task %s is delivered again with %s", task.ID, result)
		}
		if string(result) != fmt.Sprintf(`{"ok":true,"n":%d}`, n) {
			if failed.Add(1); n%10 != 9 || n%3 == 2 {
				t.Errorf("task %s with payload %s gives %s", task.ID, task.Payload, result)
			}
		}
	}
	var all sync.WaitGroup
	for reader := range readers {
		var list []Task
		for i := range tasks {
			list = append(list, newTask(fmt.Sprint(reader*tasks+i), "moody", fmt.Sprint(rand.IntN(4000))))
		}
		all.Go(func() { readAll(t, e, list, deliver) })
	}
	done := make(chan bool)
	go func() { all.Wait(); close(done) }()
	for running := true; running; {
		select {
		case <-done:
			running = false
		case <-time.After(time.Millisecond):
			e.Stats()
			e.Healthy()
		}
	}
	eventually(t, func() bool { s := e.Stats(); return s.SlotsBusy+s.QuickBusy+s.Waiting == 0 })
	s := e.Stats().ByAction["moody"]
	if total := s.Done + s.Panicked + s.Failed + s.TimedOut + s.Cancelled; total != readers*tasks || s.Panicked != int64(failed.Load()) {
		t.Errorf("of %d tasks %d are counted, of %d panics %d", readers*tasks, total, failed.Load(), s.Panicked)
	}
	checkIdle(t, e)
}

// readAll runs tasks as a connection does: in a lane, the reading handed over when it is lost,
// in slots when they are slow. It returns when all have been delivered.
func readAll(t *testing.T, e *Executor, list []Task, deliver func(Task, []byte)) {
	source := e.NewSource()
	var open sync.WaitGroup
	open.Add(len(list))
	settled := func(task Task, result []byte) { deliver(task, result); open.Done() }
	var read func(from int)
	read = func(from int) {
		at := from
		lane := e.NewLane()
		lane.Bind(source)
		lane.Deliver, lane.HandOver = settled, func() { go read(at + 1) }
		for at < len(list) {
			if err := lane.Enter(context.Background()); err != nil {
				t.Error(err)
			}
			for end := min(at+16, len(list)); at < end; at++ {
				result, fate := lane.Run(list[at])
				switch fate {
				case IsLost:
					return
				case IsSlow:
					source.Start(list[at], settled)
				default:
					settled(list[at], result)
				}
			}
			lane.Leave()
		}
	}
	go read(0)
	open.Wait()
}
