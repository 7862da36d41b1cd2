package rabbitmq

import (
	"context"

	"github.com/posta-tasks/posta/broker/rabbitmq/amqp"
)

// Report is what Check has seen of a server.
type Report = amqp.Report

// Check asks the server that a URL names for what a node needs of it, with a queue and an exchange of its
// own, which are gone afterwards, and tells what it sees, until ctx ends.
func Check(ctx context.Context, url string) (Report, error) {
	where, err := amqp.ParseURL(url)
	if err != nil {
		return Report{}, err
	}
	return where.Check(ctx, defaultPrefix)
}

// Unauthorized tells whether an error of Check says that the user or the password is wrong.
func Unauthorized(err error) bool { return amqp.Unauthorized(err) }

// Elsewhere tells whether an error of Check is about the virtual host.
func Elsewhere(err error) bool { return amqp.Elsewhere(err) }
