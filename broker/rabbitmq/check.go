package rabbitmq

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	lib "github.com/rabbitmq/amqp091-go"
)

// Report is what Check has seen of a server.
type Report struct {
	Product, Version string
	Encrypted        bool
	Full             string        // why it takes nothing now
	RoundTrip        time.Duration // from a message to its confirmation, in the best of some tries; 0: none was confirmed
	Refused          []string      // what a node does and this user may not, with the server's words
}

// Unauthorized tells whether an error of Check says that the user or the password is wrong.
func Unauthorized(err error) bool {
	var reply *lib.Error
	return errors.As(err, &reply) && reply.Code == lib.AccessRefused && !Elsewhere(err)
}

// Elsewhere tells whether an error of Check says that the user may not come into the virtual host, or
// that there is none of its name.
func Elsewhere(err error) bool {
	var reply *lib.Error
	return errors.As(err, &reply) && (reply.Code == lib.NotAllowed || reply.Reason == lib.ErrVhost.Reason)
}

const (
	// confirms is how many messages are published one after the other: the first ones find a
	// quorum queue that is not settled yet.
	confirms = 5
	// trialExpires is when the server deletes the queue of a check whose process has died,
	// in milliseconds.
	trialExpires = 60_000
)

// fullError is what a server says that takes nothing.
type fullError struct{ why string }

// Error gives the server's words.
func (e *fullError) Error() string { return e.why }

// trial is what Check asks of a server: things of its own, whose names begin as those of nodes
// do, so that the same permissions count, and which no node hears of. Each step has a
// channel of its own, since a refusal ends it. Its implementations are the real one and, in
// tests, one in memory. A fullError ends it.
type trial interface {
	// lane makes a quorum queue as nodes do, that goes by itself if nobody deletes it; drop deletes it.
	lane(ctx context.Context, name string) error
	drop(ctx context.Context, name string) error
	// publish sends a message to a queue and waits until it is confirmed.
	publish(ctx context.Context, queue string) error
	// take waits for a message of a queue.
	take(ctx context.Context, queue string) error
	// events makes an exchange, and a queue at it, as nodes do, which go with the connection, and
	// sends a message through both.
	events(ctx context.Context, exchange string) error
}

// Check connects to the first server of a URL that answers, and tries what a node needs of it, until
// ctx ends. It uses a queue and an exchange of its own and deletes them, and does not disturb running
// nodes.
func Check(ctx context.Context, url string) (Report, error) {
	servers, err := parseURL(url)
	if err != nil {
		return Report{}, err
	}
	return servers.check(ctx, defaultPrefix)
}

// check is Check with a prefix for all names.
func (w endpoint) check(ctx context.Context, prefix string) (Report, error) {
	t, err := w.try(ctx)
	if err != nil {
		return Report{}, err
	}
	defer t.end()
	own := rand.Text()
	r := Report{Encrypted: w.tls != nil}
	r.Product, r.Version = t.about()
	err = r.examine(ctx, t, prefix+".ids.doctor."+own, prefix+".events.doctor."+own)
	if r.Full != "" { // this connection is not read from any more, and the queue expires otherwise
		if other, err := w.try(ctx); err == nil {
			_ = other.drop(ctx, prefix+".ids.doctor."+own)
			other.end()
		}
	}
	return r, err
}

// examine goes through the steps. An error says that the server has gone, or did not answer in time.
func (r *Report) examine(ctx context.Context, t trial, queue, exchange string) error {
	made := false
	for _, step := range []struct {
		what         string
		makes, wants bool // the queue
		do           func() error
	}{
		{"declare a queue (configure " + queue + ")", true, false, func() error { return t.lane(ctx, queue) }},
		{"publish to a queue (write amq.default)", false, true, func() error { return r.measure(ctx, t, queue) }},
		{"consume from a queue (read " + queue + ")", false, true, func() error { return t.take(ctx, queue) }},
		{"delete a queue (configure " + queue + ")", false, true, func() error { return t.drop(ctx, queue) }},
		{"send events (configure, write and read " + exchange + " and amq.gen-…)", false, false, func() error { return t.events(ctx, exchange) }},
	} {
		if step.wants && !made {
			continue
		}
		err := step.do()
		var reply *lib.Error
		var full *fullError
		switch {
		case err == nil:
			made = made || step.makes
		case errors.As(err, &full):
			r.Full = full.why
			return nil
		case errors.As(err, &reply) && reply.Server && reply.Code != lib.ConnectionForced:
			r.Refused = append(r.Refused, fmt.Sprintf("%s: %s", step.what, reply.Reason))
		default:
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

// measure publishes until it knows how long a confirmation takes.
func (r *Report) measure(ctx context.Context, t trial, queue string) error {
	for range confirms {
		began := time.Now()
		if err := t.publish(ctx, queue); err != nil {
			return err
		}
		if took := time.Since(began); r.RoundTrip == 0 || took < r.RoundTrip {
			r.RoundTrip = took
		}
	}
	return nil
}
