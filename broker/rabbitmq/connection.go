package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	lib "github.com/rabbitmq/amqp091-go"
)

// dialer opens a connection. ctx limits only the dial.
type dialer func(ctx context.Context) (connection, error)

// connection has the methods of a connection that the driver needs. The real one is
// amqpConnection; tests have one in memory. It is safe for concurrent use.
type connection interface {
	// Channel opens a channel, which ends with the connection at the latest.
	Channel() (channel, error)
	// Closed receives once, when the connection has ended: the reason.
	Closed() <-chan error
	// Blocked receives the reason why the server accepts no messages; "" means that it accepts
	// them again.
	Blocked() <-chan string
	// Close closes the connection. It takes at most a second.
	Close()
}

// channel is a channel on a connection. An error ends it.
type channel interface {
	publishing
	consuming
	declaring
	// Ended returns the server's error if the server has ended the channel, or nil.
	Ended() error
	// Close closes the channel. The server gives unacknowledged messages to others.
	Close()
}

// publishing may be used by one goroutine.
type publishing interface {
	// Publish sends a message. It takes at most five seconds. A durable message that reached no
	// queue is confirmed all the same, and Returned returns its number.
	Publish(m message) (confirmation, error)
	// Returned returns the numbers of the messages that the server returned since the last
	// call. A message is returned before its confirm.
	Returned() []uint64
}

// consuming is safe for concurrent use.
type consuming interface {
	// Consume consumes from a queue. At most prefetch messages may be unacknowledged; with 0
	// the server does not wait for acknowledgements. The returned channel is closed when this
	// channel ends, or when the server cancels the consumer because the queue is gone. The
	// caller must read it until then.
	Consume(queue string, prefetch int) (<-chan delivery, error)
	// Ack acknowledges a message.
	Ack(tag uint64) error
}

// declaring declares queues and exchanges. Its errors contain the server's reply.
type declaring interface {
	// DeclareLane declares a durable queue that holds about this many bytes and refuses more.
	// It uses a channel of its own, so that a refusal does not end this one.
	DeclareLane(queue string, bytes int) error
	// DeleteLane deletes a queue with its messages, if it exists.
	DeleteLane(queue string) error
	// InspectLane returns the numbers of messages that wait in a queue and of its consumers. A queue
	// that does not exist is an error, for which isMissing returns true. Like DeclareLane, it uses a
	// channel of its own.
	InspectLane(queue string) (messages, consumers int, err error)
	// DeclareEvents declares a fanout exchange and a queue bound to it, which lives as long as
	// the connection and keeps at most this many messages. It returns the queue's name.
	DeclareEvents(exchange string, messages int) (queue string, err error)
	// DeclareExchange declares only the exchange.
	DeclareExchange(exchange string) error
	// CheckEvents fails if the exchange or the queue no longer exists. It restores a missing
	// binding.
	CheckEvents(exchange, queue string) error
}

// message is a message to publish.
type message struct {
	Exchange, Key string // with Exchange "", Key is the name of a queue
	Kind          string
	Body          []byte
	Durable       bool   // survives a restart of the server, is confirmed, and is returned if there is no queue
	Number        uint64 // identifies the message if it is returned
}

// confirmation waits until the server has accepted or refused a message.
type confirmation func(ctx context.Context) (bool, error)

// delivery is a message that has arrived.
type delivery struct {
	Tag  uint64
	Kind string
	Body []byte
}

const (
	dialTimeout = 5 * time.Second
	// writeTimeout limits one write. A server that is out of memory or disk space does not
	// read, and the library's writes ignore contexts.
	writeTimeout = 5 * time.Second
	heartbeat    = 10 * time.Second
	// closeTimeout limits the closing of a connection.
	closeTimeout = time.Second
	// deliveryLimit is how many times a message may be requeued before the server drops it.
	deliveryLimit = 100
	// consumerTimeout is how long a message may be unacknowledged, in milliseconds. Takers
	// return messages long before.
	consumerTimeout = 30 * 60 * 1000
	// maxReturns is more than the number of messages that are published before a call of
	// Returned.
	maxReturns = 4_096
)

// amqpConnection is a connection to a RabbitMQ.
type amqpConnection struct {
	conn *lib.Connection
	raw  net.Conn // its network connection
	gone chan error
	full chan string
}

// dial tries the servers in turn.
func (w endpoint) dial(ctx context.Context) (connection, error) {
	s, err := w.reach(ctx)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (w endpoint) reach(ctx context.Context) (*amqpConnection, error) {
	var errs []error
	for _, addr := range w.shuffled() {
		conn, err := w.dialOne(ctx, addr)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", addr, err))
	}
	return nil, errors.Join(errs...)
}

func (w endpoint) dialOne(ctx context.Context, addr string) (*amqpConnection, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var raw net.Conn
	config := lib.Config{
		SASL:      []lib.Authentication{&lib.PlainAuth{Username: w.user, Password: w.password}},
		Vhost:     w.vhost,
		Heartbeat: heartbeat,
		Dial: func(network, addr string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			raw = conn
			deadline, _ := ctx.Deadline()
			return &timedConn{conn}, conn.SetDeadline(deadline)
		},
		Properties: lib.Table{"connection_name": "posta"},
	}
	scheme := "amqp"
	if w.tls != nil {
		scheme = "amqps"
		own := w.tls.Clone()
		own.ServerName, _, _ = net.SplitHostPort(addr)
		config.TLSClientConfig = own
	}
	conn, err := lib.DialConfig(scheme+"://"+addr, config)
	if err != nil {
		return nil, err
	}
	s := &amqpConnection{conn: conn, raw: raw, gone: make(chan error, 1), full: make(chan string, 1)}
	closed, blocked := conn.NotifyClose(make(chan *lib.Error, 1)), conn.NotifyBlocked(make(chan lib.Blocking, 1))
	go s.watch(closed, blocked) // it ends with the connection
	return s, nil
}

// watch forwards the library's notifications until the connection ends.
func (s *amqpConnection) watch(closed chan *lib.Error, blocked chan lib.Blocking) {
	for {
		select {
		case err, open := <-closed:
			if !open || err == nil {
				s.gone <- errors.New("the connection was closed")
			} else {
				s.gone <- err
			}
			return
		case b, open := <-blocked:
			if !open {
				blocked = nil
				continue
			}
			why := ""
			if b.Active {
				why = "it is out of space: " + b.Reason
			}
			select {
			case <-s.full: // keep only the latest
			default:
			}
			s.full <- why
		}
	}
}

// timedConn limits each write to writeTimeout.
type timedConn struct{ net.Conn }

// Write writes with a deadline.
func (p *timedConn) Write(b []byte) (int, error) {
	if err := p.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return p.Conn.Write(b)
}

// Closed implements connection.
func (s *amqpConnection) Closed() <-chan error { return s.gone }

// Blocked implements connection.
func (s *amqpConnection) Blocked() <-chan string { return s.full }

// Close implements connection.
func (s *amqpConnection) Close() { _ = s.conn.CloseDeadline(time.Now().Add(closeTimeout)) }

// Channel implements connection.
func (s *amqpConnection) Channel() (channel, error) {
	ch, err := s.conn.Channel()
	if err != nil {
		return nil, err
	}
	return newAMQPChannel(s.conn, ch, maxReturns), nil
}

// isMismatch reports whether an error means that a queue exists with other arguments, or is exclusive to
// another connection.
func isMismatch(err error) bool {
	var reply *lib.Error
	return errors.As(err, &reply) && reply.Code == lib.PreconditionFailed
}

// isMissing reports whether an error means that a queue does not exist.
func isMissing(err error) bool {
	var reply *lib.Error
	return errors.As(err, &reply) && reply.Code == lib.NotFound
}
