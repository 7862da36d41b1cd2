// Package amqp is a connection to a RabbitMQ as the driver wants it: narrow enough that one in
// memory can stand in for it. It bounds what the library does not: each write has its time.
package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	lib "github.com/rabbitmq/amqp091-go"
)

// dialer opens a connection; ctx bounds the dialling only.
type dialer func(ctx context.Context) (connection, error)

// connection is what the driver wants of a connection to a server. Its implementations are
// the real one and, in tests, one in memory. It is safe for concurrent use.
type connection interface {
	// channel begins a conversation, which ends with the connection at the latest.
	Channel() (channel, error)
	// Closed gives, once, why the connection has gone.
	Closed() <-chan error
	// Blocked tells why the server takes nothing now; "" says that it does again.
	Blocked() <-chan string
	// Close takes a second at most.
	Close()
}

// channel is one conversation on a connection. An error ends it.
type channel interface {
	publishing
	consuming
	declaring
	// Ended returns why the server has ended the channel, in its own words; nil: it has not.
	Ended() error
	// Close gives what is not settled to others.
	Close()
}

// publishing is done by one goroutine.
type publishing interface {
	// Publish sends a message, in five seconds at most. Of one that is durable and that no queue
	// got, Returned gives the number, and the confirmation says yes.
	Publish(m message) (confirmation, error)
	// Returned gives the numbers of what came back since it was called last. After a message
	// is confirmed, its return is there.
	Returned() []uint64
}

// consuming may be done by several goroutines.
type consuming interface {
	// Consume has messages of a queue come, of which so many may be unsettled; 0: each is
	// settled as it comes. The channel of deliveries is closed with the conversation or when the
	// server cancels the consumer, since its queue has gone, and must be read until then.
	Consume(queue string, unsettled int) (<-chan delivery, error)
	// Ack settles a message.
	Ack(tag uint64) error
}

// declaring makes what is not there yet. Its errors have the server's words.
type declaring interface {
	// DeclareLane makes a durable queue that holds about so many bytes, and refuses more. It is
	// asked for on a channel of its own, so that a refusal ends nothing else.
	DeclareLane(queue string, bytes int) error
	// DeleteLane deletes a queue with what is in it, if it is there.
	DeleteLane(queue string) error
	// DeclareEvents makes an exchange that gives each message to all, and a queue at it that
	// lives as long as the connection and keeps so many messages, and gives its name.
	DeclareEvents(exchange string, messages int) (queue string, err error)
	// DeclareExchange makes the exchange alone.
	DeclareExchange(exchange string) error
	// CheckEvents fails if the exchange or the queue at it is not there any more, and binds the
	// two again if that has gone.
	CheckEvents(exchange, queue string) error
}

// message is what is published.
type message struct {
	Exchange, Key string // "": the queue Key
	Kind          string
	Body          []byte
	Durable       bool   // kept by a server that restarts; comes back when there is no queue, and is confirmed
	Number        uint64 // by which it is known if it comes back
}

// confirmation waits until the server has a message, or refuses it.
type confirmation func(ctx context.Context) (bool, error)

// delivery is what comes.
type delivery struct {
	Tag  uint64
	Kind string
	Body []byte
}

const (
	dialTimeout = 5 * time.Second
	// writeTimeout bounds one write, since a server that has no room does not read, and the
	// library waits for it without regard to contexts.
	writeTimeout = 5 * time.Second
	heartbeat    = 10 * time.Second
	// farewell bounds the closing of a connection.
	farewell = time.Second
	// deliveryLimit is how often a message may be given back before the server drops it.
	deliveryLimit = 100
	// consumerTimeout is how long a message may be unsettled, in milliseconds. Takers give
	// back long before.
	consumerTimeout = 30 * 60 * 1000
	// returnsRoom is more than the messages that are published before somebody looks.
	returnsRoom = 4_096
)

// server is a connection to a RabbitMQ.
type amqpConnection struct {
	conn *lib.Connection
	raw  net.Conn // beneath it
	gone chan error
	full chan string
}

// Dial tries the servers in turn.
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
			return &patient{conn}, conn.SetDeadline(deadline)
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

// watch hands on what the library tells of the connection until it has gone.
func (s *amqpConnection) watch(closed chan *lib.Error, blocked chan lib.Blocking) {
	for {
		select {
		case err, told := <-closed:
			if !told || err == nil {
				s.gone <- errors.New("it was closed")
			} else {
				s.gone <- err
			}
			return
		case b, told := <-blocked:
			if !told {
				blocked = nil
				continue
			}
			why := ""
			if b.Active {
				why = "it has no room: " + b.Reason
			}
			select {
			case <-s.full: // only the newest matters
			default:
			}
			s.full <- why
		}
	}
}

// patient is a connection that waits for no reader for longer than writeTimeout.
type patient struct{ net.Conn }

// Write writes within the time.
func (p *patient) Write(b []byte) (int, error) {
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
func (s *amqpConnection) Close() { _ = s.conn.CloseDeadline(time.Now().Add(farewell)) }

// channel implements connection.
func (s *amqpConnection) Channel() (channel, error) {
	ch, err := s.conn.Channel()
	if err != nil {
		return nil, err
	}
	return newAMQPChannel(s.conn, ch, returnsRoom), nil
}

// isMismatch reports whether an error says that a queue is there with other arguments than ours, or is
// another connection's alone.
func isMismatch(err error) bool {
	var reply *lib.Error
	return errors.As(err, &reply) && reply.Code == lib.PreconditionFailed
}
