package durable

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/task"
)

// prefetched claims so many tasks.
func prefetched(a *prefetch, n int) {
	all := newInflight()
	list := make([]*attempt, n)
	for i := range list {
		list[i] = all.Add(&task.Task{}, time.Now())
	}
	a.Put(list)
}

// runAll runs all that waits, slot by slot, each for so long.
func runAll(a *prefetch, long time.Duration) {
	for next := a.Next(); next != nil; next = a.Next() {
		<-time.After(long)
		a.Leave(next)
	}
}

func TestAsManyAreClaimedAheadAsHaveTheirTurnWithinTheHorizon(t *testing.T) {
	t.Parallel()
	for long, want := range map[time.Duration]int{
		0: 1024, 10 * time.Microsecond: 1024, time.Millisecond: 200, 10 * time.Millisecond: 20, 50 * time.Millisecond: 4, time.Second: 0,
	} {
		t.Run(long.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newPrefetch(4, func() {})
				if n := a.Allowed(); n != 0 {
					t.Errorf("%d ahead before any has ended", n)
				}
				prefetched(a, 100)
				runAll(a, long)
				if n := a.Allowed(); n != want {
					t.Errorf("%d ahead, want %d", n, want)
				}
			})
		})
	}
}

func TestWhatWaitsTooLongIsTakenOutAndNothingIsClaimedAheadForAWhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		woken := 0
		a := newPrefetch(1, func() { woken++ })
		prefetched(a, 10)
		runAll(a, time.Millisecond)
		prefetched(a, 3)
		slow := a.Next()
		if slow == nil || a.Next() != nil || a.Len() != 2 {
			t.Fatalf("one slot has %v, and %d wait", slow, a.Len())
		}
		<-time.After(prefetchPatience - time.Millisecond)
		if late := a.Late(prefetchPatience); len(late) != 0 {
			t.Errorf("%d are late too soon", len(late))
		}
		prefetched(a, 1)
		<-time.After(time.Millisecond)
		if late := a.Late(prefetchPatience); len(late) != 2 || a.Len() != 1 || a.Allowed() != 0 {
			t.Errorf("%d are late, %d wait, %d more may be claimed", len(late), a.Len(), a.Allowed())
		}
		before := woken
		a.Leave(slow)
		if woken != before+1 || a.Next() == nil {
			t.Error("a slot is free, and nobody is told")
		}
	})
}

func TestWhatEndsBeforeItIsPutOrLaunchedTakesNoSlot(t *testing.T) {
	t.Parallel()
	a, all := newPrefetch(1, func() {}), newInflight()
	var list []*attempt
	for _, id := range []string{"1", "2", "3"} {
		list = append(list, all.Add(&task.Task{ID: id}, time.Now()))
	}
	a.Leave(list[0]) // it expired, or was cancelled, since it was claimed
	a.Put(list)
	a.Leave(list[1])
	if n := a.Len(); n != 1 {
		t.Errorf("%d wait, want 1", n)
	}
	if next := a.Next(); next != list[2] || a.Next() != nil {
		t.Fatal("what has ended is launched, or the one that has not is not")
	}
	a.Leave(list[2])
	prefetched(a, 1)
	if a.Next() == nil {
		t.Error("the slot is lost")
	}
}
