package post

import (
	"maps"
	"sync"

	"github.com/posta-tasks/posta/broker"
)

// paused is the queues that are known to be paused. Their ids stay with the broker.
type paused struct {
	mu     sync.Mutex // guards the one below
	queues map[string]bool
}

// AllPaused notes which queues are paused, and that no other is.
func (p *Post) AllPaused(queues map[string]bool) {
	p.paused.mu.Lock()
	same := maps.Equal(p.paused.queues, queues)
	p.paused.queues = queues
	p.paused.mu.Unlock()
	if !same {
		p.Changed()
	}
}

// IsPaused tells whether a queue is known to be paused.
func (p *Post) IsPaused(queue string) bool {
	p.paused.mu.Lock()
	defer p.paused.mu.Unlock()
	return p.paused.queues[queue]
}

// want says which ids are wanted now.
func (p *Post) want() broker.Want {
	want := p.config.Room()
	p.paused.mu.Lock()
	defer p.paused.mu.Unlock()
	if len(p.paused.queues) == 0 {
		return want
	}
	rooms := map[string]int{"*": want.Limit}
	if want.Queues != nil {
		rooms = maps.Clone(want.Queues)
	}
	for queue := range p.paused.queues {
		rooms[queue] = 0
	}
	want.Queues = rooms
	return want
}
