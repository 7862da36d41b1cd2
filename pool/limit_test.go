package pool

import (
	"testing"
	"testing/synctest"
)

func TestWorkOverItsLimitLetsOtherWorkPass(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := newPool(t, roomy(3, 1))
		limit := p.NewLimit(1)
		ran := make(chan string, 20)
		goOn := map[string]chan bool{"few": make(chan bool), "any": make(chan bool)}
		source, other := p.NewSource(), p.NewSource()
		add := func(s *Source, kind string, within *Limit) {
			s.TryGo(1, within, func() { ran <- kind; <-goOn[kind]; p.LeaveSlot(within) })
		}
		for range 4 {
			add(source, "few", limit)
		}
		for range 2 {
			add(source, "any", nil)
			add(other, "any", nil)
		}
		synctest.Wait()
		if got := p.Stats(); got.Busy != 3 || got.Waiting != 5 || limit.Free() != 0 {
			t.Errorf("%+v, want 3 busy and 5 that wait", got)
		}
		few, others := 0, 0
		for len(ran) > 0 {
			if <-ran == "few" {
				few++
			} else {
				others++
			}
		}
		if few != 1 || others != 2 {
			t.Errorf("%d of the limited kind run and %d others, want 1 and 2", few, others)
		}
		goOn["few"] <- true // the next one goes before the others that wait
		synctest.Wait()
		if kind := <-ran; kind != "few" {
			t.Errorf("%s is next, want few", kind)
		}
		source.Pause()
		goOn["few"] <- true
		synctest.Wait()
		if kind := <-ran; kind != "any" {
			t.Errorf("%s is next while its source is paused, want any", kind)
		}
		source.Resume()
		limit.Set(2)
		goOn["any"] <- true
		synctest.Wait()
		if kind := <-ran; kind != "few" {
			t.Errorf("%s is next, want few", kind)
		}
		if n := source.Drop(); n == 0 || p.Stats().Waiting != 0 {
			t.Errorf("%d are dropped, and %d still wait", n, p.Stats().Waiting)
		}
		close(goOn["few"])
		close(goOn["any"])
		synctest.Wait()
		if got := p.Stats(); got.Busy != 0 || limit.Free() != 2 {
			t.Errorf("at the end: %+v, %d free", got, limit.Free())
		}
	})
}

func TestWorkThatIsSetAsideTakesNoRoomOfOtherWork(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		config := roomy(2, 1)
		config.Waiting, config.WaitingBytes = 3, 100
		p := newPool(t, config)
		limit, second := p.NewLimit(1), p.NewLimit(1)
		source, goOn := p.NewSource(), make(chan bool)
		try := func(within *Limit, weight int) bool {
			return source.TryGo(weight, within, func() { <-goOn; p.LeaveSlot(within) })
		}
		for i := range 4 { // one runs
			if !try(limit, 30) {
				t.Fatalf("piece %d may not wait", i)
			}
		}
		if got := p.Stats(); got.Waiting != 3 || got.Aside != 3 || got.Busy != 1 {
			t.Errorf("%+v, want 3 aside", got)
		}
		if try(limit, 1) {
			t.Error("more than 3 stand aside")
		}
		for i := range 4 { // one runs
			if !try(nil, 30) {
				t.Errorf("other work: piece %d may not wait", i)
			}
		}
		if try(nil, 1) || try(second, 1) {
			t.Error("more than 3 wait for a slot")
		}
		source.Drop()
		if got := p.Stats(); got.Waiting != 0 || got.Aside != 0 || p.weight != 0 || p.asideSize != 0 || p.limited != 0 || limit.waiting != 0 {
			t.Errorf("after a drop: %+v, weights %d %d %d", got, p.weight, p.asideSize, p.limited)
		}
		for range 3 {
			try(limit, 5)
		}
		close(goOn)
		synctest.Wait()
		if got := p.Stats(); got.Busy != 0 || got.Waiting != 0 || got.Aside != 0 || p.weight != 0 || p.asideSize != 0 || p.limited != 0 || limit.waiting != 0 {
			t.Errorf("at the end: %+v, weights %d %d %d", got, p.weight, p.asideSize, p.limited)
		}
	})
}
