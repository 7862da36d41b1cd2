package durable

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/posta-tasks/posta/task"
)

// claimOf adds a claim of a task.
func claimOf(s *inflight, id string, fence int) *attempt {
	t := task.Task{ID: id, Fence: fence}
	t.Queue = "mail"
	return s.Add(&t, time.Time{})
}

func TestAnAttemptIsHeldUntilItIsRecorded(t *testing.T) {
	t.Parallel()
	s := newInflight()
	a := claimOf(s, "1", 1)
	empty := s.WhenEmpty()
	if s.Active() != 1 || s.ActiveIn("mail") != 1 || s.ActiveByQueue()["mail"] != 1 || s.Find("1", 1) != a || s.Find("1", 2) != nil {
		t.Error("it is not held")
	}
	if reason, first := s.End(a); reason != notStopped || !first {
		t.Errorf("it ended with %d, %t", reason, first)
	}
	if _, first := s.End(a); first {
		t.Error("it ended twice")
	}
	if s.Active() != 0 || len(s.ActiveByQueue()) != 0 || len(s.All()) != 1 {
		t.Error("it still runs, or is not held")
	}
	s.Forget(a)
	<-empty
}

func TestOfTwoReasonsTheMoreFinalOneCounts(t *testing.T) {
	t.Parallel()
	s := newInflight()
	a := claimOf(s, "1", 1)
	if !s.Stop(a, stopDrained) || s.Stop(a, stopCancelled) || !s.Stop(a, stopLeaseOver) || !s.IsStopped(a) {
		t.Error("a reason was replaced by a lesser one")
	}
	if !s.Lose(a) || s.Lose(a) {
		t.Error("it can be lost once")
	}
	if reason, _ := s.End(a); reason != stopLost || len(s.All()) != 0 {
		t.Errorf("it ended with %d", reason)
	}
}

func TestALeaseIsOverAtItsEnd(t *testing.T) {
	t.Parallel()
	s, start := newInflight(), time.Now()
	a := claimOf(s, "1", 1)
	s.Renewed(a, start.Add(time.Second))
	if s.LeaseOver(a, start) || !s.LeaseOver(a, start.Add(time.Second)) {
		t.Error("the lease is over too early, or not at all")
	}
	s.End(a)
	if s.LeaseOver(a, start.Add(time.Second)) {
		t.Error("what has ended needs no lease")
	}
}

func TestTheLatestProgressIsSentAndSavedOnce(t *testing.T) {
	t.Parallel()
	s := newInflight()
	a := claimOf(s, "1", 1)
	s.Report(a, task.Progress{Percent: 1})
	if sent := s.TakeUnsent(); len(sent) != 0 {
		t.Errorf("%v was sent for an attempt that is not recorded as running", sent)
	}
	s.Noted([]*attempt{a})
	s.Report(a, task.Progress{Percent: 2})
	if sent := s.TakeUnsent(); len(sent) != 1 || sent[0].Progress.Percent != 2 || sent[0].Queue != "mail" || len(s.TakeUnsent()) != 0 {
		t.Errorf("sent: %+v", sent)
	}
	if saved := s.TakeAllUnsaved([]*attempt{a}); len(saved) != 1 || saved[0].Progress.Percent != 2 || s.TakeUnsaved(a) != nil {
		t.Errorf("saved was %+v", saved)
	}
	if p := s.Newest(&a.Task); p.Percent != 2 {
		t.Errorf("the newest is %+v", p)
	}
}

func TestOnlyAnAttemptThatIsNotStoppedIsCheckedAgain(t *testing.T) {
	t.Parallel()
	s := newInflight()
	a := claimOf(s, "1", 2)
	if s.Recheck("2"); len(s.TakeToRecheck()) != 0 {
		t.Error("an attempt of another task is checked again")
	}
	s.Recheck("1")
	if list := s.TakeToRecheck(); len(list) != 1 || list[0] != a || len(s.TakeToRecheck()) != 0 {
		t.Errorf("%d are checked again", len(list))
	}
	s.Stop(a, stopCancelled)
	if s.Recheck("1"); len(s.TakeToRecheck()) != 0 {
		t.Error("an attempt that must stop is checked again")
	}
}

func TestALostAttemptKeepsNoMark(t *testing.T) {
	t.Parallel()
	s := newInflight()
	until := time.Now().Add(time.Hour)
	lost, other := s.Add(&task.Task{ID: "1"}, until), s.Add(&task.Task{ID: "2"}, until)
	s.Enter(lost, "")
	s.Enter(other, "")
	if list, _ := s.Mark(time.Now(), 1); len(list) != 1 {
		t.Fatalf("%d are marked, want 1", len(list))
	} else if list[0] == other {
		lost, other = other, lost
	}
	<-s.ToMark
	s.Lose(lost)
	<-s.ToMark // there is a mark for the other one
	if s.MarkOne(lost, 2) {
		t.Error("a lost attempt is marked")
	}
	if list, _ := s.Mark(time.Now(), 1); len(list) != 1 || list[0] != other {
		t.Errorf("%d are marked", len(list))
	}
}

func TestNoSuspectRunsBesideATaskInQuarantine(t *testing.T) {
	t.Parallel()
	s := newInflight()
	for id, row := range map[string]task.Task{"1": {Suspect: true}, "2": {Suspect: true, Crashes: 1}, "3": {}} {
		row.ID = id
		s.Add(&row, time.Time{})
	}
	if got := s.Suspects(); len(got) != 1 || got[0] != "1" {
		t.Errorf("%v are suspects", got)
	}
}

func TestATaskMayBeEnteredAsLongAsItHasNotExpiredByTheClockOfTheStore(t *testing.T) {
	t.Parallel()
	for late, want := range map[time.Duration]bool{time.Second - 1: true, time.Second: false} {
		synctest.Test(t, func(t *testing.T) {
			s, asked := newInflight(), time.Now()
			<-time.After(2 * time.Second) // the store was busy until it claimed the task
			store := time.Now().Add(time.Hour)
			row := task.Task{ID: "1", Lease: store.Add(task.LeaseTime)}
			row.Expires = store.Add(time.Second)
			a := s.Add(&row, asked.Add(task.LeaseTime))
			<-time.After(late)
			if got := s.Enter(a, ""); got != want {
				t.Errorf("entered after %s: %t, want %t", late, got, want)
			}
		})
	}
}
