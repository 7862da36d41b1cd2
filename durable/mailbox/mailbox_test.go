package mailbox_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/durable/mailbox"
	"github.com/posta-tasks/posta/task"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// engine is what a post works for.
type engine struct {
	*mailbox.Mailbox
	quit chan struct{}

	room           atomic.Int64
	behind, missed atomic.Int64
	woken          chan struct{}

	mu    sync.Mutex // guards the one below
	heard []broker.Event
}

// start runs a post on a broker until the test ends.
func start(t *testing.T, b broker.Broker) *engine {
	e := &engine{quit: make(chan struct{}), woken: make(chan struct{}, 100)}
	e.Mailbox = mailbox.New(mailbox.Config{
		Broker: b, Interest: broker.Interest{Actions: []string{"ok"}},
		Want:   func() broker.Want { return broker.Want{Limit: int(e.room.Load())} },
		Wake:   func() { e.woken <- struct{}{} },
		Behind: func() { e.behind.Add(1) },
		Missed: func() { e.missed.Add(1) },
		Receive: func(list []broker.Event) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.heard = append(e.heard, list...)
		},
	})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.Run(ctx, e.quit)
	}()
	t.Cleanup(func() { stop(); <-done })
	return e
}

func queued(id string) *task.Task { return &task.Task{ID: id, Action: "ok", State: task.Queued} }

func TestIDsAreTakenOneBatchAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := broker.NewMemory(broker.Bounds{})
		defer b.Close()
		from, to := start(t, b), start(t, b)
		for i := range 10 {
			from.Offer([]*task.Task{queued(fmt.Sprint(i))})
		}
		synctest.Wait()
		if b.Stats().Taken != 0 {
			t.Error("ids were taken without room")
		}
		to.room.Store(3)
		to.Freed()
		synctest.Wait()
		if to.Waiting() != 3 || b.Stats().Taken != 3 || to.behind.Load() != 1 {
			t.Errorf("%d wait, %+v, behind %d times", to.Waiting(), b.Stats(), to.behind.Load())
		}
		if ids := to.Next(2); len(ids) != 2 {
			t.Errorf("next are %v", ids)
		}
		to.Done()
		synctest.Wait()
		if b.Stats().Taken != 3 {
			t.Error("more was taken before the batch was claimed")
		}
		to.Next(2)
		to.Done()
		synctest.Wait()
		if b.Stats().Taken != 6 {
			t.Errorf("after the batch was claimed: %+v", b.Stats())
		}
		close(to.quit)
		synctest.Wait()
		to.Next(3)
		to.Done()
		synctest.Wait()
		if b.Stats().Taken != 6 {
			t.Error("ids were taken during a drain")
		}
	})
}

func TestATakeEndsWhenTheEngineIsFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := broker.NewMemory(broker.Bounds{})
		defer b.Close()
		e := start(t, b)
		e.room.Store(1)
		e.Freed()
		synctest.Wait()
		e.room.Store(0)
		e.Changed()
		synctest.Wait()
		e.Offer([]*task.Task{queued("1")})
		synctest.Wait()
		if b.Stats().Held != 1 {
			t.Error("it was taken without room")
		}
		e.room.Store(1)
		e.Freed()
		synctest.Wait()
		if ids := e.Next(1); len(ids) != 1 || ids[0] != "1" {
			t.Errorf("next is %v", ids)
		}
	})
}

func TestIDsThatWereTakenWithoutCapacityAreOfferedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := broker.NewMemory(broker.Bounds{})
		defer b.Close()
		e := start(t, b)
		e.room.Store(3)
		e.Freed()
		e.Offer([]*task.Task{queued("1"), queued("2"), queued("3")})
		synctest.Wait()
		e.Next(1)
		e.Done()
		e.room.Store(0)
		if ids := e.Full(); len(ids) != 2 || ids[0] != "2" || e.Waiting() != 0 {
			t.Errorf("given were %v", ids)
		}
		e.room.Store(1)
		e.Freed()
		e.Offer([]*task.Task{queued("4")})
		synctest.Wait()
		if ids := e.Next(1); len(ids) != 1 || ids[0] != "4" {
			t.Errorf("after that came %v", ids)
		}
	})
}

func TestWhatIsKeptIsForTheEngineUntilItIsFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := broker.NewMemory(broker.Bounds{})
		defer b.Close()
		e := start(t, b)
		e.Keep([]*task.Task{queued("a"), queued("b"), queued("c")})
		<-e.woken
		if ids := e.Next(2); len(ids) != 2 || ids[0] != "a" {
			t.Errorf("next are %v", ids)
		}
		e.Done()
		e.Full()
		synctest.Wait()
		if e.Waiting() != 0 || b.Stats().Held != 1 {
			t.Errorf("what it has no room for is not with others: %+v", b.Stats())
		}
	})
}

// stuck is a broker that never answers.
type stuck struct{ broker.Broker }

func (stuck) Publish(ctx context.Context, _ []broker.Hint) error {
	<-ctx.Done()
	return task.Refuse(task.Unavailable, "%v", ctx.Err())
}

func TestABrokerThatNeverAnswersDelaysNoCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := broker.NewMemory(broker.Bounds{})
		defer b.Close()
		e := start(t, stuck{b})
		began := time.Now()
		for range 300 {
			list := make([]*task.Task, 1_000)
			for i := range list {
				list[i] = queued("1")
			}
			e.Offer(list)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("it took %s", took)
		}
		<-time.After(time.Hour)
		if s := e.Stats(); s.Published != 0 || s.Dropped != 300_000 || e.behind.Load() == 0 {
			t.Errorf("%+v, behind %d times", s, e.behind.Load())
		}
	})
}

func TestWhatIsLeftIsPublishedAtTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := broker.NewMemory(broker.Bounds{})
		defer b.Close()
		p := mailbox.New(mailbox.Config{Broker: b, Want: func() broker.Want { return broker.Want{} }})
		p.Offer([]*task.Task{queued("1"), queued("2")})
		p.SendChanges([]task.Task{{ID: "1"}})
		ctx, stop := context.WithCancel(t.Context())
		stop()
		p.Run(ctx, nil)
		if s := b.Stats(); s.Published != 2 || s.Sent != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestEventsComeToEveryNode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := broker.NewMemory(broker.Bounds{Events: 10})
		defer b.Close()
		from, to := start(t, b), start(t, b)
		synctest.Wait()
		from.SendChanges([]task.Task{
			{ID: "1", State: task.Running, Attempt: 1, History: []task.Entry{{Seq: 1}, {Seq: 2, State: task.Running}}},
			{ID: "2", State: task.Running, Attempt: 3, Cancelling: true},
		})
		from.SendPause("mail", true)
		synctest.Wait()
		to.mu.Lock()
		defer to.mu.Unlock()
		if len(to.heard) != 3 || to.heard[0].Kind != broker.Changed || to.heard[0].Entry.Seq != 2 ||
			to.heard[1].Kind != broker.Cancelling || to.heard[1].Attempt != 3 || to.heard[2].Kind != broker.Paused {
			t.Errorf("heard was %+v", to.heard)
		}
	})
}

func TestAGapIsReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := broker.NewMemory(broker.Bounds{Events: 1})
		defer b.Close()
		e := start(t, b)
		synctest.Wait()
		e.SendEvents(make([]broker.Event, 5))
		synctest.Wait()
		if s := e.Stats(); s.Sent != 5 || s.Missed != 4 || e.missed.Load() != 1 {
			t.Errorf("%+v, told of %d gaps", s, e.missed.Load())
		}
	})
}

func TestAPausedQueueKeepsItsIDs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := broker.NewMemory(broker.Bounds{})
		defer b.Close()
		e := start(t, b)
		e.AllPaused(map[string]bool{"": true})
		e.room.Store(5)
		e.Freed()
		synctest.Wait()
		e.Offer([]*task.Task{queued("1")})
		synctest.Wait()
		if !e.IsPaused("") || e.Waiting() != 0 {
			t.Error("an id of a paused queue was taken")
		}
		e.AllPaused(nil)
		synctest.Wait()
		if e.IsPaused("") || e.Waiting() != 1 {
			t.Error("the id of the queue that goes on was not taken")
		}
	})
}
