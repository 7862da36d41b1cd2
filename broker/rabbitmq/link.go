package rabbitmq

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/posta-tasks/posta/broker/rabbitmq/amqp"
)

// The pause before a server that is away is dialled again doubles from the first to the
// second; a random half of it is left out, so that nodes do not come all at once.
const (
	pauseMin = 100 * time.Millisecond
	pauseMax = 2 * time.Second
)

// link keeps one connection.
type link struct {
	dial amqp.Dialer
	log  *slog.Logger
	name string
	up   func(amqp.Connection) error // makes all ready on a new connection
	down func()                      // it has gone

	mu      sync.Mutex      // guards the one below
	current amqp.Connection // nil: the server is away
}

// run connects, again and again, until ctx ends.
func (l *link) run(ctx context.Context) {
	for pause := pauseMin; ; pause = min(2*pause, pauseMax) {
		c, err := l.dial(ctx)
		if err == nil {
			began := time.Now()
			err = l.serve(ctx, c)
			if time.Since(began) > pauseMax {
				pause = pauseMin
			}
		}
		if ctx.Err() != nil {
			return
		}
		l.log.Warn("the broker is away", "connection", l.name, "error", err)
		select {
		case <-time.After(pause/2 + rand.N(pause/2+1)):
		case <-ctx.Done():
			return
		}
	}
}

// serve has a connection used until it goes, and says why it went.
func (l *link) serve(ctx context.Context, c amqp.Connection) error {
	defer c.Close()
	l.set(c)
	defer func() {
		l.set(nil)
		l.down()
	}()
	if err := l.up(c); err != nil {
		return err
	}
	l.log.Info("connected to the broker", "connection", l.name)
	select {
	case err := <-c.Closed():
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *link) set(c amqp.Connection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current = c
}

// now gives the connection, or nil.
func (l *link) now() amqp.Connection {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current
}
