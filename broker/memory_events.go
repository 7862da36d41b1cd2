package broker

import (
	"context"
	"sync"
)

// bus is the part of a Memory that carries events.
type bus struct {
	bound int // most unread events of one listener

	// mu guards the fields below and those of the listeners.
	mu           sync.Mutex
	closed       bool
	listeners    map[*listener]struct{}
	sent, missed int64
}

// listener is a Listener. The mu of its bus guards closed and received.
type listener struct {
	bus      *bus
	ready    chan struct{} // holds one signal: there is something to collect
	closed   bool
	received Received
}

// Broadcast implements Events.
func (m *Memory) Broadcast(events []Event) {
	b := &m.events
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || len(events) == 0 {
		return
	}
	b.sent += int64(len(events))
	for l := range b.listeners {
		// A listener that missed events is full until it collects, so the gap is at the end.
		room := min(len(events), b.bound-len(l.received.Events))
		l.received.Events = append(l.received.Events, events[:room]...)
		lost := int64(len(events) - room)
		l.received.Missed += lost
		b.missed += lost
		l.wake()
	}
}

// Listen implements Events.
func (m *Memory) Listen() (Listener, error) {
	b := &m.events
	l := &listener{bus: b, ready: make(chan struct{}, 1)}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, errClosed()
	}
	b.listeners[l] = struct{}{}
	return l, nil
}

// counts returns how many events were sent, and how many the listeners lost.
func (b *bus) counts() (sent, missed int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sent, b.missed
}

// close ends all listeners.
func (b *bus) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for l := range b.listeners {
		l.end()
	}
}

// wake wakes Next. The bus's mu is held.
func (l *listener) wake() {
	select {
	case l.ready <- struct{}{}:
	default:
	}
}

// end ends the listener. The bus's mu is held.
func (l *listener) end() {
	l.closed, l.received = true, Received{}
	delete(l.bus.listeners, l)
	l.wake()
}

// Next implements Listener.
func (l *listener) Next(ctx context.Context) (Received, error) {
	for {
		if err := ctx.Err(); err != nil {
			return Received{}, err
		}
		received, err := l.collect()
		if err != nil || len(received.Events) > 0 || received.Missed > 0 {
			return received, err
		}
		select {
		case <-l.ready:
		case <-ctx.Done():
		}
	}
}

// collect returns the events that have arrived. The caller owns them.
func (l *listener) collect() (Received, error) {
	l.bus.mu.Lock()
	defer l.bus.mu.Unlock()
	if l.closed {
		return Received{}, errClosed()
	}
	received := l.received
	l.received = Received{}
	return received, nil
}

// Close implements Listener.
func (l *listener) Close() error {
	l.bus.mu.Lock()
	defer l.bus.mu.Unlock()
	l.end()
	return nil
}
