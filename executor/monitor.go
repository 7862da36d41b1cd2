package executor

import (
	"sync/atomic"
	"time"
)

// restAfter is after how many looks at empty lanes the monitor sleeps, so that an idle node does nothing.
const restAfter = 50

// monitor looks at the lanes in use once a period, and calls steal for those that still run the same task as at its
// last look.
type monitor struct {
	places []place
	awake  atomic.Bool
	wake   chan struct{}
	stop   chan struct{}
	ended  chan struct{}
}

// place holds a lane that is in use. It fills a cache line.
type place struct {
	lane atomic.Pointer[Lane]
	_    [56]byte
}

// sight is what the monitor saw in a place.
type sight struct {
	lane  *Lane
	state uint64
}

func newMonitor(places int) *monitor {
	return &monitor{
		places: make([]place, places),
		wake:   make(chan struct{}, 1),
		stop:   make(chan struct{}),
		ended:  make(chan struct{}),
	}
}

// enter puts a lane into a free place. There are as many places as quick permits, and each lane leaves its place
// before it returns its permit, so a place is always free.
func (m *monitor) enter(l *Lane) {
	for i := 0; ; i = (i + 1) % len(m.places) {
		if m.places[i].lane.Load() == nil && m.places[i].lane.CompareAndSwap(nil, l) {
			l.place = i
			break
		}
	}
	if !m.awake.Load() {
		select {
		case m.wake <- struct{}{}:
		default:
		}
	}
}

// leave frees the place of the lane.
func (m *monitor) leave(l *Lane) { m.places[l.place].lane.Store(nil) }

// run looks at the lanes until close is called.
func (m *monitor) run() {
	defer close(m.ended)
	seen := make([]sight, len(m.places))
	timer := time.NewTimer(period)
	defer timer.Stop()
	for {
		select {
		case <-m.wake:
		case <-m.stop:
			return
		}
		m.awake.Store(true)
		for empty := 0; empty < restAfter || m.inUse(); {
			timer.Reset(period)
			select {
			case <-timer.C:
			case <-m.stop:
				return
			}
			if m.look(seen) {
				empty = 0
			} else {
				empty++
			}
			if empty == restAfter {
				m.awake.Store(false)
			}
		}
	}
}

// inUse reports whether a lane has entered while the monitor was about to sleep. Then it stays awake.
func (m *monitor) inUse() bool {
	for i := range m.places {
		if m.places[i].lane.Load() != nil {
			m.awake.Store(true)
			return true
		}
	}
	return false
}

// look compares each place with what it saw there at the last look.
func (m *monitor) look(seen []sight) (inUse bool) {
	for i := range m.places {
		lane := m.places[i].lane.Load()
		if lane == nil {
			seen[i] = sight{}
			continue
		}
		inUse = true
		now := sight{lane, lane.state.Load()}
		if now == seen[i] && now.state&laneBusy != 0 {
			lane.steal(now.state)
			now = sight{}
		}
		seen[i] = now
	}
	return inUse
}

// close ends run and waits for it.
func (m *monitor) close() {
	close(m.stop)
	<-m.ended
}
