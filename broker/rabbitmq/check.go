package rabbitmq

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	lib "github.com/rabbitmq/amqp091-go"
)

// Report is the result of Check.
type Report struct {
	Product, Version string
	Encrypted        bool          // the connection uses TLS
	Full             string        // why the server accepts no messages; "": it accepts them
	RoundTrip        time.Duration // shortest time from a message to its confirm; 0: none was confirmed
	Refused          []string      // operations that a node needs and the user may not do, with the server's reply
}

// Unauthorized reports whether an error of Check means a wrong user or password.
func Unauthorized(err error) bool {
	var reply *lib.Error
	return errors.As(err, &reply) && reply.Code == lib.AccessRefused && !WrongVHost(err)
}

// WrongVHost reports whether an error of Check means that the virtual host does not exist or the user may
// not use it.
func WrongVHost(err error) bool {
	var reply *lib.Error
	return errors.As(err, &reply) && (reply.Code == lib.NotAllowed || reply.Reason == lib.ErrVhost.Reason)
}

const (
	// confirms is the number of messages that are published one after another. The first ones are
	// slow, since a new quorum queue is still electing its leader.
	confirms = 5
	// probeExpires is the time after which the server deletes the queue of a dead check, in
	// milliseconds.
	probeExpires = 60_000
)

// fullError is the error of a server that accepts no messages.
type fullError struct{ why string }

// Error returns the server's reason.
func (e *fullError) Error() string { return e.why }

// probe has the steps of Check. They use a queue and an exchange of their own. The names have the
// prefix of nodes, so that the same permissions apply, but no node knows them. Each step has a
// channel of its own, since a refusal ends the channel. The real probe is amqpProbe; tests have one
// in memory. A fullError ends the check.
type probe interface {
	// lane declares a quorum queue like those of nodes, but one that expires; drop deletes it.
	lane(ctx context.Context, name string) error
	drop(ctx context.Context, name string) error
	// publish sends a message to a queue and waits until it is confirmed.
	publish(ctx context.Context, queue string) error
	// take waits for a message from a queue.
	take(ctx context.Context, queue string) error
	// events declares a temporary exchange and queue like those of nodes, and sends a message
	// through both.
	events(ctx context.Context, exchange string) error
}

// Check connects to the first server of a URL that answers, and tries every operation that a node
// needs, until ctx ends. It uses a queue and an exchange of its own and deletes them. It does not
// disturb running nodes.
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
	if r.Full != "" { // the server no longer reads from this connection, so delete the queue on another one
		if other, err := w.try(ctx); err == nil {
			_ = other.drop(ctx, prefix+".ids.doctor."+own)
			other.end()
		}
	}
	return r, err
}

// examine runs the steps. An error means that the server is gone or does not answer in time.
func (r *Report) examine(ctx context.Context, t probe, queue, exchange string) error {
	made := false
	for _, step := range []struct {
		what         string
		makes, wants bool // whether the step makes or needs the queue
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

// measure sets RoundTrip.
func (r *Report) measure(ctx context.Context, t probe, queue string) error {
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
