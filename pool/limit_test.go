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
