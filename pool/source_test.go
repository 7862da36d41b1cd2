package pool

import (
	"testing"
	"testing/synctest"
)

func TestAPausedSourceStartsNothingAndKeepsItsPlaceInNoQueue(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPool(t, roomy(1, 1))
		paused, other := p.NewSource(), p.NewSource()
		var order []string
		add := func(s *Source, name string) {
			s.TryGo(1, nil, func() { order = append(order, name); p.LeaveSlot(nil) })
		}
		paused.Pause()
		paused.Pause()
		add(paused, "paused")
		add(paused, "paused")
		add(other, "other")
		synctest.Wait()
		if len(order) != 1 || order[0] != "other" || p.Stats().Waiting != 2 {
			t.Errorf("%v have run, %+v", order, p.Stats())
		}
		paused.Resume()
		paused.Resume()
		synctest.Wait()
		if len(order) != 3 || p.Stats() != (Stats{Slots: 1, Quick: 1}) {
			t.Errorf("%v have run, %+v", order, p.Stats())
		}
		paused.Pause()
		paused.Resume() // with nothing to start
		add(paused, "paused")
		synctest.Wait()
		if len(order) != 4 {
			t.Errorf("%v have run", order)
		}
	})
}

func TestWorkIsRefusedWhenTooMuchWaits(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPool(t, Config{Slots: 1, Quick: 1, Waiting: 2, WaitingBytes: 100})
		source := p.NewSource()
		goOn := make(chan bool)
		work := func() { <-goOn; p.LeaveSlot(nil) }
		if !source.TryGo(1000, nil, work) { // a slot is free: it does not wait
			t.Error("work for a free slot is refused")
		}
		if !source.TryGo(500, nil, work) { // nothing else waits
			t.Error("work above the weight is refused although it would wait alone")
		}
		if source.TryGo(0, nil, work) {
			t.Error("work is taken above the weight")
		}
		goOn <- true
		synctest.Wait()
		for range 2 {
			if !source.TryGo(50, nil, work) {
				t.Error("work within both bounds is refused")
			}
		}
		if source.TryGo(0, nil, work) {
			t.Error("more work is taken than may wait")
		}
		for range 4 {
			select {
			case goOn <- true:
			default:
			}
			synctest.Wait()
		}
		if s := p.Stats(); s != (Stats{Slots: 1, Quick: 1}) {
			t.Errorf("at the end %+v", s)
		}
	})
}

func TestGoWaitsUntilThereIsRoom(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPool(t, Config{Slots: 1, Quick: 1, Waiting: 1, WaitingBytes: 100})
		source, other := p.NewSource(), p.NewSource()
		goOn := make(chan bool)
		work := func() { <-goOn; p.LeaveSlot(nil) }
		source.TryGo(1, nil, work)
		source.TryGo(1, nil, work)
		taken := make(chan bool, 1)
		go func() { taken <- other.Go(1, nil, work) }()
		synctest.Wait()
		if len(taken) != 0 {
			t.Fatal("more waits than may")
		}
		goOn <- true
		if !<-taken {
			t.Error("the work was refused")
		}
		goOn <- true
		goOn <- true
		synctest.Wait()
		if s := p.Stats(); s != (Stats{Slots: 1, Quick: 1}) {
			t.Errorf("at the end %+v", s)
		}
	})
}

func TestDropDiscardsWaitingWorkAndCallsOfGo(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPool(t, Config{Slots: 1, Quick: 1, Waiting: 3, WaitingBytes: 100})
		busy, dropped := p.NewSource(), p.NewSource()
		goOn := make(chan bool)
		busy.TryGo(1, nil, func() { <-goOn; p.LeaveSlot(nil) })
		never := func() { t.Error("dropped work runs"); p.LeaveSlot(nil) }
		for range 3 {
			dropped.TryGo(30, nil, never)
		}
		taken := make(chan bool, 1)
		go func() { taken <- dropped.Go(1, nil, never) }()
		synctest.Wait()
		if n := dropped.Drop(); n != 3 {
			t.Errorf("%d pieces are dropped, want 3", n)
		}
		if <-taken {
			t.Error("what waited for room was taken after its source was dropped")
		}
		if s := p.Stats(); s.Waiting != 0 {
			t.Errorf("%d pieces still wait", s.Waiting)
		}
		ran := make(chan bool, 1)
		if !dropped.TryGo(100, nil, func() { ran <- true; p.LeaveSlot(nil) }) {
			t.Error("the weight of dropped work still counts")
		}
		goOn <- true
		<-ran
		if n := dropped.Drop(); n != 0 {
			t.Errorf("%d pieces are dropped of a source that has none", n)
		}
	})
}

func TestDropOfAPausedSourceLeavesNothingBehind(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPool(t, roomy(1, 1))
		source := p.NewSource()
		source.Pause()
		source.TryGo(5, nil, func() { t.Error("dropped work runs") })
		if n := source.Drop(); n != 1 {
			t.Errorf("%d pieces are dropped", n)
		}
		source.Resume()
		synctest.Wait()
		if s := p.Stats(); s != (Stats{Slots: 1, Quick: 1}) || p.weight != 0 || len(p.turns) != 0 {
			t.Errorf("at the end %+v, weight %d, %d turns", s, p.weight, len(p.turns))
		}
	})
}

func TestWorkThatHasStartedIsNotKeptInMemory(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPool(t, roomy(1, 1))
		source := p.NewSource()
		goOn := make(chan bool)
		for range 4 {
			source.TryGo(1, nil, func() { <-goOn; p.LeaveSlot(nil) })
		}
		kept := source.waiting[:1:1]
		goOn <- true
		synctest.Wait()
		if kept[0].start != nil {
			t.Error("the queue still holds work that has started")
		}
		for range 3 {
			goOn <- true
		}
	})
}
