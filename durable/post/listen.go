package post

import (
	"context"

	"github.com/posta-tasks/posta/broker"
)

// listen passes on what other nodes tell, until ctx ends.
func (p *Post) listen(ctx context.Context) {
	for ctx.Err() == nil {
		if listener, err := p.config.Broker.Listen(); err == nil {
			p.listenTo(ctx, listener)
			_ = listener.Close() // what it has is lost, and whoever waits looks at the store
		}
		if pause(ctx, awayMax) {
			p.config.Missed()
		}
	}
}

// listenTo passes on what a listener collects, until it is of no use.
func (p *Post) listenTo(ctx context.Context, listener broker.Listener) {
	for {
		heard, err := listener.Next(ctx)
		if err != nil {
			return
		}
		if len(heard.Events) > 0 {
			p.config.Hear(heard.Events)
		}
		if heard.Missed > 0 {
			p.missed.Add(heard.Missed)
			p.config.Missed()
		}
	}
}
