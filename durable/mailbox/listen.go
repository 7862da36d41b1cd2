package mailbox

import (
	"context"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/internal/wait"
)

// listen passes events of other nodes to the engine until ctx ends.
func (m *Mailbox) listen(ctx context.Context) {
	for ctx.Err() == nil {
		if listener, err := m.config.Broker.Listen(); err == nil {
			m.listenTo(ctx, listener)
			_ = listener.Close() // its events are lost, and subscribers read the store
		}
		if wait.For(ctx, awayMax) {
			m.config.Missed()
		}
	}
}

// listenTo passes the events of a listener to the engine until the listener fails.
func (m *Mailbox) listenTo(ctx context.Context, listener broker.Listener) {
	for {
		received, err := listener.Next(ctx)
		if err != nil {
			return
		}
		if len(received.Events) > 0 {
			m.config.Receive(received.Events)
		}
		if received.Missed > 0 {
			m.missed.Add(received.Missed)
			m.config.Missed()
		}
	}
}
