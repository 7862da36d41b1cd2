package rabbitmq

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/posta-tasks/posta/internal/outage"
)

// The pause between dials doubles from pauseMin to pauseMax. It has jitter, so that not all nodes
// reconnect at the same time.
const (
	pauseMin = 100 * time.Millisecond
	pauseMax = 2 * time.Second
)

// link keeps one connection open.
type link struct {
	dial   dialer
	name   string
	outage *outage.Part
	up     func(connection) error // sets up a new connection
	down   func()                 // is called when a connection has ended

	logFirst sync.Once // logs the first connection

	mu      sync.Mutex // guards the fields below
	current connection // nil: the server is away
	why     error      // the reason passed to giveUp; nil: giveUp was not called
}

// run connects and reconnects until ctx ends.
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
		l.outage.Down(l.name, err)
		select {
		case <-time.After(pause/2 + rand.N(pause/2+1)):
		case <-ctx.Done():
			return
		}
	}
}

// serve uses a connection until it ends, and returns the reason.
func (l *link) serve(ctx context.Context, c connection) error {
	defer c.Close()
	l.set(c)
	defer func() {
		l.set(nil)
		l.down()
	}()
	if err := l.up(c); err != nil {
		return err
	}
	l.outage.Up(l.name)
	l.logFirst.Do(func() { l.outage.Logger.Info("connected to the broker", "connection", l.name) })
	select {
	case err := <-c.Closed():
		if why := l.givenUp(); why != nil {
			return why
		}
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *link) set(c connection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current, l.why = c, nil
}

// giveUp closes a connection on which something does not work, so that run opens another one.
func (l *link) giveUp(c connection, why error) {
	if c == nil {
		return
	}
	l.mu.Lock()
	if l.current == c && l.why == nil {
		l.why = why
	}
	l.mu.Unlock()
	c.Close()
}

func (l *link) givenUp() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.why
}

// now returns the current connection, or nil.
func (l *link) now() connection {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current
}
