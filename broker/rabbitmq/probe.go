package rabbitmq

import (
	"context"
	"errors"
	"sync"

	lib "github.com/rabbitmq/amqp091-go"
)

// amqpProbe is a probe of a real server.
type amqpProbe struct {
	*amqpConnection
	unbind func() bool // stops the context from closing the connection
}

// try connects to a server. The connection closes when ctx ends, which ends every call on it.
func (w endpoint) try(ctx context.Context) (*amqpProbe, error) {
	s, err := w.reach(ctx)
	if err != nil {
		return nil, err
	}
	return &amqpProbe{s, context.AfterFunc(ctx, func() { s.raw.Close() })}, nil
}

func (a *amqpProbe) end() {
	a.unbind()
	a.Close()
}

func (a *amqpProbe) about() (product, version string) {
	product, _ = a.conn.Properties["product"].(string)
	version, _ = a.conn.Properties["version"].(string)
	return product, version
}

// on runs a step. A server that is out of space reports this after the first message, and then no longer
// reads from the connection.
func (a *amqpProbe) on(ctx context.Context, do func(ctx context.Context, c *amqpChannel) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case why := <-a.Blocked():
			if why != "" {
				cancel(&fullError{why})
				a.raw.Close()
			}
		case <-ctx.Done():
		}
	})
	err := a.onChannel(ctx, do)
	cancel(nil)
	watch.Wait()
	var full *fullError
	if errors.As(context.Cause(ctx), &full) {
		return full
	}
	return err
}

// onChannel runs a step on a new channel. It returns the server's error if that ended the channel, since
// the library's own error may not contain it.
func (a *amqpProbe) onChannel(ctx context.Context, do func(ctx context.Context, c *amqpChannel) error) error {
	ch, err := a.conn.Channel()
	if err != nil {
		return err
	}
	refused := ch.NotifyClose(make(chan *lib.Error, 1))
	c := newAMQPChannel(a.conn, ch, confirms)
	defer c.Close()
	err = do(ctx, c)
	var reply *lib.Error
	if err == nil || errors.As(err, &reply) && reply.Server {
		return err
	}
	select {
	case why := <-refused:
		if why != nil {
			return why
		}
	default:
	}
	return err
}

func (a *amqpProbe) lane(ctx context.Context, name string) error {
	return a.on(ctx, func(_ context.Context, c *amqpChannel) error {
		_, err := c.ch.QueueDeclare(name, true, false, false, false, lib.Table{
			"x-queue-type": "quorum", "x-delivery-limit": deliveryLimit, "x-consumer-timeout": consumerTimeout,
			"x-max-length-bytes": 1 << 16, "x-overflow": "reject-publish", "x-expires": probeExpires,
		})
		return err
	})
}

func (a *amqpProbe) drop(ctx context.Context, name string) error {
	return a.on(ctx, func(_ context.Context, c *amqpChannel) error { return c.DeleteLane(name) })
}

func (a *amqpProbe) publish(ctx context.Context, queue string) error {
	return a.on(ctx, func(ctx context.Context, c *amqpChannel) error {
		confirm, err := c.Publish(message{Key: queue, Body: []byte("doctor"), Durable: true})
		if err != nil {
			return err
		}
		taken, err := confirm(ctx)
		if err == nil && !taken {
			err = errors.New("the server refused the message")
		}
		return err
	})
}

func (a *amqpProbe) take(ctx context.Context, queue string) error {
	return a.on(ctx, func(ctx context.Context, c *amqpChannel) error {
		deliveries, err := c.Consume(queue, 1)
		if err != nil {
			return err
		}
		return first(ctx, deliveries)
	})
}

func (a *amqpProbe) events(ctx context.Context, exchange string) error {
	return a.on(ctx, func(ctx context.Context, c *amqpChannel) error {
		// Unlike the exchange of nodes, this one is deleted with its last queue.
		if err := c.ch.ExchangeDeclare(exchange, lib.ExchangeFanout, false, true, false, false, nil); err != nil {
			return err
		}
		q, err := c.ch.QueueDeclare("", false, true, true, false, lib.Table{"x-queue-type": "classic", "x-max-length": 1})
		if err == nil {
			err = c.ch.QueueBind(q.Name, "", exchange, false, nil)
		}
		if err != nil {
			return err
		}
		deliveries, err := c.Consume(q.Name, 0)
		if err != nil {
			return err
		}
		if _, err := c.Publish(message{Exchange: exchange, Body: []byte("doctor")}); err != nil {
			return err
		}
		return first(ctx, deliveries)
	})
}

// first waits for one delivery. It reads and drops later ones until the channel ends.
func first(ctx context.Context, deliveries <-chan delivery) error {
	select {
	case _, open := <-deliveries:
		if !open {
			return errors.New("the channel ended")
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	go func() { // ends with the channel
		for range deliveries {
			continue
		}
	}()
	return nil
}
