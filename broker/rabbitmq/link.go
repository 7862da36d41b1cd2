package rabbitmq

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// The pause before a server that is away is dialled again doubles from the first to the
// second; a random half of it is left out, so that nodes do not come all at once.
const (
	pauseMin = 100 * time.Millisecond
	pauseMax = 2 * time.Second
)

// link keeps one connection.
type link struct {
	dial dialer
	name string
	is   *condition
	up   func(connection) error // makes all ready on a new connection
	down func()                 // it has gone

	first sync.Once // connection

	mu      sync.Mutex // guards the two below
	current connection // nil: the server is away
	why     error      // it was given up; nil: it was not
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
		l.is.fails(l.name, err)
		select {
		case <-time.After(pause/2 + rand.N(pause/2+1)):
		case <-ctx.Done():
			return
		}
	}
}

// serve has a connection used until it goes, and says why it went.
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
	l.is.works(l.name)
	l.first.Do(func() { l.is.log.Info("connected to the broker", "connection", l.name) })
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

// giveUp has a connection opened anew, since something on it does not work.
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

// now gives the connection, or nil.
func (l *link) now() connection {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current
}
