package pool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newPool makes a pool with room for all that a test lets wait.
func newPool(tb testing.TB, config Config) *Pool {
	tb.Helper()
	config.Waiting, config.WaitingBytes = max(config.Waiting, 1), max(config.WaitingBytes, 1)
	config.Slots, config.Quick = max(config.Slots, 1), max(config.Quick, 1)
	p, err := New(config)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// roomy has room for whatever waits.
func roomy(slots, quick int) Config {
	return Config{Slots: slots, Quick: quick, Waiting: 1000, WaitingBytes: 1 << 20}
}

func TestAPoolNeedsSomethingToGive(t *testing.T) {
	t.Parallel()
	good := Config{Slots: 1, Quick: 1, Waiting: 1, WaitingBytes: 1}
	if _, err := New(good); err != nil {
		t.Error(err)
	}
	for _, spoil := range []func(*Config){
		func(c *Config) { c.Slots = 0 }, func(c *Config) { c.Quick = 0 }, func(c *Config) { c.Stuck = -1 },
		func(c *Config) { c.Waiting = 0 }, func(c *Config) { c.WaitingBytes = 0 },
	} {
		bad := good
		spoil(&bad)
		if _, err := New(bad); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

// inBubble runs a test whose goroutines can be waited for.
func inBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

func TestNoMoreRunsAtOnceThanThereAreSlots(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPool(t, roomy(3, 1))
		source := p.NewSource()
		started, goOn := make(chan int, 10), make(chan bool)
		for i := range 10 {
			if !source.TryGo(1, nil, func() { started <- i; <-goOn; p.LeaveSlot(nil) }) {
				t.Fatal("there is room, but the work is refused")
			}
		}
		synctest.Wait()
		if len(started) != 3 || p.Stats() != (Stats{Slots: 3, Busy: 3, Quick: 1, Waiting: 7}) {
			t.Errorf("%d run, %+v", len(started), p.Stats())
		}
		for range 10 {
			goOn <- true
			synctest.Wait()
			if busy := p.Stats().Busy; busy > 3 {
				t.Fatalf("%d slots are taken", busy)
			}
		}
		if p.Stats() != (Stats{Slots: 3, Quick: 1}) {
			t.Errorf("at the end %+v", p.Stats())
		}
		for want := range 10 {
			if got := <-started; got/3 != want/3 && got > want+2 {
				t.Errorf("work %d began as the %dth of its source", got, want)
			}
		}
	})
}

func TestSourcesTakeTurns(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPool(t, roomy(1, 1))
		goOn := make(chan bool)
		var order []string
		add := func(s *Source, name string) {
			s.TryGo(1, nil, func() { order = append(order, name); <-goOn; p.LeaveSlot(nil) })
		}
		greedy, modest, late := p.NewSource(), p.NewSource(), p.NewSource()
		for i := range 6 {
			add(greedy, fmt.Sprintf("greedy%d", i))
		}
		for i := range 2 {
			add(modest, fmt.Sprintf("modest%d", i))
		}
		goOn <- true // greedy0
		synctest.Wait()
		add(late, "late0")
		for range 8 {
			goOn <- true
		}
		synctest.Wait()
		want := []string{"greedy0", "greedy1", "modest0", "greedy2", "late0", "modest1", "greedy3", "greedy4", "greedy5"}
		if !slices.Equal(order, want) {
			// Who came first within a round does not matter; that each had its turn does.
			t.Logf("the order is %v", order)
			if slices.Index(order, "modest1") > 5 || slices.Index(order, "late0") > 5 {
				t.Errorf("a source with much work kept the others waiting: %v", order)
			}
		}
	})
}

func TestOutgrownWorkGetsASlotBeforeAllThatWaits(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPool(t, roomy(1, 1))
		source := p.NewSource()
		goOn, started := make(chan bool), make(chan bool, 2)
		for range 2 {
			source.TryGo(1, nil, func() { started <- true; <-goOn; p.LeaveSlot(nil) })
		}
		if err := p.EnterQuick(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.Outgrow()
		synctest.Wait()
		if s := p.Stats(); s.QuickBusy != 0 || s.Busy != 2 || len(started) != 1 {
			t.Errorf("while no slot is free: %+v", s)
		}
		if err := p.EnterQuick(t.Context()); err != nil { // the quick permit came back
			t.Error(err)
		}
		p.LeaveQuick()
		goOn <- true
		synctest.Wait()
		if s := p.Stats(); s.Busy != 1 || len(started) != 1 {
			t.Errorf("the slot that became free went elsewhere: %+v, %d started", s, len(started))
		}
		p.LeaveOutgrown()
		synctest.Wait()
		if len(started) != 2 {
			t.Error("what waited does not start when the outgrown work ends")
		}
		goOn <- true
		synctest.Wait()
		if s := p.Stats(); s != (Stats{Slots: 1, Quick: 1}) {
			t.Errorf("at the end %+v", s)
		}
	})
}

func TestOutgrownWorkKeepsItsQuickPermitWhenTwiceTheSlotsAreTaken(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPool(t, roomy(1, 2))
		goOn := make(chan bool)
		p.NewSource().TryGo(1, nil, func() { <-goOn; p.LeaveSlot(nil) })
		for range 2 {
			if err := p.EnterQuick(t.Context()); err != nil {
				t.Fatal(err)
			}
			p.Outgrow()
		}
		if s := p.Stats(); s.Busy != 2 || s.QuickBusy != 1 {
			t.Errorf("with two outgrown: %+v", s)
		}
		if err := p.EnterQuick(t.Context()); err != nil {
			t.Fatal(err)
		}
		entered := make(chan error, 1)
		go func() { entered <- p.EnterQuick(t.Context()) }()
		synctest.Wait()
		p.LeaveOutgrown()
		if err := <-entered; err != nil {
			t.Error(err)
		}
		p.LeaveQuick()
		p.LeaveQuick()
		goOn <- true
		synctest.Wait()
		if s := p.Stats(); s.Busy != 1 || s.QuickBusy != 0 {
			t.Errorf("with one outgrown left: %+v", s)
		}
		p.LeaveOutgrown()
		if s := p.Stats(); s != (Stats{Slots: 1, Quick: 2}) {
			t.Errorf("at the end %+v", s)
		}
	})
}

func TestQuickPermitsAreGivenInTheOrderOfAsking(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPool(t, roomy(1, 2))
		for range 2 {
			if err := p.EnterQuick(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		var order []int
		for i := range 5 {
			go func() {
				if p.EnterQuick(t.Context()) == nil {
					order = append(order, i)
				}
			}()
			synctest.Wait()
		}
		for range 5 {
			p.LeaveQuick()
			synctest.Wait()
		}
		if !slices.Equal(order, []int{0, 1, 2, 3, 4}) || p.Stats().QuickBusy != 2 {
			t.Errorf("the order is %v, %+v", order, p.Stats())
		}
	})
}

func TestACallerThatGivesUpTakesNoQuickPermit(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPool(t, roomy(1, 1))
		ended, end := context.WithCancel(t.Context())
		end()
		if err := p.EnterQuick(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("with a permit free and an ended context: %v", err)
		}
		if err := p.EnterQuick(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := p.EnterQuick(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("with no permit free and an ended context: %v", err)
		}
		soon, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		first := make(chan error, 1)
		second := make(chan error, 1)
		go func() { first <- p.EnterQuick(soon) }()
		synctest.Wait()
		go func() { second <- p.EnterQuick(t.Context()) }()
		synctest.Wait()
		if err := <-first; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("at the deadline: %v", err)
		}
		p.LeaveQuick()
		if err := <-second; err != nil {
			t.Errorf("who waited behind the one that gave up: %v", err)
		}
		p.LeaveQuick()
		if s := p.Stats(); s.QuickBusy != 0 {
			t.Errorf("at the end %+v", s)
		}
	})
}

func TestStuckWorkIsReplacedUpToALimit(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		config := roomy(2, 1)
		config.Stuck = 1
		p := newPool(t, config)
		source := p.NewSource()
		goOn, started := make(chan bool), make(chan bool, 9)
		for range 5 {
			source.TryGo(1, nil, func() { started <- true; <-goOn; p.LeaveSlot(nil) })
		}
		synctest.Wait()
		p.Stuck()
		synctest.Wait()
		if s := p.Stats(); len(started) != 3 || s.Slots != 3 || s.Stuck != 1 || !p.Healthy() {
			t.Errorf("with one stuck: %d run, %+v, healthy %t", len(started), s, p.Healthy())
		}
		p.Stuck()
		synctest.Wait()
		if s := p.Stats(); len(started) != 3 || s.Slots != 3 || s.Stuck != 2 || p.Healthy() {
			t.Errorf("with two stuck: %d run, %+v, healthy %t", len(started), s, p.Healthy())
		}
		p.Unstuck()
		goOn <- true
		synctest.Wait()
		if !p.Healthy() || len(started) != 4 {
			t.Errorf("with one back: %d have run, healthy %t", len(started), p.Healthy())
		}
		p.Unstuck()
		goOn <- true
		synctest.Wait()
		if s := p.Stats(); len(started) != 4 || s.Busy != 2 || s.Slots != 2 {
			t.Errorf("the replacement is kept: %d have run, %+v", len(started), s)
		}
		for range 3 {
			goOn <- true
		}
		synctest.Wait()
		if s := p.Stats(); s != (Stats{Slots: 2, Quick: 1}) {
			t.Errorf("at the end %+v", s)
		}
	})
}
