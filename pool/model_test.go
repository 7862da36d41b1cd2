package pool

import (
	"context"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model does to a pool what may be done to it, in any order, and knows what must follow.
type model struct {
	pool      *Pool
	config    Config
	sources   []*modelSource
	started   chan *modelSource // one a piece of work that has begun
	held      int               // slots held by work of sources
	quick     int               // quick permits held, outgrown work aside
	outgrown  int               // pieces of outgrown work, with a slot or not
	stuck     int
	lastStuck int // at the last check
}

// modelSource is a source and what it has waiting.
type modelSource struct {
	*Source
	weights []int
	paused  bool
}

func TestThePoolKeepsItsPromisesWhateverIsDoneToIt(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		small := rapid.IntRange(1, 4)
		m := &model{started: make(chan *modelSource, 1000)}
		m.config = Config{Slots: small.Draw(t, "slots"), Quick: small.Draw(t, "quick"), Stuck: rapid.IntRange(0, 2).Draw(t, "stuck"), Waiting: rapid.IntRange(1, 6).Draw(t, "waiting"), WaitingBytes: 100}
		var err error
		if m.pool, err = New(m.config); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			m.sources = append(m.sources, &modelSource{Source: m.pool.NewSource()})
		}
		t.Repeat(map[string]func(*rapid.T){
			"":        m.check,
			"go":      m.tryGo,
			"leave":   m.leaveSlot,
			"pause":   func(t *rapid.T) { s := m.draw(t); s.Pause(); s.paused = true },
			"resume":  func(t *rapid.T) { s := m.draw(t); s.Resume(); s.paused = false },
			"drop":    m.drop,
			"enter":   m.enter,
			"exit":    m.exit,
			"outgrow": m.outgrow,
			"shrink":  m.leaveOutgrown,
			"stuck":   func(*rapid.T) { m.pool.Stuck(); m.stuck++ },
			"unstuck": m.unstuck,
		})
	})
}

func (m *model) draw(t *rapid.T) *modelSource { return rapid.SampledFrom(m.sources).Draw(t, "source") }

func (m *model) tryGo(t *rapid.T) {
	s, weight := m.draw(t), rapid.IntRange(0, 120).Draw(t, "weight")
	pieces, bytes := m.waiting()
	want := pieces == 0 || (pieces < m.config.Waiting && bytes+weight <= m.config.WaitingBytes)
	if got := s.TryGo(weight, nil, func() { m.started <- s }); got != want {
		t.Fatalf("with %d pieces of %d bytes waiting, one of %d bytes is taken: %t", pieces, bytes, weight, got)
	}
	if want {
		s.weights = append(s.weights, weight)
	}
}

func (m *model) leaveSlot(t *rapid.T) {
	if m.held == 0 {
		t.Skip("no slot is held")
	}
	m.held--
	m.pool.LeaveSlot(nil)
}

func (m *model) drop(t *rapid.T) {
	s := m.draw(t)
	if n := s.Drop(); n != len(s.weights) {
		t.Fatalf("%d pieces are dropped, %d waited", n, len(s.weights))
	}
	s.weights = nil
}

func (m *model) enter(t *rapid.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Microsecond)
	defer cancel()
	if m.pool.Stats().QuickBusy < m.config.Quick {
		ctx = context.Background()
	}
	err := m.pool.EnterQuick(ctx)
	if err == nil {
		m.quick++
	}
}

func (m *model) exit(t *rapid.T) {
	if m.quick == 0 {
		t.Skip("no quick permit is held")
	}
	m.quick--
	m.pool.LeaveQuick()
}

func (m *model) outgrow(t *rapid.T) {
	if m.quick == 0 {
		t.Skip("no quick permit is held")
	}
	m.quick--
	m.outgrown++
	m.pool.Outgrow()
}

func (m *model) leaveOutgrown(t *rapid.T) {
	if m.outgrown == 0 {
		t.Skip("nothing is outgrown")
	}
	m.outgrown--
	m.pool.LeaveOutgrown()
}

func (m *model) unstuck(t *rapid.T) {
	if m.stuck == 0 {
		t.Skip("nothing is stuck")
	}
	m.stuck--
	m.pool.Unstuck()
}

// waiting is the work that waits, and its weight.
func (m *model) waiting() (pieces, weight int) {
	for _, s := range m.sources {
		pieces += len(s.weights)
		for _, w := range s.weights {
			weight += w
		}
	}
	return pieces, weight
}

// check takes note of what has begun and compares.
func (m *model) check(t *rapid.T) {
	stats := m.pool.Stats()
	before, _ := m.waiting()
	begun := before - stats.Waiting
	for range begun {
		s := <-m.started
		if s.paused {
			t.Fatal("work of a paused source begins")
		}
		s.weights = s.weights[1:]
		m.held++
	}
	inSlots := stats.Busy - m.held      // of outgrown work
	withoutSlot := m.outgrown - inSlots // still on its quick permit
	slots := m.config.Slots + min(m.stuck, m.config.Stuck)
	switch {
	case len(m.started) > 0:
		t.Fatal("more begins than the statistics say")
	case stats.Slots != slots || stats.Stuck != m.stuck || m.pool.Healthy() != (m.stuck <= m.config.Stuck):
		t.Fatalf("%d are stuck: %+v, healthy %t", m.stuck, stats, m.pool.Healthy())
	case inSlots < 0 || withoutSlot < 0 || withoutSlot != m.pool.outgrown:
		t.Fatalf("of %d outgrown pieces, %d are in slots and %d wait for one: %+v", m.outgrown, inSlots, m.pool.outgrown, stats)
	case stats.QuickBusy != m.quick+withoutSlot || stats.QuickBusy > m.config.Quick:
		t.Fatalf("%d quick permits and %d outgrown ones are held: %+v", m.quick, withoutSlot, stats)
	case stats.Busy > 2*(m.config.Slots+m.config.Stuck):
		t.Fatalf("more runs than ever may: %+v", stats)
	case stats.Busy < 2*slots && withoutSlot > 0:
		t.Fatalf("outgrown work does not get the slot that it may have: %+v", stats)
	case begun > 0 && stats.Busy > slots && m.lastStuck <= m.stuck:
		t.Fatalf("work of a source begins beyond the slots: %+v", stats)
	}
	m.lastStuck = m.stuck
	for _, s := range m.sources {
		if stats.Busy < slots && !s.paused && len(s.weights) > 0 {
			t.Fatalf("work waits although a slot is free: %+v", stats)
		}
	}
}
