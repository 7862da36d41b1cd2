package task_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/task"
)

func TestABudgetCountsUpToItsLimit(t *testing.T) {
	t.Parallel()
	b := task.NewBudget(100)
	if b.Take(101) || !b.Take(60) || b.Take(41) || !b.Take(40) || b.Take(1) || b.Full() {
		t.Errorf("the budget of 100 holds %d", b.Used())
	}
	b.Give(100)
	if b.Used() != 0 || b.Full() {
		t.Errorf("the budget holds %d after all was given back", b.Used())
	}
	if b.TakeLasting(76) || !b.TakeLasting(75) || b.TakeLasting(1) || !b.Take(25) {
		t.Errorf("what lasts has taken more than three quarters: %d", b.Used())
	}
	b.Add(11) // small requests go on beside long ones
	if b.Used() != 111 || b.Full() {
		t.Errorf("what was there anyway is not counted: %d, full %v", b.Used(), b.Full())
	}
	if b.Add(1); !b.Full() {
		t.Errorf("the budget of 100 is not full with %d", b.Used())
	}
}

func TestABudgetsRefusalNamesItsLimit(t *testing.T) {
	t.Parallel()
	e := task.NewBudget(64 << 20).Refusal()
	if e.Code != task.Overloaded || e.Limit != "max-buffered" || e.RetryAfter != time.Second || e.Message != "the clients of this node make it hold 64 MiB, its limit" {
		t.Errorf("%+v", e)
	}
}

// wait starts a Wait and returns its outcome.
func wait(ctx context.Context, b *task.Budget, n, holds int) chan bool {
	outcome := make(chan bool, 1)
	go func() { outcome <- b.Wait(ctx, n, holds) }()
	synctest.Wait()
	return outcome
}

// isOpen reports whether a Wait has not returned yet.
func isOpen(outcome chan bool) bool {
	synctest.Wait()
	return len(outcome) == 0
}

func TestWhatDoesNotFitWaitsUntilItDoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := task.NewBudget(100)
		b.Add(90)
		first, second := wait(t.Context(), b, 50, 0), wait(t.Context(), b, 10, 0)
		if !isOpen(first) || !isOpen(second) {
			t.Fatal("they do not wait for their turn")
		}
		b.Give(40)
		if !<-first || !isOpen(second) {
			t.Fatal("the first does not come first")
		}
		b.Give(50)
		if !<-second || b.Used() != 60 {
			t.Errorf("the budget holds %d, want 60", b.Used())
		}
	})
}

func TestAWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := task.NewBudget(100)
		b.Add(100)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		late := wait(ctx, b, 60, 0)
		next := wait(t.Context(), b, 10, 0)
		if <-late {
			t.Error("it was granted")
		}
		b.Give(10)
		if !<-next {
			t.Error("who gave up stands in the way of the next")
		}
		if b.Wait(t.Context(), 101, 0) {
			t.Error("more than the limit was granted")
		}
	})
}

func TestAWaiterThatHoldsMemoryComesFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := task.NewBudget(100)
		b.Add(100)
		other, holder := wait(t.Context(), b, 20, 0), wait(t.Context(), b, 20, 40)
		b.Give(20)
		if !<-holder || !isOpen(other) {
			t.Fatal("the one that holds nothing comes first")
		}
		b.Give(80)
		if !<-other {
			t.Error("the other is not granted afterwards")
		}
	})
}

func TestOfWaitersThatBlockEachOtherTheLastIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := task.NewBudget(100)
		b.Add(100)
		first, second := wait(t.Context(), b, 20, 30), wait(t.Context(), b, 20, 30)
		if !isOpen(first) || !isOpen(second) {
			t.Fatal("they are refused although a third one holds 40")
		}
		third := wait(t.Context(), b, 20, 40)
		if <-third || !isOpen(first) || !isOpen(second) {
			t.Fatal("not the last one is refused")
		}
		b.Give(40)
		if !<-first || !<-second || b.Used() != 100 {
			t.Errorf("the budget holds %d, want 100", b.Used())
		}
		// The same when the one that did not wait returns too little.
		b.Give(b.Limit())
		b.Add(100)
		first, second = wait(t.Context(), b, 20, 40), wait(t.Context(), b, 20, 50)
		b.Give(10)
		if <-second || !isOpen(first) {
			t.Error("they wait for each other for good")
		}
	})
}

func TestABudgetIsNeverExceededAndNoCallerWaitsForever(t *testing.T) {
	t.Parallel()
	b := task.NewBudget(1000)
	var all sync.WaitGroup
	for seed := range uint64(8) {
		all.Go(func() {
			random := rand.New(rand.NewPCG(seed, 0))
			for range 500 {
				holds := 0
				for range 3 {
					n := random.IntN(300)
					if !b.Wait(t.Context(), n, holds) {
						break
					}
					holds += n
					if used := b.Used(); used > 1000 || used < int64(holds) {
						t.Errorf("the budget of 1000 holds %d, one caller %d", used, holds)
					}
				}
				b.Give(holds)
			}
		})
	}
	all.Wait()
	if b.Used() != 0 {
		t.Errorf("the budget holds %d in the end", b.Used())
	}
}
