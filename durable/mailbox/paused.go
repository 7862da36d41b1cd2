package mailbox

import (
	"maps"
	"sync"

	"github.com/posta-tasks/posta/broker"
)

// paused has the queues that are known to be paused. Their ids stay in the broker.
type paused struct {
	mu     sync.Mutex // guards the field below
	queues map[string]bool
}

// AllPaused sets the paused queues. All others are not paused.
func (m *Mailbox) AllPaused(queues map[string]bool) {
	m.paused.mu.Lock()
	same := maps.Equal(m.paused.queues, queues)
	m.paused.queues = queues
	m.paused.mu.Unlock()
	if !same {
		m.Changed()
	}
}

// IsPaused reports whether a queue is known to be paused.
func (m *Mailbox) IsPaused(queue string) bool {
	m.paused.mu.Lock()
	defer m.paused.mu.Unlock()
	return m.paused.queues[queue]
}

// want returns which ids are wanted now.
func (m *Mailbox) want() broker.Want {
	want := m.config.Want()
	m.paused.mu.Lock()
	defer m.paused.mu.Unlock()
	if len(m.paused.queues) == 0 {
		return want
	}
	limits := map[string]int{"*": want.Limit}
	if want.Queues != nil {
		limits = maps.Clone(want.Queues)
	}
	for queue := range m.paused.queues {
		limits[queue] = 0
	}
	want.Queues = limits
	return want
}
