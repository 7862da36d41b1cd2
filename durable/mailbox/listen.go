package mailbox

import (
	"context"

	"github.com/posta-tasks/posta/broker"
	"github.com/posta-tasks/posta/internal/wait"
)

// listen passes on what other nodes tell, until ctx ends.
func (m *Mailbox) listen(ctx context.Context) {
	for ctx.Err() == nil {
		if listener, err := m.config.Broker.Listen(); err == nil {
			m.listenTo(ctx, listener)
			_ = listener.Close() // what it has is lost, and whoever waits looks at the store
		}
		if wait.For(ctx, awayMax) {
			m.config.Missed()
		}
	}
}

// listenTo passes on what a listener collects, until it is of no use.
func (m *Mailbox) listenTo(ctx context.Context, listener broker.Listener) {
	for {
		heard, err := listener.Next(ctx)
		if err != nil {
			return
		}
		if len(heard.Events) > 0 {
			m.config.Hear(heard.Events)
		}
		if heard.Missed > 0 {
			m.missed.Add(heard.Missed)
			m.config.Missed()
		}
	}
}
